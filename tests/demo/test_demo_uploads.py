"""The limits of uploads, in one request and altogether."""

import asyncio
import time
from typing import Any

import pytest

from multihead_hf.demo.demo_uploads import UploadLimit


def answers(
    limit: UploadLimit, *sizes: int | None, path: str = "/gradio_api/upload", method: str = "POST"
) -> list[int]:
    """The status of one request of each size (without a length for `None`)."""
    found: list[int] = []

    async def send(message: Any) -> None:
        found.extend([message["status"]] if "status" in message else [])

    async def receive() -> Any:
        raise AssertionError("what is refused is not read")

    async def ask() -> None:
        for size in sizes:
            headers = [] if size is None else [(b"content-length", str(size).encode())]
            await limit({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)

    asyncio.run(ask())
    return found


async def taken(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def test_each_request_and_all_of_them_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = UploadLimit(taken, max_file=1_000_000, max_kept=2_500_000, seconds=60)
    assert answers(limit, 1_000_000, 1_200_000, None, 1_000_000, 1_000_000, 400_000) == [200, 413, 411, 200, 429, 200]
    assert answers(limit, 200_000) == [429]
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + 120)  # they have been deleted
    assert answers(limit, 200_000) == [200]


def test_other_requests_have_none() -> None:
    limit = UploadLimit(taken, max_file=1, max_kept=1, seconds=60)
    assert answers(limit, 10**9, path="/gradio_api/queue/join") == [200]
    assert answers(limit, None, method="GET") == [200]

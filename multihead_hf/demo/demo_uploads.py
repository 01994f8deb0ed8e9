"""Limits on uploads to the demo page, per request and in total.

This file is copied into Spaces: the standard library only.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_OVERHEAD = 65_536  # bytes of a request besides the file
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]


class UploadLimit:
    """ASGI middleware that refuses uploads beyond a limit before they are read.

    Gradio limits the size of each file of a request, but not the number of files.

    Args:
        app: the application to protect.
        max_file: maximum size of a file, and so of a request, in bytes.
        max_kept: maximum size of all uploads that may still be on the disk, in bytes.
        seconds: seconds after which an upload has been deleted.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], max_file: int, max_kept: int, seconds: float) -> None:
        self._app = app
        self._max_request, self._max_kept, self._seconds = max_file + _OVERHEAD, max_kept, seconds
        self._kept: deque[tuple[float, int]] = deque()

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Pass a request on, or answer it with 411, 413 or 429."""
        is_upload = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith("/upload")
        refusal = self._refusal(dict(scope["headers"]).get(b"content-length")) if is_upload else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, sentence = refusal
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": sentence.encode()})

    def _refusal(self, length: bytes | None) -> tuple[int, str] | None:
        """Return status and message of a refusal; record an accepted upload and return `None`."""
        if length is None or not length.isdigit():
            return 411, "The request must give the length of the upload (Content-Length)"
        size, now = int(length), time.monotonic()
        if size > self._max_request:
            return 413, "The upload is larger than the maximum allowed size: upload one file, and split a large one"
        while self._kept and self._kept[0][0] < now - self._seconds:
            self._kept.popleft()
        if sum(kept for _, kept in self._kept) + size > self._max_kept:
            return 429, "Too many files were uploaded lately: try again in an hour"
        self._kept.append((now, size))
        return None

"""Which processors multiply bfloat16 faster than float32."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from multihead_hf.utils import hardware


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    hardware._needs_amx.cache_clear()
    yield
    hardware._needs_amx.cache_clear()


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "cpu_info", "expected"),
    [
        (True, True, "vendor_id : GenuineIntel\nflags : fpu avx512_bf16 avx512_fp16 amx_bf16", True),
        (False, True, "vendor_id : GenuineIntel\nflags : fpu avx512_bf16 avx512_fp16", False),  # AMX is hidden
        (False, True, "vendor_id : GenuineIntel\nflags : fpu avx512_bf16", True),  # Cooper Lake
        (False, True, "vendor_id : AuthenticAMD\nflags : fpu avx512_bf16 avx512_fp16", True),
        (False, True, None, True),  # not Linux
        (False, False, "vendor_id : AuthenticAMD\nflags : fpu avx2", False),
    ],
)
def test_bf16_on_processors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, amx: bool, avx512_bf16: bool, cpu_info: str | None, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    path = tmp_path / "cpuinfo"
    if cpu_info is not None:
        path.write_text(f"processor : 0\n{cpu_info}\n\nprocessor : 1\n")
    monkeypatch.setattr(hardware, "_CPU_INFO", path)
    assert hardware.is_faster_in_bf16(on_cpu=True) is expected

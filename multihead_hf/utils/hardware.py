"""Data types that the hardware supports."""

import os
from functools import cache
from pathlib import Path

import torch
from accelerate import PartialState
from transformers.utils import is_torch_bf16_gpu_available

_CPU_INFO = Path("/proc/cpuinfo")


def processes(on_cpu: bool = False) -> PartialState:
    """Return the processes that share the work.

    On CPUs accelerate takes each process of a launcher for the only one, if it is not told to use the CPU.

    Args:
        on_cpu: Whether to use the CPU, also if there is an accelerator.
    """
    is_one_of_several = int(os.environ.get("WORLD_SIZE") or 1) > 1
    return PartialState(cpu=is_one_of_several and (on_cpu or not torch.accelerator.is_available()))


def is_faster_in_bf16(on_cpu: bool) -> bool:
    """Return whether the processor (or else the accelerator) multiplies bfloat16 faster than float32.

    Intel processors since Sapphire Rapids do so with AMX only, which many virtual machines hide: their AVX-512
    instructions for bfloat16 are half as fast as those for float32 (benchmarks/README.md).
    """
    if not on_cpu:
        return is_torch_bf16_gpu_available()
    if torch.cpu._is_amx_tile_supported():
        return True
    return torch.cpu._is_avx512_bf16_supported() and not _needs_amx()


@cache
def _needs_amx() -> bool:
    """Return whether this is an Intel processor of Sapphire Rapids or later, as far as the system says (Linux)."""
    if not _CPU_INFO.is_file():
        return False
    first = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    return "GenuineIntel" in first and "avx512_fp16" in first.split()

"""Data types that the hardware supports."""

import torch
from transformers.utils import is_torch_bf16_gpu_available


def computes_in_bf16(on_cpu: bool) -> bool:
    """Return whether the processor (or else the accelerator) has instructions for bfloat16 products."""
    if on_cpu:
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return is_torch_bf16_gpu_available()

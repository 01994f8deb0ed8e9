"""What tells one model from another."""

import hashlib
import json
from typing import Any

import torch
from torch import nn


def module_digest(module: nn.Module, about: Any) -> str:
    """Of a module's weights and buffers, bit by bit, and of what else is said `about` it (plain values)."""
    found = hashlib.blake2b(digest_size=16)
    found.update(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted({**dict(module.named_buffers()), **module.state_dict()}.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()

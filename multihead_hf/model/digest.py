"""What tells one model from another."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from .surgery_multihead import ABOUT_FILES


def plain_config(config: PreTrainedConfig) -> dict[str, Any]:
    """A configuration without what says nothing of the model: where it came from, and what wrote it."""
    return {name: value for name, value in config.to_dict().items() if name not in ABOUT_FILES}


def module_digest(module: nn.Module, about: Any) -> str:
    """Of a module's weights and buffers, bit by bit, and of what else is said `about` it (plain values)."""
    found = hashlib.blake2b(digest_size=16)
    found.update(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted({**dict(module.named_buffers()), **module.state_dict()}.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def files_digest(paths: Iterable[Path], about: Any) -> str:
    """Of the content of files, and of what else is said `about` them (plain values)."""
    found = hashlib.blake2b(digest_size=16)
    found.update(json.dumps(about, sort_keys=True, default=str).encode())
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()

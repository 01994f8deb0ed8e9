"""Digests of models and files."""

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
    """Return a configuration without its source and the version of the program that wrote it."""
    return {name: value for name, value in config.to_dict().items() if name not in ABOUT_FILES}


def value_digest(value: object) -> str:
    """Return a short digest of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def module_digest(module: nn.Module, about: object) -> str:
    """Return a digest of the exact bits of a module's weights and buffers, and of the plain values in `about`."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted({**dict(module.named_buffers()), **module.state_dict()}.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def files_digest(paths: Iterable[Path], about: object) -> str:
    """Return a digest of the content of files, and of the plain values in `about`."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()

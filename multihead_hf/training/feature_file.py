"""The file of a feature cache: safetensors, written as it comes instead of from memory."""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

CHECKSUM = "checksum"
_DTYPE_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def file_header(
    shape: tuple[int, int], dtype: torch.dtype, metadata: Mapping[str, str], length: int = 0, room: int = 0
) -> bytes:
    """The start of a safetensors file with one tensor, filled up with spaces to `length` bytes, or by `room`."""
    size = shape[0] * shape[1] * dtype.itemsize
    tensor = {"dtype": _DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": dict(metadata), "features": tensor}).encode()
    length = length or -(-(8 + len(text) + room) // 8) * 8
    return struct.pack("<Q", length - 8) + text.ljust(length - 8)


def open_features(path: Path) -> Tensor:
    """(texts, hidden), memory-mapped."""
    with safe_open(path, framework="pt") as file:
        return file.get_tensor("features")


def metadata_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def checksum_of(path: Path) -> str:
    """Of all bytes after the header."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(8 + length)
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def find_problem(path: Path, made_by: Mapping[str, str], shape: tuple[int, int]) -> str | None:
    """Why the file cannot be used; `None` if it can."""
    if not path.exists():
        return "there is none"
    try:
        metadata, found = metadata_of(path), tuple(open_features(path).shape)
    except (SafetensorError, OSError) as error:
        return f"it cannot be read ({error})"
    other = [name for name, value in made_by.items() if metadata.get(name) != value]
    if other:
        return f"it was made with another {' and '.join(other)}"
    if found != shape:
        return f"it has the shape {found}, not {shape}"
    return None if metadata.get(CHECKSUM) == checksum_of(path) else "it is damaged (its checksum is another)"

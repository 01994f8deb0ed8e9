"""The library's folder in the Hugging Face cache."""

import hashlib
import os
from pathlib import Path

from huggingface_hub import constants


def cache_path(kind: str, name: str) -> Path:
    """Return the path of a cached file or folder.

    Args:
        kind: Kind of content, a subfolder.
        name: Name within the subfolder.
    """
    return Path(constants.HF_HOME, "multihead_hf", kind, name)


def name_for(path: str | os.PathLike) -> str:
    """Return a name that stands for a path; the same for each way to write the path, links included."""
    return hashlib.sha256(os.path.realpath(path).encode()).hexdigest()[:24]

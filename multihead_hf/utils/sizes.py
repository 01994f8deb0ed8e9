"""Size checks of a saved model before it is created."""

import contextlib
import json
import math
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file


@contextlib.contextmanager
def no_larger_than_its_file(name_or_path: str | os.PathLike, **hub: Any) -> Iterator[None]:
    """Context manager: limit the parameters of a created model to a few times those in its weight file.

    A configuration may ask for more than fits into memory.

    Raises:
        ValueError: If the configuration asks for more parameters.
    """
    files = _weight_files(name_or_path, **hub)
    saved = [math.prod(shape) for path in files for shape in _shapes(path)]
    # parameters that are not in the file: tied weights, an unused pooler, and, while the model is created, the decoder
    # of BART and others, which has more weights than the encoder
    max_tensors, max_cells = 4 * len(saved) + 100, 4 * sum(saved) + 10_000_000
    tensors, cells, thread = 0, 0, threading.get_ident()

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal tensors, cells
        if parameter is None or threading.get_ident() != thread:
            return
        tensors, cells = tensors + 1, cells + parameter.numel()
        if tensors > max_tensors or cells > max_cells:
            raise ValueError(
                f"{name_or_path}: {CONFIG_NAME} asks for a model with more weights than the {len(saved):,} (of "
                f"{sum(saved):,} numbers) in its file: it belongs to another model, or was changed"
            )

    counting = register_module_parameter_registration_hook(count) if files else None
    try:
        yield
    finally:
        if counting is not None:
            counting.remove()


def _weight_files(name_or_path: str | os.PathLike, **hub: Any) -> list[str]:
    """Return the weight files of a saved model; an empty list without safetensors, which is reported elsewhere."""
    try:
        return [cached_file(name_or_path, SAFE_WEIGHTS_NAME, **hub)]
    except OSError:
        try:
            index = cached_file(name_or_path, SAFE_WEIGHTS_INDEX_NAME, **hub)
            names = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"].values()
            return [cached_file(name_or_path, name, **hub) for name in sorted(set(names))]
        except (OSError, ValueError, LookupError, AttributeError):
            return []


def _shapes(path: str) -> list[list[int]]:
    with safe_open(path, "pt") as file:
        return [file.get_slice(key).get_shape() for key in file.keys()]  # noqa: SIM118 (not a dict)

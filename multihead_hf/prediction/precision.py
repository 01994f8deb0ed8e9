"""In which precision a model predicts: measured, not assumed."""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..model.head_multihead import near_names

AUTO = "auto"
# autocast of each; the first is what others are compared with
PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

_GAIN = 1.1  # a lower precision has to be so many times as fast
_MOST_CHANGED = 0.01  # of the texts
_ROUNDS = 3


@dataclass
class PrecisionChoice:
    """Which precision was chosen, and why.

    Args:
        precision: the chosen one.
        rows_per_second: precision → texts per second on the measured batches, the best of three rounds.
        changed: precision → how many of the measured texts have other labels than with fp32, in any head.
        rows: how many texts were measured.
    """

    precision: str
    rows_per_second: dict[str, float]
    changed: dict[str, int]
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        measured = ", ".join(
            f"{name} {speed:,.0f} rows/s" + (f" ({self.changed[name]} with other labels)" if name != "fp32" else "")
            for name, speed in self.rows_per_second.items()
        )
        return f"precision {self.precision}, measured on {self.rows} texts: {measured}"


def check_precision(precision: str, device: torch.device) -> None:
    """
    Raises:
        ValueError: an unknown precision, or one that the device does not have.
    """
    known = [AUTO, *PRECISIONS]
    if precision not in known:
        raise ValueError(
            f"no precision is called {precision!r}.{near_names(precision, known)} Known: {', '.join(known)}"
        )
    if precision == "fp16" and device.type != "cuda":
        raise ValueError(f"fp16 is for CUDA, and this is {device.type}: bf16, or auto")


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """What a forward pass runs under; fp32 leaves everything as the weights are."""
    dtype = PRECISIONS[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def fastest(
    names: Sequence[str],
    batches: Sequence[list[dict[str, Any]]],
    run: Callable[[Sequence[list[dict[str, Any]]], str], Iterable[Mapping[str, Any]]],
    decode: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> PrecisionChoice:
    """The fastest precision that says nearly the same as the first one.

    Args:
        names: precisions to try, the exact one first.
        batches: rows to try them on.
        run: batches, precision → of each logits (rows, labels) by head.
        decode: logits by head → `HeadPrediction` by head.
    """
    seconds = dict.fromkeys(names, float("inf"))
    labels: dict[str, list[Any]] = {}
    for name in names:  # also warms up
        labels[name] = [decode(logits) for logits in run(batches, name)]
    for _ in range(_ROUNDS):  # in turns: the machine may be slower at one time than at another
        for name in names:
            begun = time.perf_counter()
            for _ in run(batches, name):
                pass
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
    rows = sum(map(len, batches))
    changed = {
        name: sum(_rows_changed(one, other) for one, other in zip(labels[names[0]], labels[name], strict=True))
        for name in names
    }
    allowed = [name for name in names if changed[name] <= _MOST_CHANGED * rows]
    best = min(allowed, key=lambda name: seconds[name])
    if seconds[names[0]] < _GAIN * seconds[best]:
        best = names[0]
    return PrecisionChoice(best, {name: rows / seconds[name] for name in names}, changed, rows)


def _rows_changed(one: Mapping[str, Any], other: Mapping[str, Any]) -> int:
    differs = [np.any(np.asarray(one[head].decisions != other[head].decisions), axis=1) for head in one]
    return int(np.any(differs, axis=0).sum())

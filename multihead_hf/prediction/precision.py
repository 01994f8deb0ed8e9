"""Precision of predictions, chosen by the hardware and by whether decisions stay the same."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..model.decoding_multihead import HeadPrediction, rows_not_finite
from ..model.head_multihead import HeadConfig, near_names
from ..utils.hardware import is_faster_in_bf16
from . import graph_openvino

Logits = dict[str, npt.NDArray[np.float32]]
AUTO = "auto"
EXACT, BF16, FP16, INT8 = "fp32", "bf16", "fp16", "int8"
# data types of PyTorch's autocast
DTYPES: dict[str, torch.dtype | None] = {EXACT: None, BF16: torch.bfloat16, FP16: torch.float16}
PRECISIONS = (AUTO, EXACT, BF16, FP16, INT8)
NEAR_TIE = 0.02
"""Decisions whose probability in float32 is so near to the threshold, or to that of another label, are near-ties."""


@dataclass
class PrecisionChoice:
    """The chosen precision, and the reason.

    Args:
        precision: the chosen precision.
        rows: number of texts that were predicted in float32 and in the lower precision; 0 where there was no choice.
        changed: number of these texts with other labels than in float32, in any head.
        near_ties: number of changed texts that differ in near-ties only: the probability in float32 is within 0.02 of
            the threshold, or of the other label's probability.
        difference: largest difference of a probability.
        reason: the reason in one sentence.
    """

    precision: str
    rows: int
    changed: int
    near_ties: int
    difference: float
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return the fields.

        Returns:
            A dict field → plain value.
        """
        return asdict(self)

    def __str__(self) -> str:
        return f"precision {self.precision}: {self.reason}"


def check_precision(precision: str, device: torch.device, backend: str, is_quantized: bool) -> None:
    """Check that a precision exists, and that device, backend and model have it.

    Args:
        precision: as it was given.
        device: that the predictor uses.
        backend: The backend that the user gave.
        is_quantized: Whether the model is a graph with 8-bit weights.

    Raises:
        ValueError: It is unknown or not supported; the message lists valid values.
    """
    if precision not in PRECISIONS:
        raise ValueError(
            f"Unknown precision {precision!r}.{near_names(precision, PRECISIONS)} Use one of: {', '.join(PRECISIONS)}"
        )
    if precision == FP16 and device.type != "cuda":
        raise ValueError(f"precision='fp16' needs CUDA, but the device is {device.type}: use bf16, or auto")
    if precision == BF16 and backend == "onnx":
        raise ValueError("precision='bf16': ONNX Runtime has no bfloat16 on a CPU: use backend='openvino', or fp32")
    if precision == BF16 and backend == "openvino":
        check_bf16_of_openvino()
    if precision == INT8 and not is_quantized:
        raise ValueError(
            "precision='int8' needs a graph that was quantized with your texts: multihead-hf export MODEL --format "
            "openvino --quantize int8 --calibration rows.csv -o FOLDER, and then predict with FOLDER"
        )


def check_bf16_of_openvino() -> None:
    """Check that OpenVINO computes in bfloat16 on this CPU.

    Raises:
        ValueError: It does not.
    """
    if not graph_openvino.has_bf16():
        raise ValueError(
            "precision='bf16': OpenVINO has no bfloat16 on this processor: use precision='auto', which takes it where "
            "it is faster, or fp32"
        )


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a forward pass in PyTorch; fp32 leaves everything as the weights are."""
    dtype = DTYPES[precision]
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def choice_for(
    device: torch.device,
    backend: str,
    quantize: str | None,
    heads: Mapping[str, HeadConfig],
    compute: Callable[[str], Sequence[Logits]],
    decode: Callable[[Logits], Mapping[str, HeadPrediction]],
) -> PrecisionChoice:
    """Choose the precision for `"auto"`: that of a quantized graph, else bf16 if it is faster and decides the same.

    Args:
        device: Device of the computation.
        backend: Runtime of the computation.
        quantize: Precision of a quantized graph, or `None`.
        heads: As for `compare`.
        compute: As for `compare`.
        decode: As for `compare`.
    """
    if quantize is not None:
        return PrecisionChoice(quantize, 0, 0, 0, 0.0, "the graph has quantized weights")
    lacks = backend == "onnx" or (backend == "openvino" and not graph_openvino.has_bf16())
    if lacks or not is_faster_in_bf16(device.type == "cpu"):
        name = "ONNX Runtime" if backend == "onnx" else f"this {device.type}"
        return PrecisionChoice(EXACT, 0, 0, 0, 0.0, f"{name} is not faster in bf16")
    return compare(heads, compute, decode, BF16)


def compare(
    heads: Mapping[str, HeadConfig],
    compute: Callable[[str], Sequence[Logits]],
    decode: Callable[[Logits], Mapping[str, HeadPrediction]],
    precision: str,
) -> PrecisionChoice:
    """Choose the lower precision if it decides some texts as float32 does, except for near-ties.

    Texts whose logits are not finite in float32 have no decision and are left out.

    Args:
        heads: Head → its settings.
        compute: Precision → head → logits, for each batch of the texts.
        decode: Logits → predictions.
        precision: Name of the lower precision.
    """
    predictions: list[tuple[Mapping[str, HeadPrediction], Mapping[str, HeadPrediction]]] = []
    for one, other in zip(compute(EXACT), compute(precision), strict=True):
        left_out = _not_finite(one)
        exact, lower = (
            {name: np.delete(values, left_out, axis=0) for name, values in logits.items()} for logits in (one, other)
        )
        if _not_finite(lower):
            return PrecisionChoice(EXACT, 0, 0, 0, 0.0, f"logits of some texts are not finite in {precision}")
        predictions.append((decode(exact), decode(lower)))
    return choose(heads, [one for one, _ in predictions], [other for _, other in predictions], precision)


def _not_finite(logits: Logits) -> list[int]:
    """Return the rows in which the logits of some head are not finite."""
    return sorted({row for values in logits.values() for row in rows_not_finite(torch.from_numpy(values))})


def choose(
    heads: Mapping[str, HeadConfig],
    exact: Sequence[Mapping[str, HeadPrediction]],
    lower: Sequence[Mapping[str, HeadPrediction]],
    precision: str,
) -> PrecisionChoice:
    """Choose the lower precision if its decisions equal those of float32, except for near-ties.

    Args:
        heads: Head → its settings.
        exact: For each batch, head → predictions in float32.
        lower: The same in the lower precision.
        precision: Name of the lower precision.
    """
    rows = changed = ties = 0
    difference = 0.0
    for one, other in zip(exact, lower, strict=True):
        count = len(next(iter(one.values())).decisions)
        differs, beyond = np.zeros(count, bool), np.zeros(count, bool)
        for name, prediction in one.items():
            difference = max(difference, float((prediction.probabilities - other[name].probabilities).abs().max()))
            changes = prediction.decisions != other[name].decisions  # (rows, labels)
            differs |= changes.any(1).numpy()
            beyond |= (changes & ~_near_ties(heads[name], prediction, changes)).any(1).numpy()
        rows, changed = rows + count, changed + int(differs.sum())
        ties += int((differs & ~beyond).sum())
    chosen = precision if changed == ties else EXACT
    compared = (
        f"{changed:,} of {rows:,} texts have other labels in {precision} than in fp32, {ties:,} of them in near-ties "
        f"(probability within {NEAR_TIE} of the threshold or of another label); probabilities differ by up to "
        f"{difference:.1e}"
    )
    return PrecisionChoice(chosen, rows, changed, ties, difference, compared)


def _near_ties(head: HeadConfig, exact: HeadPrediction, changes: torch.Tensor) -> torch.Tensor:
    """Return (rows, labels): whether a changed decision was a near-tie in float32."""
    scores = exact.probabilities
    thresholds = torch.tensor(head.thresholds if head.thresholds is not None else 0.5, dtype=scores.dtype)
    near = (scores - thresholds).abs() <= NEAR_TIE if head.multi_label else torch.zeros_like(changes)
    # labels that swapped ranks have similar probabilities
    highest = scores.masked_fill(~changes, -1).amax(1, keepdim=True)
    lowest = scores.masked_fill(~changes, 2).amin(1, keepdim=True)
    several = changes.sum(1, keepdim=True) > 1
    return near | (several & (highest - lowest <= NEAR_TIE))

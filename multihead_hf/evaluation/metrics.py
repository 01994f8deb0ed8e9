"""Metrics of every head, from arrays alone: no model, no Trainer, no `evaluate`.

Count-based metrics come from counts over the known cells, areas under curves from scikit-learn's `roc_curve`.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.metrics import auc, roc_curve

from .counts import ConfusionCounts, MultiLabelCounts, ratio
from .metric_names import (
    MULTI_LABEL_METRICS,
    SINGLE_LABEL,
    MetricHead,
    main_score_of,
    metric_keys,
    metric_names,
)

logger = logging.getLogger(__name__)

MISSING = -100
"""Mark of an unlabelled row (single-label) or an unknown cell (multi-label) of the references."""

# Averaged float32 probabilities may exceed 1 by a rounding error; logits exceed it by far more.
_PROBABILITY_SLACK = 1e-6

_said: set[str] = set()

Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Counts: TypeAlias = npt.NDArray[np.int64]
Shape: TypeAlias = tuple[int | str, ...]


def known_and_true(references: npt.ArrayLike, labels: int) -> tuple[Bools, Bools]:
    """Return which cells (rows, labels) are known, and which are positive.

    Args:
        references: label ids (rows,), or cells (rows, labels) that are positive from 0.5; −100 where unlabelled.
        labels: number of labels of the head.
    """
    targets = np.asarray(references)
    known: Bools = np.not_equal(targets, MISSING)
    if targets.ndim == 2:
        return known, (targets >= 0.5) & known
    return np.broadcast_to(known[:, None], (len(targets), labels)), np.arange(labels) == targets[:, None]


def compute_metrics(
    heads: Mapping[str, MetricHead],
    scores: Mapping[str, npt.ArrayLike],
    decisions: Mapping[str, npt.ArrayLike],
    references: Mapping[str, npt.ArrayLike],
) -> dict[str, float]:
    """Compute the metrics of all heads, and the mean of their main scores.

    Args:
        heads: name → labels, problem type and positive label of a head.
        scores: name → probabilities, float (rows, labels). Read for multi-label heads; single-label heads need none.
        decisions: name → 0/1 (rows, labels) of a multi-label head, label ids (rows,) of a single-label head.
        references: name → the true labels in the same shape as the decisions, −100 (or NaN) where unlabelled. Heads
            that are absent here are skipped.

    Returns:
        `<head>_<metric>` for the heads in their order, then `f1`: the mean of `main_score_name` over the heads with
        labelled rows. Undefined metrics are left out, so that no value is NaN.

    Raises:
        ValueError: If two metrics have one key, a head is unknown or lacks its decisions or scores, or an array does
            not fit `multi_label_metrics` and `single_label_metrics`; the message contains the head.
    """
    metric_keys(heads)
    for argument, arrays in (("scores", scores), ("decisions", decisions), ("references", references)):
        check_known_heads(heads, arrays, argument)
    figures = {
        name: _head_metrics(name, head, scores, decisions, references[name])
        for name, head in heads.items()
        if name in references
    }
    return with_mean(heads, figures)


def with_mean(heads: Mapping[str, MetricHead], figures: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return `<head>_<metric>` from head → metric → value, then `f1`, the mean main score of heads that have values."""
    metrics = {f"{name}_{metric}": value for name, values in figures.items() for metric, value in values.items()}
    main = [values[main_score_of(heads[name])] for name, values in figures.items() if values]
    return metrics | ({"f1": sum(main) / len(main)} if main else {})


def multi_label_metrics(
    scores: npt.ArrayLike, decisions: npt.ArrayLike, references: npt.ArrayLike, *, head: str | None = None
) -> dict[str, float]:
    """Compute the metrics of one multi-label head.

    Micro metrics run over all known cells, macro metrics are means over all labels, `macro_present` over the labels
    that occur in the references, `samples` over the labelled rows; a ratio with denominator 0 counts as 0. `accuracy`
    is the share of labelled rows whose known cells are all right, `accuracy_cells` the share of known cells. The macro
    areas are means over the labels that have both classes among their known cells.

    Args:
        scores: probabilities, float (rows, labels).
        decisions: 0/1 (rows, labels).
        references: (rows, labels) in [0, 1], −100 or NaN in unknown cells; a row of only such cells is unlabelled. Soft
            targets count as positive from 0.5.
        head: name of the head in messages.

    Returns:
        `MULTI_LABEL_METRICS` → value in [0, 1], without undefined metrics; empty without labelled rows.

    Raises:
        ValueError: If shapes differ, or a value is invalid; the message contains the first such row.
    """
    target_array = check_cell_references(references, ("rows", "labels"), head)
    score_array = check_scores(scores, target_array.shape, head)
    decision_array = _array(decisions, "decisions", "buif", target_array.shape, head)
    _check_cells((decision_array != 0) & (decision_array != 1), decision_array, "decision", "0 or 1", head)
    known = _known(target_array)
    labelled = known.any(axis=1)  # (rows,)
    if not labelled.any():
        _leave_out(head, MULTI_LABEL_METRICS, "no row is labelled")
        return {}
    known = known[labelled]  # (labelled rows, labels), as the next two
    decided, positive = (decision_array[labelled] == 1) & known, (target_array[labelled] >= 0.5) & known
    figures = multi_label_figures(_counted(decided, positive, known), head)
    figures |= ranking_figures(score_array[labelled], positive, known, head)
    return {name: figures[name] for name in MULTI_LABEL_METRICS if name in figures}


def single_label_metrics(
    decisions: npt.ArrayLike,
    references: npt.ArrayLike,
    labels: Sequence[str],
    positive_label: str | None = None,
    *,
    head: str | None = None,
) -> dict[str, float]:
    """Compute the metrics of one single-label head.

    Macro metrics are means over all labels of the head, whether they occur or not; a ratio with denominator 0 counts as
    0, and so does a Matthews correlation (`mcc`) whose decisions or references all have one label.

    Args:
        decisions: label ids, int (rows,).
        references: label ids, int (rows,), −100 in unlabelled rows.
        labels: the names of the labels; a label's id is its position.
        positive_label: the label to which `precision`, `recall` and `f1` refer; without it they are not reported.
        head: name of the head in messages.

    Returns:
        `SINGLE_LABEL_METRICS` → value (`mcc` in [-1, 1], other metrics in [0, 1]), with a positive label also
        `POSITIVE_LABEL_METRICS`; empty without labelled rows.

    Raises:
        ValueError: If shapes differ, an id is out of range, or the positive label is not one of the labels.
    """
    names = metric_names(SINGLE_LABEL, positive_label)
    if positive_label is not None and positive_label not in labels:
        raise ValueError(_message(head, f"positive_label {positive_label!r} is not one of the labels {list(labels)}"))
    targets = check_id_references(references, ("rows",), len(labels), head)
    decided = _array(decisions, "decisions", "ui", targets.shape, head).astype(np.int64)
    _check_cells((decided < 0) | (decided >= len(labels)), decided, "decision", _ids(len(labels)), head)
    labelled = targets != MISSING
    decided, targets = decided[labelled], targets[labelled]
    if not targets.size:
        _leave_out(head, names, "no row is labelled")
        return {}
    counts = ConfusionCounts(len(labels))
    counts.add(decided, targets)
    return counts.figures(None if positive_label is None else list(labels).index(positive_label))


def check_known_heads(heads: Mapping[str, MetricHead], arrays: Mapping[str, npt.ArrayLike], argument: str) -> None:
    """Raise a ValueError if `arrays`, the argument called `argument`, has a head that is not in `heads`."""
    for name in arrays:
        if name not in heads:
            raise ValueError(f"{argument} contain the unknown head {name!r}; the heads are {list(heads)}")


def check_scores(scores: npt.ArrayLike, shape: Shape, head: str | None = None) -> Floats:
    """Return scores as float64 of the given shape (rows, labels); raise a ValueError if one is not a probability."""
    # Always float64: areas are then the same for any batching and dtype of the scores.
    array = _array(scores, "scores", "f", shape, head).astype(np.float64, copy=False)
    bad = ~((array >= -_PROBABILITY_SLACK) & (array <= 1 + _PROBABILITY_SLACK))  # true for NaN too
    _check_cells(bad, array, "score", "a probability in [0, 1] (the sigmoid or softmax of a logit)", head)
    return array


def check_cell_references(references: npt.ArrayLike, shape: Shape, head: str | None = None) -> np.ndarray:
    """Return multi-label references of the given shape (rows, labels); raise a ValueError for an invalid cell."""
    array = _array(references, "references", "buif", shape, head)
    bad = _known(array) & ~((array >= 0) & (array <= 1))
    _check_cells(bad, array, "reference", f"in [0, 1] (or {MISSING} for unknown)", head)
    return array


def check_id_references(references: npt.ArrayLike, shape: Shape, labels: int, head: str | None = None) -> Counts:
    """Return single-label references of the given shape (rows,) as int64; raise a ValueError for an invalid id."""
    array = _array(references, "references", "ui", shape, head).astype(np.int64)
    bad = (array != MISSING) & ((array < 0) | (array >= labels))
    _check_cells(bad, array, "reference", f"{_ids(labels)} (or {MISSING} for missing)", head)
    return array


def _head_metrics(
    name: str,
    head: MetricHead,
    scores: Mapping[str, npt.ArrayLike],
    decisions: Mapping[str, npt.ArrayLike],
    references: npt.ArrayLike,
) -> dict[str, float]:
    if name not in decisions:
        raise ValueError(_message(name, "has references but no decisions"))
    if head.problem_type == SINGLE_LABEL:
        return single_label_metrics(decisions[name], references, head.labels, head.positive_label, head=name)
    if name not in scores:
        raise ValueError(_message(name, "has references but no scores, which the metrics of a multi-label head need"))
    shape = np.shape(references)
    if shape[1:] != (len(head.labels),):
        raise ValueError(_message(name, f"references have shape {shape}, expected (rows, {len(head.labels)})"))
    return multi_label_metrics(scores[name], decisions[name], references, head=name)


def _known(references: np.ndarray) -> Bools:
    """Return the known cells of multi-label references (rows, labels)."""
    known: Bools = references != MISSING
    return known & ~np.isnan(references) if references.dtype.kind == "f" else known


def _ids(labels: int) -> str:
    return f"one of the {labels} label ids 0..{labels - 1}"


def _array(values: npt.ArrayLike, argument: str, kinds: str, shape: Shape, head: str | None) -> np.ndarray:
    """Return values as an array of one of the dtype kinds and of a shape, in which a word stands for any number."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in kinds:  # an empty list has no meaningful dtype
        expected = {"f": "floats", "ui": "integers (label ids)", "buif": "numbers or booleans"}[kinds]
        raise ValueError(_message(head, f"{argument} have dtype {array.dtype}, expected {expected}"))
    fits = (isinstance(want, str) or want == size for want, size in zip(shape, array.shape, strict=False))
    if array.ndim != len(shape) or not all(fits):
        expected = str(shape).replace("'", "")
        raise ValueError(_message(head, f"{argument} have shape {array.shape}, expected {expected}"))
    return array


def _check_cells(bad: Bools, values: np.ndarray, noun: str, expected: str, head: str | None) -> None:
    """Raise a ValueError for the first row with an invalid cell; both arrays are (rows,) or (rows, labels)."""
    if bad.any():
        cell = np.unravel_index(bad.argmax(), bad.shape)
        location = ", ".join(f"{axis} {position}" for axis, position in zip(("row", "label"), cell, strict=False))
        raise ValueError(_message(head, f"{noun} {values[cell]} is not {expected}", location))


def _message(head: str | None, text: str, location: str = "") -> str:
    where = ", ".join(filter(None, (f"head {head!r}" if head is not None else "", location)))
    return f"{where}: {text}" if where else text


def _leave_out(head: str | None, metrics: Sequence[str], reason: str) -> None:
    """Log why metrics of a head are not reported, once per process: evaluation runs many times during training."""
    message = _message(head, f"{', '.join(metrics)} left out: {reason}")
    if message not in _said:
        _said.add(message)
        logger.info(message)


def _counted(decided: Bools, positive: Bools, known: Bools) -> MultiLabelCounts:
    counts = MultiLabelCounts(decided.shape[1])
    counts.add(decided, positive, known)
    return counts


def multi_label_figures(counts: MultiLabelCounts, head: str | None = None) -> dict[str, float]:
    """Return the metrics that counts define, and log which are left out."""
    figures = counts.figures()
    missing = [
        name for name in (f"{kind}_macro_present" for kind in ("precision", "recall", "f1")) if name not in figures
    ]
    if figures and missing:
        _leave_out(head, missing, "no label occurs in the references")
    return figures


def ranking_figures(scores: np.ndarray, positive: Bools, known: Bools, head: str | None = None) -> dict[str, float]:
    """Return the areas under the ROC and precision-recall curves; arrays (labelled rows, labels).

    Logs which areas are left out.
    """
    support, total = np.count_nonzero(positive, axis=0), np.count_nonzero(known, axis=0)  # (labels,) each
    both_classes = np.flatnonzero((support > 0) & (support < total))
    figures: dict[str, float] = {}
    if 0 < support.sum() < total.sum():
        figures["roc_auc_micro"], figures["average_precision_micro"] = _areas(scores[known], positive[known])
    else:
        _leave_out(head, ("roc_auc_micro", "average_precision_micro"), "the known cells are all of one class")
    if both_classes.size:
        areas = [_areas(scores[known[:, label], label], positive[known[:, label], label]) for label in both_classes]
        figures["roc_auc_macro"], figures["average_precision_macro"] = map(float, np.mean(areas, axis=0))
    else:
        _leave_out(head, ("roc_auc_macro", "average_precision_macro"), "no label has known cells of both classes")
    return figures


def _areas(scores: Floats, positive: Bools) -> tuple[float, float]:
    """Return area under the ROC curve and average precision of one set of cells (cells,) that has both classes."""
    # `roc_auc_score` and `average_precision_score` would each sort the cells; one curve is enough for both.
    false_rate, true_rate, _ = roc_curve(positive, scores, drop_intermediate=False)
    support = np.count_nonzero(positive)
    hits, false_alarms = true_rate * support, false_rate * (positive.size - support)
    precision = ratio(hits, hits + false_alarms)
    return float(auc(false_rate, true_rate)), float(np.diff(true_rate) @ precision[1:])

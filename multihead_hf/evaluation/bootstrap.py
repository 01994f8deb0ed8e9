"""Percentile bootstrap over rows: intervals of metrics, and of differences between two models on the same rows.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. Rows are drawn with replacement; all metrics
of a bootstrap sample come from one product of its weights with the rows' counts, so that a thousand samples take
seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .counts import precision_recall_f1, ratio
from .metrics import Bools, known_and_true

_BLOCK = 50  # bootstrap samples computed at a time

Floats = npt.NDArray[np.float64]


@dataclass
class Interval:
    """A metric with its interval, which holds the middle share `confidence_level` of its bootstrap samples.

    Args:
        value: the metric over all rows.
        low: lower percentile of the bootstrap samples.
        high: upper percentile of the bootstrap samples.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


class RowCounts:
    """Contribution of each labelled row of a head to its counts: hits, predicted and support, (rows, labels) each.

    Args:
        decisions: predicted labels, bool (rows, labels).
        references: (rows, labels) with −100 in unknown cells, or label ids (rows,) with −100 in unlabelled rows.
        positive: id of the `positive_label` of a single-label head.
    """

    def __init__(self, decisions: npt.ArrayLike, references: npt.ArrayLike, positive: int | None = None) -> None:
        predicted = np.asarray(decisions, dtype=bool)
        known, true = known_and_true(references, predicted.shape[1])
        self._multi_label = np.ndim(references) == 2
        self._positive = positive
        predicted = np.logical_and(predicted, known)
        self.labelled: Bools = np.logical_or.reduce(known, axis=1)
        cells = (predicted & true, predicted, true)
        self._cells = [values[self.labelled].astype(np.float32) for values in cells]
        self._whole = precision_recall_f1(*(values.sum(axis=0) for values in cells))  # per label, over all rows
        self._right = (predicted == true).all(axis=1)[self.labelled].astype(np.float32)

    def figures(self, weights: Floats) -> dict[str, Floats]:
        """Return the metrics (n_resamples,) of bootstrap samples, given as weights (n_resamples, labelled rows).

        If a metric of a label is undefined in a sample (recall without true rows, precision without predicted rows, F1
        without either), its value over all rows is used: rare labels are missing from most samples, and would lower
        macro metrics if they counted as 0, or raise them if they were ignored.
        """
        weights = weights.astype(np.float32)  # whole numbers, exact up to 2²⁴ rows
        counts: list[Any] = [(weights @ cells).astype(np.float64) for cells in self._cells]  # (n_resamples, labels)
        by_label = precision_recall_f1(*counts)
        metrics = {"accuracy": ratio(weights @ self._right, weights.sum(axis=1))}
        if self._multi_label:
            overall = precision_recall_f1(*(count.sum(axis=1) for count in counts))
            metrics |= dict(zip(("precision_micro", "recall_micro", "f1_micro"), overall, strict=True))
        names = ("precision", "recall", "f1")
        _, predicted, support = counts
        defined = (predicted > 0, support > 0, predicted + support > 0)
        for name, values, is_defined, whole in zip(names, by_label, defined, self._whole, strict=True):
            values = np.where(is_defined, values, whole)
            metrics[f"{name}_macro"] = values.mean(axis=1)
            if self._positive is not None:
                metrics[name] = values[:, self._positive]
        return metrics


def intervals(
    counts: RowCounts, n_resamples: int = 1000, confidence_level: float = 0.95, seed: int = 42
) -> dict[str, Interval]:
    """Return each metric of a head, by name, with its interval; empty without labelled rows."""
    if not counts.labelled.any():
        return {}
    (samples,), (values,) = _drawn([counts], n_resamples, seed)
    return {name: _interval(values[name], samples[name], confidence_level) for name in values}


def shown_intervals(
    counts: RowCounts, n_resamples: int = 1000, confidence_level: float = 0.95, seed: int = 42
) -> dict[str, Interval]:
    """Return the intervals that show something: none with too few rows, and none that is a single point.

    A metric is the same in every bootstrap sample if no row is wrong, or if labels are right or wrong as a whole: that
    is no evidence that it is exact.
    """
    if too_few(int(counts.labelled.sum()), confidence_level):
        return {}
    found = intervals(counts, n_resamples, confidence_level, seed)
    return {name: interval for name, interval in found.items() if interval.low < interval.high}


def too_few(rows: int, confidence_level: float = 0.95) -> bool:
    """Return whether even a difference in each of so many rows would be chance (sign test)."""
    return 0.5 ** (rows - 1) > 1 - confidence_level


@dataclass
class Difference:
    """One metric of two models.

    Args:
        model: the metric of the model.
        baseline: the metric of the model that it is compared with.
        difference: `model` minus `baseline`, with its interval.
    """

    model: float
    baseline: float
    difference: Interval

    @property
    def verdict(self) -> str:
        """Return `"better"` or `"worse"` for the first model, or `"not shown"` where the interval contains 0."""
        if self.difference.low > 0:
            return "better"
        return "worse" if self.difference.high < 0 else "not shown"


def differences(
    one: RowCounts, other: RowCounts, n_resamples: int = 1000, confidence_level: float = 0.95, seed: int = 42
) -> dict[str, Difference]:
    """Return each metric of both models, and the paired bootstrap interval of its difference.

    The bootstrap samples hold the same rows for both models. The result is empty without labelled rows.

    Raises:
        ValueError: If the models do not have the same labelled rows.
    """
    if len(one.labelled) != len(other.labelled) or (one.labelled != other.labelled).any():
        raise ValueError("the two models were not evaluated on the same rows")
    if not one.labelled.any():
        return {}
    (samples, other_samples), (values, other_values) = _drawn([one, other], n_resamples, seed)
    return {
        name: Difference(
            float(values[name][0]),
            float(other_values[name][0]),
            _interval(values[name] - other_values[name], samples[name] - other_samples[name], confidence_level),
        )
        for name in values
        if name in other_values
    }


def _drawn(
    all_counts: Sequence[RowCounts], n_resamples: int, seed: int
) -> tuple[list[dict[str, Floats]], list[dict[str, Floats]]]:
    """Return the metrics of every bootstrap sample, the same samples for all counts, and those of all rows."""
    rng = np.random.default_rng(seed)
    rows = int(all_counts[0].labelled.sum())
    parts: list[list[dict[str, Any]]] = [[] for _ in all_counts]
    for begin in range(0, n_resamples, _BLOCK):
        weights = rng.multinomial(rows, np.full(rows, 1 / rows), size=min(_BLOCK, n_resamples - begin))
        for part, counts in zip(parts, all_counts, strict=True):
            part.append(counts.figures(weights.astype(np.float64)))
    samples = [{name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]} for blocks in parts]
    return samples, [counts.figures(np.ones((1, rows))) for counts in all_counts]


def _interval(value: Floats, samples: Floats, confidence_level: float) -> Interval:
    low, high = np.quantile(samples, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return Interval(float(value[0]), float(low), float(high))

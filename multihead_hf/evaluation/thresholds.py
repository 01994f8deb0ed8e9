"""The best thresholds of a multi-label head over all cut points, on all of its rows or on some folds of them."""

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..model.head_multihead import one_of
from ..model.values_multihead import plain_number
from .metrics import MISSING

METRICS = ("f1", "recall_at_precision", "cost")
GRANULARITIES = ("auto", "head", "label")
# with so many positives a label's threshold is half-way (in logits) between its optimum and the head's: on unseen rows
# of simulated and real heads (60 to 4,000 rows) micro F1 was best with 10 to 80, and macro F1 with 20 or less
SHRINKAGE = 20
_BLOCK = 64  # labels at a time, copied so that their columns are contiguous
_LEAST, _MOST = 1e-9, 1e9  # costs
_AT_A_TIME = 4_000_000  # maximum number of cuts (over all subsets) compared at once

Floats = npt.NDArray[np.float32]
Keys = npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


class Target(NamedTuple):
    """Criterion by which thresholds are chosen.

    Args:
        metric: `"f1"`; `"recall_at_precision"`, the highest recall with a precision of at least `precision`; or
            `"cost"`, the lowest sum of `costs`.
        precision: minimum precision, in (0, 1].
        costs: costs of a false positive and of a false negative.
    """

    metric: str = "f1"
    precision: float = 0.9
    costs: tuple[float, float] = (1.0, 1.0)

    def check(self) -> "Target":
        """Return the target after a check of its values.

        Raises:
            ValueError: If the metric is unknown, the precision is outside (0, 1], or a cost is outside [1e-9, 1e9].
        """
        one_of("metric", self.metric, METRICS)
        precision: Any = plain_number(self.precision)  # also of a tensor
        if not isinstance(precision, (int, float)) or not 0 < precision <= 1:
            raise ValueError(f"precision {self.precision}: give a number above 0 and at most 1")
        numbers = isinstance(self.costs, Iterable) and all(isinstance(plain_number(cost), Real) for cost in self.costs)
        if not numbers or len(self.costs) != 2 or not all(_LEAST <= cost <= _MOST for cost in self.costs):
            raise ValueError(
                f"costs {self.costs}: give two numbers from {_LEAST:g} to {_MOST:g}, of a false positive and a false "
                "negative"
            )
        false_positive, false_negative = map(float, self.costs)
        return self._replace(precision=float(precision), costs=(false_positive, false_negative))

    def values(self, hits: Counts, predicted: Counts, positives: Counts) -> Values:
        """Return the score of each cut, higher is better; −inf for a cut that is not allowed."""
        if self.metric == "f1":
            return 2 * hits / np.maximum(predicted + positives, 1)
        if self.metric == "cost":
            false_positive, false_negative = self.costs
            return -(false_positive * (predicted - hits) + false_negative * (positives - hits)).astype(np.float64)
        allowed = (hits >= self.precision * predicted) & (predicted > 0)
        return np.where(allowed, hits.astype(np.float64), -np.inf)


class Rows(NamedTuple):
    """Rows of a head: probabilities (rows, labels), and which of these cells are positive and which are known."""

    scores: Floats
    positive: Bools
    known: Bools

    @classmethod
    def of(cls, scores: Floats, references: Floats) -> "Rows":
        """Return rows from probabilities and references (rows, labels), −100 in unknown cells."""
        known = references != MISSING
        return cls(scores, (references >= 0.5) & known, known)

    def counts(self, decisions: Bools) -> Counts:
        """Return TP, TP + FP and TP + FN of each label, (3, labels)."""
        return np.stack([cells.sum(0) for cells in (decisions & self.positive, decisions & self.known, self.positive)])

    def transposed(self, labels: slice) -> "Rows":
        """Return the cells of some labels, (labels, rows) each."""
        scores, positive, known = self.scores[:, labels].T, self.positive[:, labels].T, self.known[:, labels].T
        return Rows(np.ascontiguousarray(scores), np.ascontiguousarray(positive), np.ascontiguousarray(known))

    def totals(self, decisions: Bools) -> Counts:
        """Return TP, TP + FP and TP + FN over all labels, and the number of rows, (4,)."""
        cells = (decisions & self.positive, decisions & self.known, self.positive)
        return np.array([*(np.count_nonzero(mask) for mask in cells), len(self.scores)])


class Cuts:
    """Counts at every cut of some cells, by fold, so that the optimum of any folds needs no further sort.

    Args:
        scores: for each fold the probabilities (cells,).
        positive: for each fold which cells are positive, bool (cells,).
    """

    def __init__(self, scores: Sequence[Floats], positive: Sequence[Bools]) -> None:
        by_fold = [_sorted_keys(*fold) for fold in zip(scores, positive, strict=True)]
        positives = [keys[(keys & 1).astype(bool)] for keys in by_fold]
        # the best cut is just below a positive or above all scores; equal scores cannot be separated
        cuts = np.unique(np.concatenate(positives))
        self.above = np.append(_scores(cuts), 1.0)  # (cuts + 1,) the lowest score above the cut
        starts = [np.append(np.searchsorted(keys, cuts & ~np.uint32(1)), len(keys)) for keys in by_fold]
        # (folds, cuts + 1) each: positive cells above the cut, all cells above it, and the highest score below it
        self.hits = np.stack([_not_below(cuts, keys) for keys in positives])
        self.predicted = np.stack([len(keys) - at for keys, at in zip(by_fold, starts, strict=True)]).astype(np.int32)
        self.cells = np.array([len(keys) for keys in by_fold], dtype=np.int64)
        zero = np.zeros(1, np.uint32)
        self.below = np.stack([_scores(np.append(zero, keys)[at]) for keys, at in zip(by_fold, starts, strict=True)])

    def best(
        self, subsets: Bools, target: Target, min_support: int = 1, min_negatives: int = 0
    ) -> tuple[Values, Counts]:
        """Return the optimum over all thresholds in each of some subsets of the folds.

        The optimum is exact; if there are several, the highest is returned.

        Args:
            subsets: (subsets, folds).
            target: criterion of the optimum.
            min_support: minimum number of positives.
            min_negatives: minimum number of negatives.

        Returns:
            Probabilities in (0, 1), half-way between the scores that they separate, NaN with fewer positives than
            `min_support` (or none) or too few negatives, or if no cut is allowed; and the positives (subsets,).
        """
        thresholds, positives = np.full(len(subsets), np.nan), subsets.astype(np.int64) @ self.hits[:, 0]
        negatives = subsets.astype(np.int64) @ self.cells - positives
        supported = (positives >= max(min_support, 1)) & (negatives >= min_negatives)
        step = max(1, _AT_A_TIME // len(self.above))
        for begin in range(0, len(subsets), step):
            block = subsets[begin : begin + step]
            hits, predicted = (block.astype(np.int64) @ counts for counts in (self.hits, self.predicted))
            objective = target.values(hits, predicted, hits[:, :1])  # (subsets, cuts + 1)
            best = objective.shape[1] - 1 - objective[:, ::-1].argmax(1)
            for row, cut in enumerate(best.tolist()):
                if objective[row, cut] > -np.inf and supported[begin + row]:
                    low = self.below[block[row], cut].max()
                    thresholds[begin + row] = _between(float(self.above[cut]), float(low))
        return thresholds, positives


def best_threshold(scores: Floats, positive: Bools, target: Target) -> float | None:
    """Return the exact optimum over all thresholds, as `Cuts.best` does, for cells (cells,); `None` without one."""
    (threshold,), _ = Cuts([scores], [positive]).best(np.ones((1, 1), bool), target)
    return None if math.isnan(threshold) else float(threshold)


def _sorted_keys(scores: Floats, positive: Bools) -> Keys:
    """Return cells in the order of their scores, as integers.

    The bits of floats from 0 on are in their order, and the last bit marks the positives.
    """
    keys = np.clip(scores, 0, 1).astype(np.float32).view(np.uint32)
    keys <<= 1
    keys |= positive
    keys.sort()
    return keys


def _scores(keys: Keys) -> Floats:
    return (keys >> 1).view(np.float32)


def _not_below(cuts: Keys, keys: Keys) -> npt.NDArray[np.int32]:
    return np.append(len(keys) - np.searchsorted(keys, cuts), 0).astype(np.int32)


def _between(high: float, low: float) -> float:
    """Return a threshold with which `high` is predicted and `low` is not, compared in float32."""
    middle = float(np.float32((high + low) / 2))
    middle = middle if middle > low else high
    # thresholds of 0 and 1 are not allowed; these are the nearest float32 numbers
    return min(max(middle, 1e-7), 1 - 1e-9)


class Fit(NamedTuple):
    """Thresholds of a head that were chosen on some folds.

    Args:
        common: the optimum over all labels; NaN with too few positives, without a negative, or if no cut is allowed.
        head: (labels,) the common threshold for all labels; without one, the previous thresholds.
        label: (labels,) one for each label.
        fell_back: (labels,) whether `label` has the value of `head`, because there is no separate optimum.
    """

    common: float
    head: Values
    label: Values
    fell_back: Bools


def fit_thresholds(
    folds: Sequence[Rows], subsets: Bools, before: Values, target: Target, min_support: int
) -> list[Fit]:
    """Choose a head's thresholds on each of some subsets of the folds.

    A label's separate optimum is drawn towards the common one, on the scale of logits, with a weight of `positives /
    (positives + SHRINKAGE)`.

    Args:
        folds: the rows of each fold.
        subsets: (subsets, folds).
        before: (labels,) the previous thresholds.
        target: what thresholds are chosen for.
        min_support: a label with fewer positives has the common threshold, and a head with fewer keeps its thresholds.
    """
    whole = Cuts([fold.scores[fold.known] for fold in folds], [fold.positive[fold.known] for fold in folds])
    common, _ = whole.best(subsets, target, min_support, 1)
    del whole  # as large as the rows
    label_thresholds, support = np.empty((2, len(subsets), len(before)))
    for begin in range(0, len(before), _BLOCK):
        # makes the columns of a block contiguous in memory
        block = [fold.transposed(slice(begin, begin + _BLOCK)) for fold in folds]
        for label in range(len(block[0].scores)):
            known = [fold.known[label] for fold in block]
            cuts = Cuts(
                [fold.scores[label][rows] for fold, rows in zip(block, known, strict=True)],
                [fold.positive[label][rows] for fold, rows in zip(block, known, strict=True)],
            )
            label_thresholds[:, begin + label], support[:, begin + label] = cuts.best(subsets, target, min_support, 1)
    return [_fit(*values, before) for values in zip(common, label_thresholds, support, strict=True)]


def _fit(common: float, label_thresholds: Values, support: Values, before: Values) -> Fit:
    none = math.isnan(common)
    weight = support / (support + SHRINKAGE)
    shrunk = _sigmoid(
        weight * _logit(label_thresholds) + (1 - weight) * _logit(label_thresholds if none else np.array(common))
    )
    head = before if none else np.full_like(before, common)
    return Fit(float(common), head, np.where(np.isnan(label_thresholds), head, shrunk), np.isnan(label_thresholds))


def _logit(probability: Values) -> Values:
    return np.log(probability) - np.log1p(-probability)


def _sigmoid(logit: Values) -> Values:
    return 1 / (1 + np.exp(-logit))

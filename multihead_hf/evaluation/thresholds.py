"""The best thresholds of a multi-label head over all cut points, and their worth on rows that they have not seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..model.head_multihead import one_of
from .counts import precision_recall_f1
from .metrics import MISSING

METRICS = ("f1", "recall_at_precision", "cost")
PER = ("label", "head")
_BLOCK = 64  # labels at a time, whose columns lie together in memory then

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


class Target(NamedTuple):
    """What thresholds are chosen for.

    Args:
        metric: `"f1"`; `"recall_at_precision"`, the highest recall with a precision of at least `precision`; or
            `"cost"`, the lowest sum of `costs`.
        precision: in (0, 1].
        costs: of a false positive and of a false negative.
    """

    metric: str = "f1"
    precision: float = 0.9
    costs: tuple[float, float] = (1.0, 1.0)

    def check(self) -> "Target":
        """
        Raises:
            ValueError: an unknown metric, a precision outside (0, 1], or costs that are not above 0.
        """
        one_of("metric", self.metric, METRICS)
        if not 0 < self.precision <= 1:
            raise ValueError(f"precision {self.precision}: give a number above 0 and at most 1")
        if len(self.costs) != 2 or min(self.costs) <= 0:
            raise ValueError(f"costs {self.costs}: give two numbers above 0, of a false positive and a false negative")
        return self

    def values(self, hits: Counts, predicted: Counts, positives: int) -> npt.NDArray[np.float64]:
        """How good each cut is, higher is better; −inf for one that is not allowed."""
        if self.metric == "f1":
            return 2 * hits / np.maximum(predicted + positives, 1)
        if self.metric == "cost":
            false_positive, false_negative = self.costs
            return -(false_positive * (predicted - hits) + false_negative * (positives - hits)).astype(np.float64)
        allowed = (hits >= self.precision * predicted) & (predicted > 0)
        return np.where(allowed, hits.astype(np.float64), -np.inf)


def best_threshold(scores: Floats, positive: Bools, target: Target) -> float | None:
    """The exact optimum over all thresholds; of equally good ones the highest.

    Args:
        scores: (cells,) probabilities.
        positive: (cells,).

    Returns:
        a probability in (0, 1), half-way between the scores that it separates; `None` if no cut is allowed.
    """
    if not len(scores):
        return None
    # one sort of integers: the bits of floats from 0 on are in their order, and the last bit tells the positives
    keys = np.clip(scores, 0, 1).astype(np.float32).view(np.uint32)
    keys <<= 1
    keys |= positive
    keys.sort()
    # the best cut is right below a positive, or above all; equal scores cannot be separated
    found, counts = np.unique(keys[(keys & 1).astype(bool)], return_counts=True)
    starts = np.searchsorted(keys, found ^ 1)  # of the cells with that score or a higher one
    hits = np.append(counts[::-1].cumsum()[::-1], 0)
    worth = target.values(hits, np.append(len(keys) - starts, 0), int(hits[0]))
    best = len(found) - int(worth[::-1].argmax())
    if worth[best] == -np.inf:
        return None
    start = starts[best] if best < len(found) else len(keys)
    ends = [keys[start - 1] >> 1 if start else 0, keys[start] >> 1 if start < len(keys) else None]
    low, high = (1.0 if end is None else float(np.uint32(end).view(np.float32)) for end in ends)
    return _between(high, low)


def _between(high: float, low: float) -> float:
    """A threshold with which `high` is predicted and `low` is not, as scores and thresholds are compared in float32."""
    middle = float(np.float32((high + low) / 2))
    middle = middle if middle > low else high
    # probabilities of 0 and 1 are no thresholds; in float32 these are next to them
    return min(max(middle, 1e-7), 1 - 1e-9)


@dataclass
class HeadThresholds:
    """What `tune_thresholds` found for a head.

    Args:
        thresholds: in label order.
        common: the head's common threshold.
        fallback: label → positives, of labels with too few of them (or without an allowed cut), which have `common`.
        rows: labelled rows.
        before: `f1_micro` and `f1_macro` (over labels that occur) with the thresholds that the head had.
        after: the same, each row decided by thresholds from the other folds: what to expect on new rows.
        fitted: the same with the thresholds themselves on the rows that they were chosen on, which flatters.
    """

    thresholds: list[float]
    common: float
    fallback: dict[str, int]
    rows: int
    before: dict[str, float]
    after: dict[str, float]
    fitted: dict[str, float]


def fit_thresholds(
    scores: Floats, references: npt.NDArray[np.float32], target: Target, per: str, min_support: int
) -> tuple[npt.NDArray[np.float64], float, Bools]:
    """Thresholds of a head.

    Args:
        scores: (rows, labels) probabilities.
        references: (rows, labels), −100 in cells that are not known.
        per: `"label"`, or `"head"` for one threshold over all labels (the optimum of the micro figure).
        min_support: a label with fewer positives has the common threshold.

    Returns:
        thresholds (labels,), the common one (0.5 where no cut is allowed), and which labels have it for want of one of
        their own (labels,).
    """
    known = references != MISSING
    positive = (references >= 0.5) & known
    common = best_threshold(scores[known], positive[known], target)
    common = 0.5 if common is None else common
    thresholds = np.full(positive.shape[1], common)
    fell_back = np.full(positive.shape[1], per == "label")
    supported = np.flatnonzero((positive.sum(0) >= max(min_support, 1)) & fell_back)
    for begin in range(0, len(supported), _BLOCK):
        block = supported[begin : begin + _BLOCK]
        columns = (np.ascontiguousarray(array[:, block].T) for array in (scores, positive, known))
        for label, own_scores, own_positive, rows in zip(block, *columns, strict=True):
            own = best_threshold(own_scores[rows], own_positive[rows], target)
            if own is not None:
                thresholds[label], fell_back[label] = own, False
    return thresholds, common, fell_back


def f1_at(decisions: Bools, references: npt.NDArray[np.float32]) -> dict[str, float]:
    """`f1_micro`, and `f1_macro` over the labels that occur, of decisions (rows, labels)."""
    known = references != MISSING
    positive = (references >= 0.5) & known
    hits, predicted, support = ((cells & known).sum(0) for cells in (decisions & positive, decisions, positive))
    _, _, f1 = precision_recall_f1(hits, predicted, support)
    _, _, micro = precision_recall_f1(hits.sum(), predicted.sum(), support.sum())
    occurs = support > 0
    return {"f1_micro": float(micro), "f1_macro": float(f1[occurs].mean()) if occurs.any() else 0.0}


def tune_head(
    scores: npt.ArrayLike,
    references: npt.ArrayLike,
    labels: Sequence[str],
    before: Bools,
    target: Target,
    per: str = "label",
    min_support: int = 10,
    folds: int = 5,
    seed: int = 42,
    decide: Callable[[Floats, Floats], Bools] = np.greater_equal,
) -> HeadThresholds:
    """The best thresholds of one head, and their cross-fitted worth.

    Args:
        scores: (rows, labels) probabilities, after calibration.
        references: (rows, labels), −100 in cells that are not known.
        labels: their names.
        before: (rows, labels) decisions with the thresholds so far.
        target, per, min_support: as `fit_thresholds`.
        folds: parts of the rows, each decided by thresholds from the others.
        seed: of the folds.
        decide: decisions (rows, labels) of scores (rows, labels) with thresholds (labels,), both float32. Thresholds
            are chosen as if it compared them; what they are worth is what it decides.

    Raises:
        ValueError: no labelled row, or fewer labelled rows than folds.
    """
    given = np.asarray(references, dtype=np.float32)
    labelled = (given != MISSING).any(1)
    given, cells = given[labelled], np.asarray(scores, dtype=np.float32)[labelled]
    if len(given) < folds:
        raise ValueError(f"{len(given)} labelled rows: thresholds need at least {folds}, one for each fold")
    thresholds, common, fell_back = fit_thresholds(cells, given, target, per, min_support)
    fold = np.random.default_rng(seed).permutation(len(given)) % folds
    decided = np.zeros_like(cells, dtype=bool)
    for part in range(folds):
        own, _, _ = fit_thresholds(cells[fold != part], given[fold != part], target, per, min_support)
        decided[fold == part] = decide(cells[fold == part], own.astype(np.float32))
    support = (given >= 0.5).sum(0)
    return HeadThresholds(
        thresholds=thresholds.tolist(),
        common=common,
        fallback={labels[label]: int(support[label]) for label in np.flatnonzero(fell_back).tolist()},
        rows=len(given),
        before=f1_at(before[labelled], given),
        after=f1_at(decided, given),
        fitted=f1_at(decide(cells, thresholds.astype(np.float32)), given),
    )

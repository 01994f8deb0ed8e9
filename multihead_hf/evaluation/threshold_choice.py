"""Choice of a multi-label head's thresholds by held-out rows: unchanged, one for the head, or one per label."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..model.head_multihead import whole_number
from .counts import precision_recall_f1, ratio
from .metrics import MISSING
from .thresholds import Bools, Counts, Fit, Floats, Rows, Target, Values, fit_thresholds

CANDIDATES = ("unchanged", "head", "label")
# rows are divided into folds repeatedly, until this many cells have been decided or this many rounds are done
_CELLS, _ROUNDS = 20_000_000, 10

Decide = Callable[[Floats, Floats], Bools]
Metrics = dict[str, float]


@dataclass
class HeadThresholds:
    """Result of `tune_thresholds` for one head.

    Args:
        thresholds: thresholds that the head has now, in label order.
        choice: `"unchanged"`, `"head"` (one common threshold) or `"label"` (one per label).
        reason: the choice and the metrics on which it is based, in words.
        is_doubtful: whether thresholds were requested that are worse than before on held-out folds, or none could be
            chosen.
        common: the head's common threshold; `None` with too few positives, or if no threshold is allowed.
        fallback: label → positives, for labels with too few of them (or without an allowed threshold), which share the
            head's threshold under `"label"`.
        rows: number of labelled rows.
        candidates: choice → its metrics on held-out folds: each row is decided by thresholds from the other folds.
        before: metrics with the previous thresholds: `f1_micro` and `f1_macro` (over labels that occur); for
            `"recall_at_precision"` also `recall_micro` and `precision_micro`, for `"cost"` the `cost` per row.
        after: the same on held-out folds, for each of which the other folds also make the choice: an estimate of the
            procedure on new rows.
        fitted: the same with `thresholds` on the rows used to choose them, which is optimistic.
    """

    thresholds: list[float]
    choice: str
    reason: str
    is_doubtful: bool
    common: float | None
    fallback: dict[str, int]
    rows: int
    candidates: dict[str, Metrics]
    before: Metrics
    after: Metrics
    fitted: Metrics


def metrics_of(counts: Counts, rows: int, target: Target) -> Metrics:
    """Return the metrics in `HeadThresholds`, from the counts of each label (3, labels)."""
    hits, predicted, support = counts
    _, _, f1 = precision_recall_f1(hits, predicted, support)
    totals = np.array([*counts.sum(1), rows])
    precision, recall, micro = precision_recall_f1(*totals[:3])
    occurs = support > 0
    metrics = {"f1_micro": float(micro), "f1_macro": float(f1[occurs].mean()) if occurs.any() else 0.0}
    if target.metric == "recall_at_precision":
        metrics |= {"recall_micro": float(recall), "precision_micro": float(precision)}
    if target.metric == "cost":
        metrics["cost"] = -float(scores_of(totals, target))
    return metrics


def scores_of(totals: npt.NDArray[np.integer], target: Target) -> Values:
    """Return the scores for the choice, higher is better: micro F1, the recall, or the negative cost per row.

    The recall counts if the precision is reached, within two standard errors; if not, the score is the negative
    difference to the required precision.

    Args:
        totals: (..., 4) TP, TP + FP, TP + FN and rows.
        target: what thresholds are chosen for.
    """
    hits, predicted, support, rows = np.moveaxis(totals, -1, 0)
    precision, recall, f1 = precision_recall_f1(hits, predicted, support)
    if target.metric == "f1":
        return f1
    if target.metric == "cost":
        false_positive, false_negative = target.costs
        return -ratio(false_positive * (predicted - hits) + false_negative * (support - hits), rows)
    error = np.sqrt(ratio(target.precision * (1 - target.precision), predicted))
    reached = (precision >= target.precision - 2 * error) | (predicted == 0)
    return np.where(reached, recall, precision - target.precision)


def choose(totals: Counts, target: Target) -> int:
    """Return the best candidate whose gain over the first exceeds the standard error over the folds, else the first.

    Args:
        totals: (candidates, rounds, folds, 4) as for `scores_of`, of held-out rows; the first candidate is the previous
            thresholds.
        target: what thresholds are chosen for.
    """
    scores = scores_of(totals.sum(2), target).mean(1)  # (candidates,)
    by_fold = scores_of(totals, target)
    errors = (by_fold - by_fold[0]).std(2, ddof=1).mean(1) / np.sqrt(totals.shape[2])
    better = scores - scores[0] > errors
    return int(np.where(better, scores, -np.inf).argmax()) if better.any() else 0


class _Round(NamedTuple):
    """Held-out rows of one division into folds.

    Args:
        whole: thresholds fitted on all rows.
        counts: (candidates, folds, 3, labels) of the held-out rows.
        totals: (candidates, folds, 4) of the held-out rows.
        chosen: for each fold the candidate that the other folds choose; empty without a choice.
    """

    whole: Fit
    counts: Counts
    totals: Counts
    chosen: list[int]


class _CrossFit(NamedTuple):
    """Decisions on held-out rows with thresholds from the other folds.

    Args:
        rows: all labelled rows.
        before: (labels,) the previous thresholds.
        target: as for `fit_thresholds`.
        min_support: as for `fit_thresholds`.
        decide: as for `tune_head`.
    """

    rows: Rows
    before: Values
    target: Target
    min_support: int
    decide: Decide

    def round(self, parts: Sequence[npt.NDArray[np.int64]], nested: bool) -> _Round:
        """Return the held-out rows of one division into folds.

        Args:
            parts: the rows of each fold.
            nested: whether a candidate is chosen for each fold too, on the remaining folds.
        """
        scores, positive, known = self.rows
        folds = [Rows(scores[part], positive[part], known[part]) for part in parts]
        fits = self._fits(folds, nested)

        def decided(fold: int, *out: int) -> list[Bools]:
            fit = fits[frozenset({fold, *out})]
            thresholds = (self.before, fit.head, fit.label)
            return [self.decide(folds[fold].scores, values.astype(np.float32)) for values in thresholds]

        counts, totals, choices = [], [], []
        for number, fold in enumerate(folds):
            decisions = decided(number)
            counts.append([fold.counts(predicted) for predicted in decisions])
            totals.append([fold.totals(predicted) for predicted in decisions])
        for outer in range(len(folds) if nested else 0):
            others = [number for number in range(len(folds)) if number != outer]
            inner = [[folds[number].totals(predicted) for predicted in decided(number, outer)] for number in others]
            choices.append(choose(np.stack(inner, 1)[:, None], self.target))
        return _Round(fits[frozenset()], np.stack(counts, 1), np.stack(totals, 1), choices)

    def _fits(self, folds: Sequence[Rows], nested: bool) -> dict[frozenset[int], Fit]:
        """Return folds left out → thresholds from all other folds."""
        numbers = range(len(folds))
        left_out = [frozenset(out) for size in range(3 if nested else 2) for out in combinations(numbers, size)]
        subsets = np.array([[number not in out for number in numbers] for out in left_out])
        fits = fit_thresholds(folds, subsets, self.before, self.target, self.min_support)
        return dict(zip(left_out, fits, strict=True))


def tune_head(
    scores: npt.ArrayLike,
    references: npt.ArrayLike,
    labels: Sequence[str],
    thresholds: Sequence[float] | None,
    target: Target,
    granularity: str = "auto",
    min_support: int = 10,
    folds: int = 5,
    seed: int = 42,
    decide: Decide = np.greater_equal,
) -> HeadThresholds:
    """Choose the thresholds of one head, by their scores on held-out rows.

    Args:
        scores: (rows, labels) probabilities, after calibration.
        references: (rows, labels), −100 in unknown cells.
        labels: names of the labels.
        thresholds: previous thresholds of the head, in label order; `None` is 0.5.
        target: what thresholds are chosen for.
        granularity: `"head"` for one threshold, `"label"` for one per label, or `"auto"` for the best of these and of
            the previous thresholds.
        min_support: as for `fit_thresholds`.
        folds: number of folds of the rows, at least 3; each is decided by thresholds from the other folds.
        seed: seed of the division into folds.
        decide: decisions (rows, labels) of scores (rows, labels) with thresholds (labels,), both float32. Thresholds
            are chosen as if it compared them, and scored by its decisions.

    Raises:
        ValueError: If folds are too few, or labelled rows are fewer than folds.
    """
    whole_number("folds", folds, 3)
    whole_number("seed", seed, 0)
    whole_number("min_support", min_support, 0)
    reference_cells = np.asarray(references, dtype=np.float32)
    labelled = (reference_cells != MISSING).any(1)
    if (number := int(labelled.sum())) < folds:
        raise ValueError(f"{number} labelled rows: thresholds need at least {folds}, one per fold")
    rows = Rows.of(np.asarray(scores, dtype=np.float32)[labelled], reference_cells[labelled])
    before = np.full(len(labels), 0.5) if thresholds is None else np.array(thresholds, dtype=np.float64)
    cross_fit, rng = _CrossFit(rows, before, target, min_support, decide), np.random.default_rng(seed)
    rounds = [
        cross_fit.round(np.array_split(rng.permutation(number), folds), granularity == "auto")
        for _ in range(max(1, min(_ROUNDS, _CELLS // rows.scores.size)))
    ]
    fit = rounds[0].whole
    fitted = {"unchanged": before, "head": fit.head, "label": fit.label}
    totals = np.stack([division.totals for division in rounds], 1)
    # without a common threshold the head keeps its thresholds, unless labels get separate thresholds
    possible = not (math.isnan(fit.common) and (granularity == "head" or fit.fell_back.all()))
    requested = CANDIDATES[choose(totals, target)] if granularity == "auto" else granularity
    choice = requested if possible else "unchanged"
    candidates = {name: _held_out(rounds, [index] * folds, target) for index, name in enumerate(CANDIDATES)}
    support, negatives = rows.positive.sum(0), int((rows.known & ~rows.positive).sum())
    if not possible:
        reason, is_doubtful = _impossible(int(support.sum()), negatives, min_support, target), True
    else:
        mean_scores = dict(zip(CANDIDATES, scores_of(totals.sum(2), target).mean(1).tolist(), strict=True))
        is_doubtful = mean_scores[choice] < mean_scores["unchanged"]
        reason = _reason(choice, candidates, mean_scores, target, forced=granularity != "auto")
    decisions = decide(rows.scores, fitted[choice].astype(np.float32))
    return HeadThresholds(
        thresholds=fitted[choice].tolist(),
        choice=choice,
        reason=reason,
        is_doubtful=is_doubtful,
        common=None if math.isnan(fit.common) else fit.common,
        fallback={labels[label]: int(support[label]) for label in np.flatnonzero(fit.fell_back).tolist()},
        rows=number,
        candidates=candidates,
        before=candidates["unchanged"],
        after=_held_out(rounds, None, target) if granularity == "auto" else candidates[choice],
        fitted=metrics_of(rows.counts(decisions), number, target),
    )


def _held_out(rounds: Sequence[_Round], candidates: list[int] | None, target: Target) -> Metrics:
    """Return the metrics of the held-out rows, the mean over the rounds.

    `candidates` has a candidate for each fold; `None` means the chosen candidates.
    """
    metrics = []
    for division in rounds:
        by_fold = division.chosen if candidates is None else candidates
        counts = division.counts[by_fold, range(len(by_fold))].sum(0)
        metrics.append(metrics_of(counts, int(division.totals[0, :, 3].sum()), target))
    return {name: sum(values[name] for values in metrics) / len(metrics) for name in metrics[0]}


def _impossible(positives: int, negatives: int, min_support: int, target: Target) -> str:
    if positives < max(min_support, 1):
        return f"kept as they were: the number of positive labels is {positives}, but min_support is {min_support}"
    if not negatives:
        return "kept as they were: every label applies to every row, so the rows determine no threshold"
    return f"kept as they were: no threshold reaches a precision of {target.precision}"


def _reason(
    choice: str, candidates: Mapping[str, Metrics], scores: Mapping[str, float], target: Target, forced: bool
) -> str:
    shown = {name: _shown(metrics, target) for name, metrics in candidates.items()}
    score = f"{'micro F1 ' * (target.metric == 'f1')}{shown[choice]} on held-out folds"
    if choice == "unchanged":
        within = "; gains within a standard error do not count" if max(scores.values()) > scores[choice] else ""
        return (
            f"kept as they were: {score}, {shown['head']} with one threshold for the head and {shown['label']} with "
            f"one per label{within}"
        )
    kinds = {"head": "one threshold for the head", "label": "one threshold per label"}
    threshold = f"{kinds[choice]}{', as asked' if forced else ''}"
    other = "label" if choice == "head" else "head"
    against = f"{shown['unchanged']} as they were and {shown[other]} with {kinds[other]}"
    worse = "; that is worse than before, and granularity='auto' keeps the better ones"
    return f"{threshold}: {score}, {against}{worse * (scores[choice] < scores['unchanged'])}"


def _shown(metrics: Metrics, target: Target) -> str:
    if target.metric == "f1":
        return f"{metrics['f1_micro']:.3f}"
    if target.metric == "cost":
        return f"a cost of {metrics['cost']:.3f} per row"
    return f"recall {metrics['recall_micro']:.3f} at precision {metrics['precision_micro']:.3f}"

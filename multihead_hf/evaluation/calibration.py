"""Temperature scaling and calibration error."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from ..model.head_multihead import whole_number
from .metrics import MISSING

BINS = 15
# limits of the logarithm of a temperature: beyond them all probabilities are nearly equal, or nearly 0 or 1
_BOUNDS = (np.log(0.05), np.log(50.0))
_NEAR_BOUND = 0.01

Array = npt.NDArray[np.float64]


@dataclass
class HeadCalibration:
    """Result of `calibrate` for one head.

    Args:
        temperature: one number, or one for each label; unchanged where the rows do not determine one.
        is_determined: whether the rows determine the temperature. They do not if the likelihood rises up to the limit
            of the search, or if all rows have the same label.
        rows: number of labelled rows.
        before: `ece` (expected calibration error over 15 bins) and `nll` (mean negative log-likelihood) with the
            previous temperature.
        after: the same with temperatures from the other folds, as an estimate for new rows.
        curve_before: reliability as (mean probability, share of correct rows, count) of each bin with rows, before.
        curve_after: the same with temperatures from the other folds.
    """

    temperature: float | list[float]
    is_determined: bool
    rows: int
    before: dict[str, float]
    after: dict[str, float]
    curve_before: list[tuple[float, float, int]]
    curve_after: list[tuple[float, float, int]]


def reliability(probabilities: Array, right: npt.NDArray[np.bool_], bins: int = BINS) -> list[tuple[float, float, int]]:
    """Return mean probability, share of correct cells and count of each non-empty bin; bins are equally wide."""
    bin_ids = np.minimum((probabilities * bins).astype(int), bins - 1)
    counts, sums, hits = (
        np.bincount(bin_ids, weights=weights, minlength=bins) for weights in (None, probabilities, right.astype(float))
    )
    return [(float(sums[i] / counts[i]), float(hits[i] / counts[i]), int(counts[i])) for i in np.flatnonzero(counts)]


def expected_calibration_error(curve: list[tuple[float, float, int]]) -> float:
    """Return the mean distance between probability and share of correct cells, weighted by counts.

    See [Guo et al. 2017](https://arxiv.org/abs/1706.04599).
    """
    total = sum(count for _, _, count in curve)
    return sum(count * abs(mean - share) for mean, share, count in curve) / max(total, 1)


def sigmoid_nll(logits: Array, targets: Array) -> float:
    """Return the mean negative log-likelihood of cells."""
    return float(np.mean(np.logaddexp(0, logits) - logits * targets))


def softmax_nll(logits: Array, targets: npt.NDArray[np.int64]) -> float:
    """Return the mean negative log-likelihood of rows (rows, labels)."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(targets)), targets].mean())


def best_temperature(loss: Callable[[Array, Any], float], logits: Array, targets: npt.NDArray[Any]) -> float:
    """Return the temperature with the lowest loss; NaN if it is at a limit of the search, or all targets are equal.

    The loss has one minimum in the temperature. Of targets that are all equal it says only how far the logits are on
    their side.
    """
    if not len(targets) or (targets == targets[0]).all():
        return math.nan
    minimum = minimize_scalar(lambda log: loss(logits / np.exp(log), targets), bounds=_BOUNDS, method="bounded")
    low, high = _BOUNDS
    return float(np.exp(minimum.x)) if low + _NEAR_BOUND < minimum.x < high - _NEAR_BOUND else math.nan


def calibrate_head(
    logits: npt.ArrayLike,
    references: npt.ArrayLike,
    multi_label: bool,
    before: float | Sequence[float] | None,
    granularity: str = "head",
    min_support: int = 50,
    folds: int = 5,
    seed: int = 42,
) -> HeadCalibration:
    """Fit the temperature of one head, and estimate its effect by cross-fitting.

    Args:
        logits: (rows, labels), not calibrated.
        references: label ids (rows,), or (rows, labels) with −100 in unknown cells.
        multi_label: whether the head is multi-label.
        before: the previous temperature or temperatures, `None` for 1.
        granularity: `"head"`, or `"label"` for a multi-label head: a temperature for each label with enough rows.
        min_support: known positives, and as many negatives, that a label needs for a separate temperature.
        folds: number of folds of the rows, each evaluated with temperatures from the other folds.
        seed: seed of the division into folds.

    Raises:
        ValueError: If labelled rows are fewer than folds, or `folds` is below 2.
    """
    whole_number("folds", folds, 2)
    whole_number("seed", seed, 0)
    whole_number("min_support", min_support, 0)
    all_targets, cells = np.asarray(references), np.asarray(logits, dtype=np.float64)
    labelled = (all_targets != MISSING).any(1) if multi_label else all_targets != MISSING
    all_targets, cells = all_targets[labelled], cells[labelled]
    if len(all_targets) < folds:
        raise ValueError(f"{len(all_targets)} labelled rows: calibration needs at least {folds}, one per fold")

    previous = np.ones(()) if before is None else np.asarray(before, dtype=np.float64)

    def fit(rows: npt.NDArray[np.bool_]) -> Array:
        """A temperature, or one for each label; NaN where the rows do not determine it."""
        if not multi_label:
            return np.array(best_temperature(softmax_nll, cells[rows], all_targets[rows]))
        fit_logits, targets = cells[rows], all_targets[rows].astype(np.float64)
        known = targets != MISSING
        temperatures = np.full(cells.shape[1], best_temperature(sigmoid_nll, fit_logits[known], targets[known]))
        if granularity == "label":
            for label in range(cells.shape[1]):
                known_rows = known[:, label]
                positives = (targets[known_rows, label] >= 0.5).sum()
                if min(positives, known_rows.sum() - positives) >= min_support:
                    label_temperature = best_temperature(
                        sigmoid_nll, fit_logits[known_rows, label], targets[known_rows, label]
                    )
                    temperatures[label] = temperatures[label] if math.isnan(label_temperature) else label_temperature
        return temperatures

    def usable(temperatures: Array) -> Array:
        return np.where(np.isnan(temperatures), previous, temperatures)

    fold = np.random.default_rng(seed).permutation(len(all_targets)) % folds
    scaled = cells.copy()
    for part in range(folds):
        scaled[fold == part] /= usable(fit(fold != part))
    fitted = fit(np.ones(len(all_targets), dtype=bool))
    metrics_before, curve_before = _worth(cells / previous, all_targets, multi_label)
    metrics_after, curve_after = _worth(scaled, all_targets, multi_label)
    is_single = (not multi_label or granularity == "head") and not (np.isnan(fitted).any() and previous.ndim)
    temperature = float(usable(fitted).flat[0]) if is_single else usable(fitted).tolist()
    determined = not bool(np.isnan(fitted).any())
    return HeadCalibration(
        temperature, determined, len(all_targets), metrics_before, metrics_after, curve_before, curve_after
    )


def _worth(
    logits: Array, references: npt.NDArray[Any], multi_label: bool
) -> tuple[dict[str, float], list[tuple[float, float, int]]]:
    if multi_label:
        known = references != MISSING
        targets = references[known].astype(np.float64)
        nll = sigmoid_nll(logits[known], targets)
        curve = reliability(1 / (1 + np.exp(-logits[known])), targets >= 0.5)
    else:
        nll = softmax_nll(logits, references)
        probabilities = softmax(logits, axis=1)
        curve = reliability(probabilities.max(1), probabilities.argmax(1) == references)
    return {"ece": expected_calibration_error(curve), "nll": nll}, curve

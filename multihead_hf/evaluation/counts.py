"""Counts that are added up batch by batch, and the metrics they define. Their size does not grow with the rows."""

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]

BINS = 2048
_LOGIT_RANGE = 20.0  # larger calibrated logits share the outermost bins


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """Return `part / whole`, 0 where the whole is 0 (scikit-learn's `zero_division=0`)."""
    whole = np.asarray(whole, np.float64)
    result = np.zeros_like(whole)
    np.divide(part, whole, out=result, where=whole > 0)
    return result


def precision_recall_f1(hits: Counts, predicted: Counts, support: Counts) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1, in the shape of the counts: TP, TP + FP and TP + FN."""
    return ratio(hits, predicted), ratio(hits, support), ratio(2 * hits, predicted + support)


def matthews(hits: Counts, predicted: Counts, support: Counts) -> float:
    """Return the Matthews correlation of several classes (Gorodkin 2004, R_K), from confusion matrix margins."""
    rows = support.sum()
    covariance = hits.sum() * rows - predicted @ support
    # The product is computed in float: in int64 it would overflow above about 50,000 rows.
    variance = float(rows**2 - predicted @ predicted) * float(rows**2 - support @ support)
    return float(covariance / np.sqrt(variance)) if variance > 0 else 0.0


class ConfusionCounts:
    """A single-label head's confusion matrix: `matrix` (labels, labels), rows are the true labels."""

    def __init__(self, labels: int) -> None:
        self.matrix: Counts = np.zeros((labels, labels), dtype=np.int64)

    def add(self, decided: npt.NDArray[np.integer], true: npt.NDArray[np.integer]) -> None:
        """Add labelled rows: label ids (rows,) each."""
        labels = len(self.matrix)
        cells = np.bincount(np.asarray(true, np.int64) * labels + decided, minlength=labels * labels)
        self.matrix += cells.reshape(labels, labels)

    @property
    def hits(self) -> Counts:
        """Return the correct rows of each label, (labels,)."""
        return np.diagonal(self.matrix)

    @property
    def predicted(self) -> Counts:
        """Return the rows for which each label was predicted, (labels,)."""
        return self.matrix.sum(0)

    @property
    def support(self) -> Counts:
        """Return the rows that have each label, (labels,)."""
        return self.matrix.sum(1)

    def figures(self, positive: int | None = None) -> dict[str, float]:
        """Return `SINGLE_LABEL_METRICS`; empty without rows.

        With the id of a positive label, `POSITIVE_LABEL_METRICS` are included.
        """
        hits, predicted, support = self.hits, self.predicted, self.support
        if not support.sum():
            return {}
        precision, recall, f1 = precision_recall_f1(hits, predicted, support)
        metrics = {
            "accuracy": hits.sum() / support.sum(),
            "f1_macro": f1.mean(),
            "f1_weighted": np.average(f1, weights=support),
            "precision_macro": precision.mean(),
            "recall_macro": recall.mean(),
            "mcc": matthews(hits, predicted, support),
        }
        if positive is not None:
            metrics |= {"precision": precision[positive], "recall": recall[positive], "f1": f1[positive]}
        return {name: float(value) for name, value in metrics.items()}


class MultiLabelCounts:
    """Counts of a multi-label head by label, and sums over rows.

    `confused` (labels, labels), a sparse matrix, counts rows in which the first label was missed and the second wrongly
    predicted: among many thousands of labels only few pairs occur.
    """

    def __init__(self, labels: int) -> None:
        self.hits, self.predicted, self.support, self.known = (np.zeros(labels, dtype=np.int64) for _ in range(4))
        self.confused = csr_matrix((labels, labels), dtype=np.int64)
        self.rows = self.right_rows = self.wrong_cells = 0
        self._row_sums = np.zeros(3)  # sums of the rows' precision, recall and F1

    def add(self, decided: Bools, positive: Bools, known: Bools) -> None:
        """Add labelled rows: (rows, labels) each; unknown cells are False in the first two."""
        hit = decided & positive
        cells = (hit, decided, positive)
        for total, flags in zip((self.hits, self.predicted, self.support, self.known), (*cells, known), strict=True):
            total += np.count_nonzero(flags, axis=0)
        by_row = precision_recall_f1(*(np.count_nonzero(values, axis=1) for values in cells))
        self._row_sums += [values.sum() for values in by_row]
        wrong = np.count_nonzero(decided != positive, axis=1)
        self.rows += len(decided)
        self.right_rows += int(np.count_nonzero(wrong == 0))
        self.wrong_cells += int(wrong.sum())

    def add_confused(self, decided: Bools, positive: Bools) -> None:
        """Add a batch of the same rows to `confused`."""
        missed, wrong = (csr_matrix(cells, dtype=np.int64) for cells in (positive & ~decided, decided & ~positive))
        self.confused += missed.T @ wrong

    def figures(self) -> dict[str, float]:
        """Return the metrics of `MULTI_LABEL_METRICS` that counts define, except undefined ones.

        The dict is empty without rows.
        """
        if not self.rows:
            return {}
        counts = (self.hits, self.predicted, self.support)
        overall = precision_recall_f1(*(np.asarray(count.sum()) for count in counts))
        present = self.support > 0
        metrics: dict[str, float] = {}
        for name, micro, by_label, row_sum in zip(
            ("precision", "recall", "f1"), overall, precision_recall_f1(*counts), self._row_sums, strict=True
        ):
            metrics |= {f"{name}_micro": float(micro), f"{name}_macro": float(by_label.mean())}
            metrics[f"{name}_samples"] = float(row_sum / self.rows)
            if present.any():
                metrics[f"{name}_macro_present"] = float(by_label[present].mean())
        metrics["accuracy"] = self.right_rows / self.rows
        metrics["accuracy_cells"] = float(1 - self.wrong_cells / self.known.sum())
        return metrics


class ScoreCounts:
    """Counts of positives and negatives by score, for areas under curves: (labels, bins) of calibrated logits.

    Scores in one bin count as equal, so that an area is exact except for pairs within a bin; `areas` also returns the
    largest possible error.
    """

    def __init__(self, labels: int, bins: int = BINS) -> None:
        self._counts: Counts = np.zeros((2, labels, bins), dtype=np.int64)

    def add(self, logits: npt.NDArray[np.floating], positive: Bools, known: Bools) -> None:
        """Add rows: (rows, labels) each."""
        _, labels, bins = self._counts.shape
        bin_ids = ((np.clip(logits, -_LOGIT_RANGE, _LOGIT_RANGE) / _LOGIT_RANGE + 1) * (bins / 2)).astype(np.int64)
        bin_ids = np.minimum(bin_ids, bins - 1) + np.arange(labels) * bins
        for index, cells in enumerate((known & ~positive, positive & known)):
            self._counts[index] += np.bincount(bin_ids[cells], minlength=labels * bins).reshape(labels, bins)

    def best_cut(self) -> tuple[float, float]:
        """Return the calibrated logit that as the threshold of all labels has the highest micro F1, and that F1."""
        negative, positive = (values.sum(0)[::-1].cumsum() for values in self._counts)  # at or above each bin
        f1 = ratio(2.0 * positive, negative + positive + positive[-1])
        best = int(f1.argmax())
        return _LOGIT_RANGE * (1 - 2 * (best + 1) / len(f1)), float(f1[best])

    def figures(self) -> tuple[dict[str, float], float]:
        """Return `roc_auc_*` and `average_precision_*`, without undefined ones, and their largest possible error."""
        negative, positive = self._counts
        is_defined = (negative.sum(1) > 0) & (positive.sum(1) > 0)
        metrics: dict[str, float] = {}
        errors = [0.0]
        if negative.any() and positive.any():
            micro = binned_areas(negative.sum(0), positive.sum(0))
            metrics["roc_auc_micro"], metrics["average_precision_micro"] = micro[:2]
            errors += micro[2:]
        if is_defined.any():
            areas = np.array([binned_areas(negative[label], positive[label]) for label in np.flatnonzero(is_defined)])
            metrics["roc_auc_macro"], metrics["average_precision_macro"] = map(float, areas[:, :2].mean(0))
            errors += areas[:, 2:].mean(0).tolist()
        return metrics, max(errors)


def binned_areas(negative: Counts, positive: Counts) -> tuple[float, float, float, float]:
    """Return the area under the ROC curve, the average precision, and the largest error that binning can cause in each.

    Args:
        negative: counts of negatives (bins,), from the lowest scores to the highest.
        positive: counts of positives (bins,), likewise.
    """
    negative, positive = negative[::-1].astype(np.float64), positive[::-1].astype(np.float64)
    n, p = negative.sum(), positive.sum()
    alarms, hits = negative.cumsum(), positive.cumsum()
    # pairs: a positive before a negative counts 1, in one bin 1/2
    area = ((n - alarms) * positive + negative * positive / 2).sum() / (n * p)
    precision = ratio(hits, hits + alarms)
    average = (positive * precision).sum() / p
    # within a bin the positives might all come first, or all last
    highest = ratio(hits, hits + alarms - negative)
    lowest = ratio(hits - positive + 1, hits - positive + 1 + alarms)
    spread = (positive * np.maximum(highest - precision, precision - lowest)).sum() / p
    return float(area), float(average), float((negative * positive).sum() / (2 * n * p)), float(spread)

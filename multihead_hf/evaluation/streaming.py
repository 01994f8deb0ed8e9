"""Metrics of all heads, computed from batches in memory that does not grow with the number of rows."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from ..model.decoding_multihead import calibrated, decide, not_finite, probabilities, rows_not_finite
from ..model.head_multihead import HeadConfig
from .counts import ConfusionCounts, MultiLabelCounts, ScoreCounts, precision_recall_f1
from .metric_names import MULTI_LABEL_METRICS
from .metrics import MISSING, Bools, multi_label_figures, ranking_figures, with_mean
from .tables import evaluation_table, number

logger = logging.getLogger(__name__)

EXACT_ROWS = 10_000


class StreamingMetrics:
    """`compute_metrics` over batches: exact for all metrics that counts define.

    Areas under curves are exact up to `exact_rows` labelled rows of a head, and binned beyond; `binning_error` is then
    their largest possible error. `print` shows the metrics as a table with a line for each head. `losses` holds
    `<head>_loss` and the combined `loss`, where an evaluation has computed them.

    Args:
        heads: the model's heads, by name.
        exact_rows: number of rows per head whose scores are kept.
    """

    def __init__(self, heads: Mapping[str, HeadConfig], exact_rows: int = EXACT_ROWS) -> None:
        self.heads = heads
        self._exact_rows = exact_rows
        self.binning_error = 0.0
        self.losses: dict[str, float] = {}
        self._rows = dict.fromkeys(heads, 0)  # number of all rows, labelled or not
        self._labelled, self._not_finite = dict.fromkeys(heads, 0), dict.fromkeys(heads, 0)
        self._figures: dict[str, float] | None = None
        self._single = {name: ConfusionCounts(head.num_labels) for name, head in heads.items() if not head.multi_label}
        self._multi = {name: MultiLabelCounts(head.num_labels) for name, head in heads.items() if head.multi_label}
        # multi-label head → logits, positive and known cells of up to `exact_rows` rows, else binned counts
        self._kept: dict[str, list[tuple[Any, Any, Any]]] = {name: [] for name in self._multi}
        self._binned: dict[str, ScoreCounts] = {}
        # multi-label head → lowest and highest probability of a known cell
        self._ranges = dict.fromkeys(self._multi, (math.inf, -math.inf))

    @property
    def labelled_heads(self) -> list[str]:
        """Names of the heads with a labelled row."""
        return [name for name, rows in self._labelled.items() if rows]

    def add(self, logits: Mapping[str, Tensor], references: Mapping[str, Tensor]) -> None:
        """Add a batch of logits and references.

        Args:
            logits: head → logits (rows, labels).
            references: head → label ids (rows,) or cells (rows, labels), −100 where unlabelled.
        """
        self._figures = None
        for name, targets in references.items():
            head = self.heads[name]
            self._rows[name] += len(targets)
            head_logits, true = logits[name].detach().cpu(), targets.detach().cpu()
            labelled = (true != MISSING) if not head.multi_label else (true != MISSING).any(1)
            head_logits, true = head_logits[labelled], true[labelled]
            self._labelled[name] += len(true)
            if wrong := rows_not_finite(head_logits):
                self._not_finite[name] += len(wrong)
                continue
            if not len(true):
                continue
            scores = probabilities(head, head_logits)
            decided = decide(head, scores, logits=calibrated(head, head_logits)).numpy()
            if not head.multi_label:
                self._single[name].add(decided.argmax(1), true.numpy())
                continue
            known = (true != MISSING).numpy()
            positive = (true >= 0.5).numpy() & known
            decided &= known
            self._multi[name].add(decided, positive, known)
            self._multi[name].add_confused(decided, positive)
            self._add_range(name, scores.numpy()[known])
            self._add_scores(name, calibrated(head, head_logits).numpy(), positive, known)

    def _add_range(self, name: str, scores: npt.NDArray[np.floating]) -> None:
        lowest, highest = self._ranges[name]  # (`fmin` and `fmax` ignore NaN)
        self._ranges[name] = (
            float(np.fmin(lowest, np.fmin.reduce(scores))),
            float(np.fmax(highest, np.fmax.reduce(scores))),
        )

    def _add_scores(self, name: str, logits: npt.NDArray[np.floating], positive: Bools, known: Bools) -> None:
        if name not in self._binned and self._multi[name].rows <= self._exact_rows:
            self._kept[name].append((logits, positive, known))
            return
        if name not in self._binned:
            self._binned[name] = ScoreCounts(self.heads[name].num_labels)
            for batch in self._kept.pop(name):
                self._binned[name].add(*batch)
        self._binned[name].add(logits, positive, known)

    def figures(self) -> dict[str, float]:
        """Return `<head>_<metric>` for the heads in their order, then `f1`, the mean of their main scores.

        The keys are those of `compute_metrics`.

        Raises:
            ValueError: If a head's logits are not finite in some rows.
        """
        for name, wrong in self._not_finite.items():
            if wrong:
                raise ValueError(not_finite(name, wrong, self._labelled[name]))
        if self._figures is None:
            self._figures = self._counted_figures()
        return dict(self._figures)

    def _counted_figures(self) -> dict[str, float]:
        self.binning_error = 0.0
        metrics = with_mean(
            self.heads,
            {
                name: self._single_label(name) if name in self._single else self._multi_label(name)
                for name in self.heads
            },
        )
        if self._binned:
            logger.info(
                f"areas under curves of the heads {list(self._binned)} are computed from binned probabilities, as "
                f"they have more than {self._exact_rows:,} rows: the error is {self.binning_error:.2g} at most"
            )
        return metrics

    def rows(self) -> dict[str, tuple[int, int]]:
        """Return head → number of labelled rows, and of all rows."""
        labelled = {name: int(counts.support.sum()) for name, counts in self._single.items()}
        labelled |= {name: counts.rows for name, counts in self._multi.items()}
        return {name: (labelled[name], self._rows[name]) for name in self.heads}

    def single_label_counts(self, name: str) -> ConfusionCounts:
        """Return the counts of a single-label head."""
        return self._single[name]

    def multi_label_counts(self, name: str) -> MultiLabelCounts | None:
        """Return the counts of a multi-label head; `None` for a single-label head."""
        return self._multi.get(name)

    def _counts(self, name: str) -> ConfusionCounts | MultiLabelCounts:
        return self._single[name] if name in self._single else self._multi[name]

    def probability_range(self, name: str) -> tuple[float, float]:
        """Return the lowest and the highest probability of a multi-label head on known cells.

        The first is infinite where no cell is known.
        """
        return self._ranges[name]

    def best_common_threshold(self, name: str) -> tuple[float, float]:
        """Return the threshold for all labels of a multi-label head with the highest micro F1 on these rows, and it.

        Scores are counted in bins of 0.02 in logit space.
        """
        if name in self._binned:
            cut, f1 = self._binned[name].best_cut()
        else:
            counts = ScoreCounts(1)
            for arrays in self._kept[name]:
                counts.add(*(values.reshape(-1, 1) for values in arrays))
            cut, f1 = counts.best_cut()
        return 1 / (1 + math.exp(-cut)), f1

    def table(self, title: str = "") -> str:
        """Return a table with a line for each head: rows, labels, main scores, precision, recall and loss.

        Below it is said of which heads labels without a row lower the macro F1.
        """
        table = evaluation_table(self.heads, self.figures() | self.losses, self.rows(), title)
        return "\n".join([table, *self.absent_labels()])

    def absent_labels(self) -> list[str]:
        """Return a sentence for each head with labelled rows, but none of some of its labels."""
        sentences = []
        for name in self.labelled_heads:
            counts = self._counts(name)
            labels, absent = len(counts.support), int((counts.support == 0).sum())
            if 0 < absent < labels:
                f1 = precision_recall_f1(counts.hits, counts.predicted, counts.support)[2]
                sentences.append(
                    f"{name}: {absent:,} of {labels:,} labels have no row here and count as 0 in F1 macro; over the "
                    f"others it is {number(f1[counts.support > 0].mean())}"
                )
        return sentences

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        descriptions = (
            f"{name}: {labelled:,}{f' of {total:,}' if labelled < total else ''} rows"
            for name, (labelled, total) in self.rows().items()
        )
        return f"{type(self).__name__}({', '.join(descriptions)})"

    def _single_label(self, name: str) -> dict[str, float]:
        return self._single[name].figures(self.heads[name].positive_id)

    def _multi_label(self, name: str) -> dict[str, float]:
        metrics = multi_label_figures(self._multi[name], name)
        if name in self._binned:
            areas, error = self._binned[name].figures()
            self.binning_error = max(self.binning_error, error)
            metrics |= areas
        elif self._kept[name]:
            logits, positive, known = (np.concatenate(arrays) for arrays in zip(*self._kept[name], strict=True))
            metrics |= ranking_figures(logits, positive, known, name)
        return {metric: metrics[metric] for metric in MULTI_LABEL_METRICS if metric in metrics}

    def label_table(self, name: str) -> pd.DataFrame:
        """Return a head's labels with `support` (true), `predicted`, `precision`, `recall`, `f1` and `threshold`."""
        head = self.heads[name]
        counts = self._counts(name)
        precision, recall, f1 = precision_recall_f1(counts.hits, counts.predicted, counts.support)
        thresholds = (head.thresholds or [0.5] * head.num_labels) if head.multi_label else [None] * head.num_labels
        columns = {
            "support": counts.support,
            "predicted": counts.predicted,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "threshold": thresholds,
        }
        return pd.DataFrame(columns, index=pd.Index(head.labels, name="label"))

    def confusion_matrix(self, name: str) -> pd.DataFrame:
        """Return the counts of a single-label head: a row for each true label, a column for each predicted one.

        Raises:
            ValueError: If the head is multi-label; see `confused_labels`.
        """
        if name not in self._single:
            raise ValueError(
                f"head {name!r} is not a single-label head, so it has no confusion matrix: use confused_labels"
            )
        labels = self.heads[name].labels
        return pd.DataFrame(
            self._single[name].matrix, pd.Index(labels, name="true"), pd.Index(labels, name="predicted")
        )

    def confused_matrix(self, name: str) -> pd.DataFrame:
        """Return the counts of `confused_labels`: a row for each missed label, a column for each wrongly predicted one.

        Raises:
            ValueError: If the head is single-label; see `confusion_matrix`.
        """
        if name not in self._multi:
            raise ValueError(f"head {name!r} is not a multi-label head: use confusion_matrix")
        labels = self.heads[name].labels
        return pd.DataFrame(
            self._multi[name].confused.toarray(), pd.Index(labels, name="missed"), pd.Index(labels, name="predicted")
        )

    def confused_labels(self, name: str) -> pd.DataFrame:
        """Return the pairs of labels of a multi-label head that are confused, most frequent first.

        `rows` counts the rows in which `missed` applies and was not predicted, while `predicted` was and does not
        apply.

        Raises:
            ValueError: If the head is single-label; see `confusion_matrix`.
        """
        return confused_pairs(self.confused_matrix(name)).rename(columns={"true": "missed"})


def confused_pairs(confusion: pd.DataFrame) -> pd.DataFrame:
    """Return pairs of different labels with their rows, most frequent first.

    Args:
        confusion: counts (true labels, predicted labels).
    """
    cells, labels = confusion.to_numpy().copy(), list(confusion.index)
    np.fill_diagonal(cells, 0)
    order = np.argsort(-cells, axis=None, kind="stable")[: np.count_nonzero(cells)]
    pairs = [divmod(int(cell), len(labels)) for cell in order]
    return pd.DataFrame(
        [(labels[true], labels[predicted], int(cells[true, predicted])) for true, predicted in pairs],
        columns=["true", "predicted", "rows"],
    )

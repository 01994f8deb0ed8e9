"""Evaluation report of a model, computed from arrays."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ..model.decoding_multihead import calibrated, decide, probabilities, rows_not_finite
from ..model.head_multihead import HeadConfig
from ..utils.messages import counted
from .bootstrap import Difference, Interval, RowCounts, differences, shown_intervals, too_few
from .calibration import expected_calibration_error
from .collapse import messages, weak_heads
from .metric_names import main_score_of, metric_names
from .metrics import MISSING
from .report_pictures import HeadArrays, Picture, file_name, head_pictures, training_pictures
from .streaming import StreamingMetrics, confused_pairs

if TYPE_CHECKING:  # otherwise every training would import scikit-learn's linear models
    from .baseline import BaselineReport, HeadBaseline

FEW_ROWS = 100
"""Metrics on fewer rows say little about other rows."""


@dataclass
class HeadReport:
    """Evaluation of one head.

    Args:
        name: name of the head.
        head: configuration of the head.
        rows: number of labelled rows.
        figures: metric → value.
        intervals: metric → value and interval; metrics that have none, and those that are equal in all bootstrap
            samples, are left out, and so are all metrics with too few rows.
        labels: support, predicted, precision, recall, F1 and threshold by label.
        confused: pairs of labels, most frequent first: `rows` that have `true` and for which `predicted` was predicted.
        mistakes: rows with wrong predictions, those with the highest probabilities first.
        calibration_error: expected calibration error over 15 bins.
        baseline: the linear baseline of the head, if it has one.
        difference: the main score of the model and of the baseline, and the difference with its paired interval.
        pictures: plots of the head.
    """

    name: str
    head: HeadConfig
    rows: int
    figures: dict[str, float]
    intervals: dict[str, Interval]
    labels: pd.DataFrame
    confused: pd.DataFrame
    mistakes: pd.DataFrame
    calibration_error: float
    baseline: "HeadBaseline | None" = None
    difference: Difference | None = None
    pictures: list[Picture] = field(default_factory=list)

    @property
    def main_score(self) -> str:
        """Return the name of the metric that represents the head."""
        return main_score_of(self.head)

    @property
    def main_interval(self) -> str:
        """Return the main score with its interval, or the reason why it is missing."""
        if not self.labels["support"].any():
            return "– (no row has any of its labels)"
        if (interval := self.intervals.get(self.main_score)) is not None:
            return str(interval)
        reason = "too few rows" if too_few(self.rows) else "no interval"
        return f"{self.figures[self.main_score]:.3f} ({reason})"

    @property
    def main_baseline(self) -> str:
        """Return the baseline's main score and, in brackets, the model's score minus it; "–" if it is missing."""
        if self.baseline is None or self.difference is None:
            return "–"
        return f"{self.baseline.figures[self.main_score]:.3f} ({self.difference.difference.value:+.3f})"

    @property
    def difference_interval(self) -> str:
        """Return the interval of the model's main score minus the baseline's, or the reason why it is missing."""
        if self.difference is None or too_few(self.rows):
            return "too few rows for an interval"
        difference = self.difference.difference
        return f"interval {difference.low:+.3f} to {difference.high:+.3f}"

    @property
    def baseline_warning(self) -> str | None:
        """Return a sentence about a linear baseline that is better than the model, else `None`."""
        if self.difference is None or self.difference.difference.value > -0.0005:
            return None
        gap = -self.difference.difference.value
        ahead = f"The linear baseline is ahead of this model by {gap:.3f} in {self.main_score}"
        if too_few(self.rows):
            return f"{ahead}, which may be chance, with {counted(self.rows, 'row')} only."
        if self.difference.verdict == "not shown":
            return f"{ahead}, which may be chance: the interval of the difference contains 0."
        return (
            f"{ahead}: the encoder was not worth its cost here. More epochs or another learning rate may change that; "
            "if they do not, the baseline is the better model."
        )

    def baseline_dict(self) -> dict[str, Any] | None:
        """Return the linear baseline and the difference as JSON values."""
        if self.baseline is None or self.difference is None:
            return None
        return {**self.baseline.to_dict(), "difference": asdict(self.difference.difference)}


@dataclass
class EvaluationReport:
    """Result of `write_report`. `print(report)` shows a summary, `to_dict()` returns plain values.

    Args:
        title: title of the page.
        heads: name → report, for heads with labelled rows.
        unlabelled: heads without a labelled row.
        rows: number of rows of the dataset.
        confidence_level: share of the bootstrap samples that an interval holds.
        training: plots of the training run.
        baseline: the linear baselines, and why heads have none; `None` if no baseline was requested.
        folder: folder of the files.
        split: name of the split of the rows; `None` if it is not known.
        rows_of_table: whether the mistakes have the rows' numbers in the table that was split.
        warnings: sentences on heads that have learned nothing, or whose thresholds should be tuned.

    Example:
        >>> from multihead_hf import MultiHeadModel, write_report
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> report = write_report(model, "complaints.csv", "report", tokenizer=tokenizer, n_resamples=100)
        >>> report.rows, report.heads["topics"].main_score
        (40, 'f1_micro')
    """

    title: str
    heads: dict[str, HeadReport]
    unlabelled: list[str]
    rows: int
    confidence_level: float
    training: list[Picture] = field(default_factory=list)
    baseline: "BaselineReport | None" = None
    folder: Path | None = None
    split: str | None = None
    rows_of_table: bool = False
    warnings: list[str] = field(default_factory=list)

    def number_rows(self, numbers: Sequence[int]) -> None:
        """Give each mistake the number of its row in the table that the evaluated rows were taken from.

        Args:
            numbers: number of each evaluated row.
        """
        positions = list(numbers)  # (a pandas Series would be read by its index)
        for head in self.heads.values():
            head.mistakes["row"] = [positions[row] for row in head.mistakes["row"]]
        self.rows_of_table = True

    @property
    def pictures(self) -> list[Picture]:
        """Return all plots; they contain no text of the dataset."""
        return [*(picture for head in self.heads.values() for picture in head.pictures), *self.training]

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics as JSON values, without plots and mistakes.

        Returns:
            A dict with `title`, `rows`, `heads` and so on, as in `report.json`.
        """
        return {
            "title": self.title,
            "rows": self.rows,
            "split": self.split,
            "confidence_level": self.confidence_level,
            "unlabelled": self.unlabelled,
            "warnings": self.warnings,
            "baseline": self._baseline_dict(),
            "pictures": [
                {"name": picture.name, "title": picture.title, "alt": picture.alt} for picture in self.pictures
            ],
            "heads": {
                name: {
                    "rows": head.rows,
                    "mistakes": len(head.mistakes),
                    "main_score": head.main_score,
                    "figures": head.figures,
                    "intervals": {metric: asdict(interval) for metric, interval in head.intervals.items()},
                    "calibration_error": head.calibration_error,
                    "baseline": head.baseline_dict(),
                    "labels": json.loads(head.labels.to_json(orient="index")),
                    "confused": head.confused.to_dict(orient="records"),
                }
                for name, head in self.heads.items()
            },
        }

    @property
    def has_baselines(self) -> bool:
        """Return whether any head has a linear baseline."""
        return any(head.baseline is not None for head in self.heads.values())

    def _baseline_dict(self) -> dict[str, Any] | None:
        if self.baseline is None:
            return None
        return {**self.baseline.to_dict(), "heads": [name for name, head in self.heads.items() if head.baseline]}

    @property
    def baseline_notes(self) -> list[str]:
        """Return sentences on the linear baselines: where they are better than the model, and which heads have none."""
        if self.baseline is None:
            return []
        if self.baseline.reason is not None:
            return [f"There is no linear baseline: {self.baseline.reason}."]
        warnings = {name: head.baseline_warning for name, head in self.heads.items()}
        ahead = [f"{name}: {warning}" for name, warning in warnings.items() if warning is not None]
        return ahead + [f"{name} has no linear baseline: {reason}." for name, reason in self.baseline.left_out.items()]

    def __str__(self) -> str:
        compared = self.has_baselines
        title = f"{'main score':12}{f'({100 * self.confidence_level:g}% interval)':26}"
        lines = [f"{'head':24}{'rows':>8}{'wrong':>8}  {title}{'linear baseline (difference)' * compared}".rstrip()]
        for name, head in self.heads.items():
            line = f"{name:23} {head.rows:8,}{len(head.mistakes):8,}  {head.main_score:12}{head.main_interval:25} "
            lines.append(f"{line}{head.main_baseline * compared}".rstrip())
        lines += [f"{name:23} {0:8}{'':8}  no row has a label for this head" for name in self.unlabelled]
        lines += self.warnings + self.baseline_notes
        return "\n".join(lines if self.folder is None else [*lines, f"The report is {self.folder / 'report.html'}"])


def make_report(
    heads: Mapping[str, HeadConfig],
    logits: Mapping[str, npt.ArrayLike],
    references: Mapping[str, npt.ArrayLike],
    texts: Sequence[str],
    *,
    title: str = "Report",
    history: Sequence[Mapping[str, Any]] = (),
    baseline: "BaselineReport | None" = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    seed: int = 42,
) -> EvaluationReport:
    """Compute the report from arrays.

    Args:
        heads: the model's heads.
        logits: head → (rows, labels), not calibrated.
        references: head → label ids (rows,), or cells (rows, labels); −100 where unlabelled.
        texts: texts of the rows.
        title: title of the page.
        history: log entries of the training run, as in the Trainer's `state.log_history`.
        baseline: result of `linear_baseline` for the same rows.
        n_resamples: number of bootstrap samples.
        confidence_level: share of the bootstrap samples inside an interval.
        seed: seed of the bootstrap samples.

    Raises:
        ValueError: If no row is labelled for any head, or logits are not finite.
        ImportError: If matplotlib is not installed.
    """
    # imported here, because the Trainer uses this module without plots
    from . import plots

    names = [name for name in heads if name in references and np.not_equal(references[name], MISSING).any()]
    if not names:
        raise ValueError(f"no row of the dataset is labelled for any of the heads {list(heads)}")
    for name in names:
        wrong = rows_not_finite(torch.as_tensor(np.asarray(logits[name])))
        if wrong:
            raise ValueError(
                f"head {name!r}: its logits are not finite (NaN or infinity) in {len(wrong)} rows, the first is row "
                f"{wrong[0]}"
            )
    metrics = StreamingMetrics({name: heads[name] for name in names}, exact_rows=len(texts))
    logit_tensors = {name: torch.as_tensor(np.asarray(logits[name])) for name in names}
    metrics.add(logit_tensors, {name: torch.as_tensor(np.asarray(references[name])) for name in names})
    figures = metrics.figures()
    files: dict[str, str] = {}
    head_reports = {}
    for name in names:
        head, targets = heads[name], np.asarray(references[name])
        kinds = metric_names(head.problem_type, head.positive_label)
        scores = probabilities(head, logit_tensors[name])
        decided = decide(head, scores, logits=calibrated(head, logit_tensors[name])).numpy()
        raw = torch.sigmoid(logit_tensors[name]) if head.multi_label else torch.softmax(logit_tensors[name], -1)
        counts = RowCounts(decided, targets, head.positive_id)
        confusion = metrics.confused_matrix(name) if head.multi_label else metrics.confusion_matrix(name)
        view = HeadArrays(name, head, scores.numpy(), raw.numpy(), decided, targets)
        head_report = HeadReport(
            name,
            head,
            int(counts.labelled.sum()),
            {metric: figures[f"{name}_{metric}"] for metric in kinds if f"{name}_{metric}" in figures},
            shown_intervals(counts, n_resamples, confidence_level, seed),
            metrics.label_table(name),
            confused_pairs(confusion),
            find_mistakes(view, texts),
            expected_calibration_error(view.reliability(view.scores)),
        )
        if baseline is not None and name in baseline.heads and head_report.labels["support"].any():
            head_report.baseline = baseline.heads[name]
            baseline_counts = RowCounts(head_report.baseline.decisions, targets, head.positive_id)
            head_report.difference = differences(counts, baseline_counts, n_resamples, confidence_level, seed)[
                head_report.main_score
            ]
        head_report.pictures = head_pictures(plots, view, head_report, confusion, file_name(name, files))
        head_reports[name] = head_report
    unlabelled = [name for name in heads if name not in head_reports]
    return EvaluationReport(
        title,
        head_reports,
        unlabelled,
        len(texts),
        confidence_level,
        training_pictures(plots, heads, history),
        baseline,
        warnings=messages(weak_heads(metrics)),
    )


def find_mistakes(view: HeadArrays, texts: Sequence[str]) -> pd.DataFrame:
    """Return the rows with a wrong decision in a known cell, highest `score` first.

    The `score` is the confidence in the worst mistake: the probability of a wrongly predicted label, or 1 − the
    probability of a missed label.
    """
    true, known, scores = view.true, view.known, view.scores
    decided = view.decided & known
    wrong = decided != true
    rows: Any = np.flatnonzero(wrong.any(1))
    if view.head.multi_label:
        confidence = np.where(wrong, np.where(decided, scores, 1 - scores), 0.0).max(1)
    else:
        confidence = scores.max(1)
    rows = rows[np.argsort(-confidence[rows], kind="stable")].tolist()
    labels = np.array(view.head.labels, dtype=object)

    def names(cells: npt.NDArray[np.bool_]) -> list[list[str]]:
        return [labels[mask].tolist() for mask in cells[rows]]

    def values(cells: npt.NDArray[np.bool_]) -> list[list[float]]:
        return [scores[row][cells[row]].astype(float).tolist() for row in rows]

    return pd.DataFrame(
        {
            "head": [view.name] * len(rows),
            "row": rows,
            "text": [texts[row] for row in rows],
            "true": names(true),
            "predicted": names(decided),
            "score": confidence[rows].astype(float),
            "true_scores": values(true),
            "predicted_scores": values(decided),
        }
    )

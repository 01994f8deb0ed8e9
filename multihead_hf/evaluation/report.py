"""What a model is good at and where it fails, as one HTML page with its pictures and tables beside it."""

import base64
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import precision_recall_curve

from ..model.decoding_multihead import calibrated, decide, probabilities
from ..model.head_multihead import HeadConfig
from .bootstrap import Difference, Interval, RowCounts, differences, intervals
from .calibration import expected_calibration_error, reliability
from .counts import precision_recall_f1
from .files import write_whole
from .metrics import MISSING, known_and_true, main_score_of, metric_names
from .streaming import StreamingMetrics, confused_pairs

if TYPE_CHECKING:  # else every training would import scikit-learn's linear models
    from .baseline import BaselineReport, HeadBaseline

PAGE = "report.html"
TABLES = ("report.json", "mistakes.csv", "mistakes.parquet")
_HEAD_PICTURES = ("labels", "precision_recall", "thresholds", "reliability", "confusion")
_TRAINING_PICTURES = ("loss", "scores", "rates")
_LINE_POINTS = 400  # of a curve; a picture shows no more
_OWN_LINES = 6  # labels with a line of their own in a picture


@dataclass
class Picture:
    """A picture of the report.

    Args:
        name: of its file, without `.png`.
        title: what it shows.
        alt: the same in a sentence, for those who do not see it.
        data: the PNG file.
    """

    name: str
    title: str
    alt: str
    data: bytes = field(repr=False)

    @property
    def source(self) -> str:
        """For the `src` of an HTML image."""
        return f"data:image/png;base64,{base64.b64encode(self.data).decode()}"


@dataclass
class HeadReport:
    """One head on these rows.

    Args:
        name: of the head.
        head: its configuration.
        rows: labelled rows.
        figures: metric → value.
        intervals: metric → value and interval, of metrics that have one.
        labels: support, predicted, precision, recall, F1 and threshold by label.
        confused: pairs of labels, most frequent first: `rows` that have `true` and for which `predicted` was predicted.
        mistakes: wrong rows, those first of which the model was most sure.
        calibration_error: expected calibration error over 15 bins.
        baseline: the linear baseline of the head, if there is one.
        difference: the main score of the model and of the baseline, and the difference with its paired interval.
        pictures: of the head.
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
        """The metric that stands for the head."""
        return main_score_of(self.head)

    @property
    def main_interval(self) -> str:
        """The main score with its interval, or why there is none."""
        if not self.labels["support"].any():
            return "– (no row has any of its labels)"
        return str(self.intervals[self.main_score])

    @property
    def main_baseline(self) -> str:
        """The main score of the linear baseline, in brackets that of the model less it; "–" if there is no baseline."""
        if self.baseline is None or self.difference is None:
            return "–"
        return f"{self.baseline.figures[self.main_score]:.3f} ({self.difference.difference.value:+.3f})"

    @property
    def baseline_warning(self) -> str | None:
        """A sentence that says that the linear baseline is ahead of the model, where it is."""
        if self.difference is None or self.difference.difference.value > -0.0005:
            return None
        gap = -self.difference.difference.value
        ahead = f"The linear baseline is ahead of this model by {gap:.3f} in {self.main_score}"
        if self.difference.verdict == "not shown":
            return f"{ahead}, which may be chance: the interval of the difference holds 0."
        return (
            f"{ahead}: the encoder was not worth its cost here. More epochs or another learning rate may change that; "
            "if they do not, the baseline is the better model."
        )

    def baseline_dict(self) -> dict[str, Any] | None:
        """The linear baseline and the difference as JSON values."""
        if self.baseline is None or self.difference is None:
            return None
        return {**self.baseline.to_dict(), "difference": asdict(self.difference.difference)}


@dataclass
class Report:
    """What `write_report` wrote. `print(report)` shows the summary, `to_dict()` gives plain values.

    Args:
        title: of the page.
        heads: those with labelled rows, by name.
        unlabelled: heads without one.
        rows: of the data set.
        level: share of the draws that an interval holds.
        training: pictures of the training run.
        baseline: the linear baselines, and why heads have none; `None` if none were asked for.
        folder: where it was written.
    """

    title: str
    heads: dict[str, HeadReport]
    unlabelled: list[str]
    rows: int
    level: float
    training: list[Picture] = field(default_factory=list)
    baseline: "BaselineReport | None" = None
    folder: Path | None = None

    @property
    def pictures(self) -> list[Picture]:
        """All of them; they show no text of the data set."""
        return [*(each for own in self.heads.values() for each in own.pictures), *self.training]

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON values; without pictures and mistakes."""
        return {
            "title": self.title,
            "rows": self.rows,
            "level": self.level,
            "unlabelled": self.unlabelled,
            "baseline": self._baseline_dict(),
            "pictures": [{"name": each.name, "title": each.title, "alt": each.alt} for each in self.pictures],
            "heads": {
                name: {
                    "rows": own.rows,
                    "mistakes": len(own.mistakes),
                    "main_score": own.main_score,
                    "figures": own.figures,
                    "intervals": {metric: asdict(each) for metric, each in own.intervals.items()},
                    "calibration_error": own.calibration_error,
                    "baseline": own.baseline_dict(),
                    "labels": json.loads(own.labels.to_json(orient="index")),
                    "confused": own.confused.to_dict(orient="records"),
                }
                for name, own in self.heads.items()
            },
        }

    @property
    def has_baselines(self) -> bool:
        """Whether any head has a linear baseline."""
        return any(own.baseline is not None for own in self.heads.values())

    def _baseline_dict(self) -> dict[str, Any] | None:
        if self.baseline is None:
            return None
        return {**self.baseline.to_dict(), "heads": [name for name, own in self.heads.items() if own.baseline]}

    @property
    def baseline_notes(self) -> list[str]:
        """Sentences on the linear baselines: which heads it is ahead in, and which heads have none."""
        if self.baseline is None:
            return []
        if self.baseline.reason is not None:
            return [f"There is no linear baseline: {self.baseline.reason}."]
        warnings = {name: own.baseline_warning for name, own in self.heads.items()}
        ahead = [f"{name}: {warning}" for name, warning in warnings.items() if warning is not None]
        return ahead + [f"{name} has no linear baseline: {why}." for name, why in self.baseline.left_out.items()]

    def __str__(self) -> str:
        compared = self.has_baselines
        title = f"{'main score':12}{f'({100 * self.level:g}% interval)':26}"
        lines = [f"{'head':24}{'rows':>8}{'wrong':>8}  {title}{'linear baseline (difference)' * compared}".rstrip()]
        for name, own in self.heads.items():
            line = f"{name:24}{own.rows:8,}{len(own.mistakes):8,}  {own.main_score:12}{own.main_interval:26}"
            lines.append(f"{line}{own.main_baseline * compared}".rstrip())
        lines += [f"{name:24}{0:8}{'':8}  no row is labelled for it" for name in self.unlabelled]
        lines += self.baseline_notes
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
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 42,
) -> Report:
    """The report, from arrays.

    Args:
        heads: the model's heads.
        logits: head → (rows, labels), not calibrated.
        references: head → label ids (rows,), or cells (rows, labels); −100 where they are not known.
        texts: of the rows.
        title: of the page.
        history: log entries of the training run, as the Trainer's `state.log_history` has them.
        baseline: what `linear_baseline` gave for the same rows.
        draws, level, seed: of the bootstrap intervals.

    Raises:
        ValueError: no row is labelled for any head, or logits that are not finite.
        ImportError: matplotlib is missing.
    """
    # here, as the Trainer uses this room without pictures
    from . import plots

    names = [name for name in heads if name in references and np.not_equal(references[name], MISSING).any()]
    if not names:
        raise ValueError(f"no row of the data set is labelled for any of the heads {list(heads)}")
    for name in names:
        broken = np.flatnonzero(~np.isfinite(np.asarray(logits[name])).all(1))
        if len(broken):
            raise ValueError(f"head {name!r}, row {broken[0]}: its logits are not finite; {len(broken)} rows are so")
    metrics = StreamingMetrics({name: heads[name] for name in names}, exact_rows=len(texts))
    logit_tensors = {name: torch.as_tensor(np.asarray(logits[name])) for name in names}
    metrics.add(logit_tensors, {name: torch.as_tensor(np.asarray(references[name])) for name in names})
    figures = metrics.figures()
    files: dict[str, str] = {}
    found = {}
    for name in names:
        head, given = heads[name], np.asarray(references[name])
        kinds = metric_names(head.problem_type, head.positive_label)
        scores = probabilities(head, logit_tensors[name])
        decided = decide(head, scores, logits=calibrated(head, logit_tensors[name])).numpy()
        raw = torch.sigmoid(logit_tensors[name]) if head.multi_label else torch.softmax(logit_tensors[name], -1)
        counts = RowCounts(decided, given, head.positive_id)
        confusion = metrics.confused_matrix(name) if head.multi_label else metrics.confusion_matrix(name)
        view = _View(name, head, scores.numpy(), raw.numpy(), decided, given)
        own = HeadReport(
            name,
            head,
            int(counts.labelled.sum()),
            {metric: figures[f"{name}_{metric}"] for metric in kinds if f"{name}_{metric}" in figures},
            intervals(counts, draws, level, seed),
            metrics.label_table(name),
            confused_pairs(confusion),
            find_mistakes(view, texts),
            expected_calibration_error(view.reliability(view.scores)),
        )
        if baseline is not None and name in baseline.heads and own.labels["support"].any():
            own.baseline = baseline.heads[name]
            others = RowCounts(own.baseline.decisions, given, head.positive_id)
            own.difference = differences(counts, others, draws, level, seed)[own.main_score]
        own.pictures = _head_pictures(plots, view, own, confusion, file_name(name, files))
        found[name] = own
    unlabelled = [name for name in heads if name not in found]
    return Report(title, found, unlabelled, len(texts), level, _training_pictures(plots, heads, history), baseline)


def save_report(report: Report, folder: str | os.PathLike, most: int = 500) -> Report:
    """Write `report.html`, `report.json`, the pictures, and the mistakes as CSV and Parquet.

    Args:
        report: what `make_report` gave.
        folder: is made where it does not exist; other files in it stay.
        most: mistakes of a head on the page; the tables have all.
    """
    place = Path(folder)
    page = _template().render(report=report, most=most, number=_number, percent=_percent, help=_HELP)
    # everything is made before the first file is written
    content = json.dumps(report.to_dict(), ensure_ascii=False, indent=2)
    mistakes = pd.concat([own.mistakes for own in report.heads.values()], ignore_index=True)
    place.mkdir(parents=True, exist_ok=True)
    for picture in report.pictures:
        write_whole(place / f"{picture.name}.png", picture.data)
    buffer = io.BytesIO()
    mistakes.to_parquet(buffer, index=False)
    write_whole(place / "mistakes.parquet", buffer.getvalue())
    flat = mistakes.copy()
    for column in ("true", "predicted"):
        flat[column] = [" | ".join(labels) for labels in flat[column]]
    for column in ("true_scores", "predicted_scores"):
        flat[column] = [" | ".join(f"{score:.4f}" for score in scores) for scores in flat[column]]
    write_whole(place / "mistakes.csv", flat.to_csv(index=False).encode())
    write_whole(place / "report.json", f"{content}\n".encode())
    write_whole(place / PAGE, page.encode())
    report.folder = place
    return report


@dataclass
class _View:
    """Arrays of one head (rows, labels): probabilities, uncalibrated ones, decisions, and of its references (also as
    they were given) which cells are known and which are true."""

    name: str
    head: HeadConfig
    scores: npt.NDArray[Any]
    raw_scores: npt.NDArray[Any]
    decided: npt.NDArray[np.bool_]
    given: npt.NDArray[Any]

    def __post_init__(self) -> None:
        self.known, self.true = known_and_true(self.given, self.head.num_labels)

    def reliability(self, scores: npt.NDArray[Any]) -> list[tuple[float, float, int]]:
        """Of the cells of a multi-label head, and of the predicted label of a single-label one."""
        if self.head.multi_label:
            return reliability(scores[self.known].astype(np.float64), self.true[self.known])
        labelled = self.known.any(1)
        best = scores[labelled].argmax(1)
        return reliability(scores[labelled].max(1).astype(np.float64), best == self.given[labelled])


def find_mistakes(view: Any, texts: Sequence[str]) -> pd.DataFrame:
    """Rows with a wrong decision in a known cell. `score` is how sure the model was of the worst one: the probability
    of a label that it predicted wrongly, 1 − the probability of one that it missed; highest first."""
    true, known, scores = view.true, view.known, view.scores
    decided = view.decided & known
    wrong = decided != true
    rows: Any = np.flatnonzero(wrong.any(1))
    if view.head.multi_label:
        sure = np.where(wrong, np.where(decided, scores, 1 - scores), 0.0).max(1)
    else:
        sure = scores.max(1)
    rows = rows[np.argsort(-sure[rows], kind="stable")].tolist()
    labels = np.array(view.head.labels, dtype=object)

    def names(cells: npt.NDArray[np.bool_]) -> list[list[str]]:
        return [labels[own].tolist() for own in cells[rows]]

    def values(cells: npt.NDArray[np.bool_]) -> list[list[float]]:
        return [scores[row][cells[row]].astype(float).tolist() for row in rows]

    return pd.DataFrame(
        {
            "head": [view.name] * len(rows),
            "row": rows,
            "text": [texts[row] for row in rows],
            "true": names(true),
            "predicted": names(decided),
            "score": sure[rows].astype(float),
            "true_scores": values(true),
            "predicted_scores": values(decided),
        }
    )


def file_name(name: str, taken: dict[str, str]) -> str:
    """A name of a file for a head, whose name may be any text; notes it in `taken`."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower() or "head"
    found, number = plain, 1
    while found in taken:
        number += 1
        found = f"{plain}_{number}"
    taken[found] = name
    return found


def files_of_report(heads: Iterable[str]) -> list[str]:
    """Names of all files that a report on these heads may have."""
    taken: dict[str, str] = {}
    stems = [file_name(name, taken) for name in heads]
    pictures = [f"{stem}_{kind}.png" for stem in stems for kind in _HEAD_PICTURES]
    return [PAGE, *TABLES, *pictures, *(f"training_{kind}.png" for kind in _TRAINING_PICTURES)]


def _head_pictures(plots: Any, view: _View, own: HeadReport, confusion: pd.DataFrame, file: str) -> list[Picture]:
    head, pictures = view.head, []

    def add(kind: str, title: str, figure: Any) -> None:
        pictures.append(Picture(f"{file}_{kind}", title, f"{title} of the head {view.name}", plots.png(figure)))

    if own.labels["support"].any():
        add("labels", "F1 by label", plots.label_bars(own.labels))
    lines, marks = _precision_recall(view)
    if lines:
        figure = plots.curves(lines, "recall", "precision", limits=(0, 1.02), marks=marks)
        add("precision_recall", "Precision and recall", figure)
    if head.multi_label or head.positive_label is not None:
        thresholds = head.thresholds or [0.5]
        places = [min(thresholds), max(thresholds)] if head.multi_label else []
        lines = _threshold_lines(view)
        if lines:
            label = "threshold" if head.multi_label else f"threshold of {plots.short(head.positive_label)}"
            figure = plots.curves(lines, label, "score", limits=(0, 1.02), verticals=sorted(set(places)))
            add("thresholds", "Precision, recall and F1 at a common threshold", figure)
    reliable = {"as decided": view.reliability(view.scores)}
    if head.calibration_temperature is not None:
        reliable["before calibration"] = view.reliability(view.raw_scores)
    lines = {
        f"{name} (error {expected_calibration_error(bins):.3f})": ([b[0] for b in bins], [b[1] for b in bins])
        for name, bins in reliable.items()
    }
    figure = plots.curves(lines, "mean probability", "share that is right", limits=(0, 1.02), diagonal=True)
    add("reliability", "Reliability of the probabilities", figure)
    support = own.labels["support"].to_numpy()
    if not head.multi_label:
        add("confusion", "Confusion matrix", plots.confusion_matrix(confusion, support))
    elif len(own.confused):
        figure = plots.confusion_matrix(confusion, support, "missed", "predicted in its place")
        add("confusion", "Labels that were confused", figure)
    return pictures


def _precision_recall(view: _View) -> tuple[dict[str, Any], dict[str, Any]]:
    """Lines over all cells and of some labels, and the point at which the head decides."""
    head, true, known = view.head, view.true, view.known
    columns: dict[str, Any] = {}
    if head.positive_label is not None:
        columns[head.positive_label] = (slice(None), [head.positive_id])
    else:
        columns["all labels together"] = (slice(None), slice(None))
        if head.num_labels <= _OWN_LINES:
            columns |= {label: (slice(None), [place]) for place, label in enumerate(head.labels)}
    lines: dict[str, Any] = {}
    for name, part in columns.items():
        cells = known[part]
        targets, scores = true[part][cells], view.scores[part][cells]
        if targets.any():
            precision, recall, _ = precision_recall_curve(targets, scores)
            keep = _thinned(len(recall))
            lines[name] = (recall[keep], precision[keep])
    first = next(iter(columns.values()))
    decided, targets = (view.decided & known)[first], true[first]
    precision, recall, _ = precision_recall_f1(
        *(np.asarray(each.sum()) for each in (decided & targets, decided, targets))
    )
    return lines, {"where it decides": ([float(recall)], [float(precision)])} if lines else {}


def _threshold_lines(view: _View) -> dict[str, Any]:
    """Precision, recall and F1 over all cells, or of the positive label, at each common threshold."""
    part: Any = (slice(None), slice(None))
    if view.head.positive_label is not None:
        part = (slice(None), [view.head.positive_id])
    cells = view.known[part]
    targets, scores = view.true[part][cells], view.scores[part][cells]
    if not targets.any():
        return {}
    order = np.argsort(scores, kind="stable")
    places = np.linspace(0, 1, 201)
    first = np.searchsorted(scores[order], places)  # the first score that reaches the threshold
    above = np.append(np.cumsum(targets[order][::-1])[::-1], 0)
    hits, predicted = above[first], len(scores) - first
    found = precision_recall_f1(hits, predicted, np.full(len(places), targets.sum()))
    return {name: (places, values) for name, values in zip(("precision", "recall", "F1"), found, strict=True)}


def _thinned(points: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, points - 1, min(points, _LINE_POINTS)).astype(np.int64))


def _training_pictures(
    plots: Any, heads: Mapping[str, HeadConfig], history: Sequence[Mapping[str, Any]]
) -> list[Picture]:
    """Losses, main scores and learning rates over the run, as far as they were logged."""

    def lines(wanted: Callable[[str], bool]) -> dict[str, tuple[list[float], list[float]]]:
        found: dict[str, tuple[list[float], list[float]]] = {}
        for entry in history:
            for key, value in entry.items():
                if wanted(key) and isinstance(value, (int, float)) and math.isfinite(value) and "epoch" in entry:
                    x, y = found.setdefault(key, ([], []))
                    x.append(entry["epoch"])
                    y.append(value)
        return {key: points for key, points in found.items() if len(points[0]) > 1}

    main = {f"{name}_{main_score_of(head)}" for name, head in heads.items()}
    losses = {"loss", *(f"{name}_loss" for name in heads)}

    def evaluated(key: str, kinds: set[str]) -> bool:
        # (`eval_<metric>`, or `eval_<set>_<metric>` of one of several sets)
        return key.startswith("eval_") and any(key.endswith(f"_{kind}") for kind in kinds)

    kinds = (
        ("loss", "Losses of the training run", "loss", lambda key: key in losses or evaluated(key, losses)),
        ("scores", "Scores while training", "score", lambda key: evaluated(key, {"f1", *main})),
        ("rates", "Learning rates", "learning rate", lambda key: key.startswith("learning_rate")),
    )
    pictures = []
    for kind, title, label, wanted in kinds:
        points = lines(wanted)
        if kind == "rates" and len(points) > 1:
            points.pop("learning_rate", None)  # that of the first group
        if points:
            figure = plots.curves(points, "epoch", label)
            pictures.append(Picture(f"training_{kind}", title, f"{title}, by epoch", plots.png(figure)))
    return pictures


def _template() -> jinja2.Template:
    source = resources.files(__package__).joinpath("report_template.html").read_text(encoding="utf-8")
    # strict, as a misspelt name would be an empty text
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(source)


def _number(value: Any, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return f"{100 * value:g}%"


_HELP = {
    "accuracy": "rows that are right in every label",
    "accuracy_cells": "right decisions over all labels; easily high with many rare labels",
    "f1_micro": "over all labels together",
    "f1_macro": "mean over the labels",
    "f1_macro_present": "mean over the labels that occur here",
    "f1_samples": "mean over the rows",
    "f1_weighted": "mean over the labels, weighted by their rows",
    "mcc": "Matthews correlation: 0 is chance, 1 is perfect",
}

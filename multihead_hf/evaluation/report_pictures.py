"""Plots of a report."""

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import precision_recall_curve

from ..model.head_multihead import HeadConfig
from .calibration import expected_calibration_error, reliability
from .counts import precision_recall_f1
from .metric_names import main_score_of
from .metrics import known_and_true

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .report import HeadReport

HEAD_PICTURES = ("labels", "precision_recall", "thresholds", "reliability", "confusion")
TRAINING_PICTURES = ("loss", "scores", "rates")
_LINE_POINTS = 400  # maximum number of points of a curve
_OWN_LINES = 6  # maximum number of labels with a separate line in a plot


@dataclass
class Picture:
    """A plot of the report.

    Args:
        name: name of its file, without `.png`.
        title: short description.
        alt: description in a sentence, for screen readers.
        data: the PNG file.
    """

    name: str
    title: str
    alt: str
    data: bytes = field(repr=False)

    @property
    def source(self) -> str:
        """Return the plot as the `src` of an HTML image."""
        return f"data:image/png;base64,{base64.b64encode(self.data).decode()}"


@dataclass
class HeadArrays:
    """Arrays of one head, (rows, labels) each.

    They are the probabilities, the uncalibrated probabilities, the decisions, the references as given (label ids
    (rows,) for a single-label head), and which cells of these are known and which are true.
    """

    name: str
    head: HeadConfig
    scores: npt.NDArray[Any]
    raw_scores: npt.NDArray[Any]
    decided: npt.NDArray[np.bool_]
    given: npt.NDArray[Any]

    def __post_init__(self) -> None:
        self.known, self.true = known_and_true(self.given, self.head.num_labels)

    def reliability(self, scores: npt.NDArray[Any]) -> list[tuple[float, float, int]]:
        """Return the reliability of all cells (multi-label) or of the predicted label (single-label)."""
        if self.head.multi_label:
            return reliability(scores[self.known].astype(np.float64), self.true[self.known])
        labelled = self.known.any(1)
        best = scores[labelled].argmax(1)
        return reliability(scores[labelled].max(1).astype(np.float64), best == self.given[labelled])


def file_name(name: str, taken: dict[str, str]) -> str:
    """Return a unique file name for a head, whose name may be any text, and add it to `taken`."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_").lower() or "head"
    stem, number = plain, 1
    while stem in taken:
        number += 1
        stem = f"{plain}_{number}"
    taken[stem] = name
    return stem


def head_pictures(
    plots: ModuleType, view: HeadArrays, report: "HeadReport", confusion: pd.DataFrame, file: str
) -> list[Picture]:
    """Return the plots of one head."""
    head, pictures = view.head, []

    def add(kind: str, title: str, figure: "Figure") -> None:
        pictures.append(Picture(f"{file}_{kind}", title, f"{title} of the head {view.name}", plots.png(figure)))

    if report.labels["support"].any():
        add("labels", "F1 by label", plots.label_bars(report.labels))
    lines, marks = _precision_recall(view)
    if lines:
        figure = plots.curves(lines, "recall", "precision", limits=(0, 1.02), marks=marks)
        add("precision_recall", "Precision and recall", figure)
    if head.multi_label or head.positive_label is not None:
        thresholds = head.thresholds or [0.5]
        verticals = [min(thresholds), max(thresholds)] if head.multi_label else []
        lines = _threshold_lines(view)
        if lines:
            label = "threshold" if head.multi_label else f"threshold of {plots.short(head.positive_label)}"
            figure = plots.curves(lines, label, "score", limits=(0, 1.02), verticals=sorted(set(verticals)))
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
    support = report.labels["support"].to_numpy()
    if not head.multi_label:
        add("confusion", "Confusion matrix", plots.confusion_matrix(confusion, support))
    elif len(report.confused):
        figure = plots.confusion_matrix(confusion, support, "missed", "predicted instead")
        add("confusion", "Labels that were confused", figure)
    return pictures


def _precision_recall(view: HeadArrays) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return curves over all cells and for single labels, and the point at the head's thresholds."""
    head, true, known = view.head, view.true, view.known
    columns: dict[str, Any] = {}
    if head.positive_label is not None:
        columns[head.positive_label] = (slice(None), [head.positive_id])
    else:
        columns["all labels together"] = (slice(None), slice(None))
        if head.num_labels <= _OWN_LINES:
            columns |= {label: (slice(None), [index]) for index, label in enumerate(head.labels)}
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
        *(np.asarray(mask.sum()) for mask in (decided & targets, decided, targets))
    )
    return lines, {"at the saved thresholds": ([float(recall)], [float(precision)])} if lines else {}


def _threshold_lines(view: HeadArrays) -> dict[str, Any]:
    """Return precision, recall and F1 over all cells, or of the positive label, at each common threshold."""
    part: Any = (slice(None), slice(None))
    if view.head.positive_label is not None:
        part = (slice(None), [view.head.positive_id])
    cells = view.known[part]
    targets, scores = view.true[part][cells], view.scores[part][cells]
    if not targets.any():
        return {}
    order = np.argsort(scores, kind="stable")
    thresholds = np.linspace(0, 1, 201)
    first = np.searchsorted(scores[order], thresholds)  # index of the first score that reaches the threshold
    above = np.append(np.cumsum(targets[order][::-1])[::-1], 0)
    hits, predicted = above[first], len(scores) - first
    curves = precision_recall_f1(hits, predicted, np.full(len(thresholds), targets.sum()))
    return {name: (thresholds, values) for name, values in zip(("precision", "recall", "F1"), curves, strict=True)}


def _thinned(points: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, points - 1, min(points, _LINE_POINTS)).astype(np.int64))


def training_pictures(
    plots: ModuleType, heads: Mapping[str, HeadConfig], history: Sequence[Mapping[str, Any]]
) -> list[Picture]:
    """Return plots of the losses, main scores and learning rates of the run, where they were logged."""

    def lines(matches: Callable[[str], bool]) -> dict[str, tuple[list[float], list[float]]]:
        series: dict[str, tuple[list[float], list[float]]] = {}
        for entry in history:
            for key, value in entry.items():
                if matches(key) and isinstance(value, (int, float)) and math.isfinite(value) and "epoch" in entry:
                    x, y = series.setdefault(key, ([], []))
                    x.append(entry["epoch"])
                    y.append(value)
        # (sorted, because the keys of a resumed run are sorted)
        return {key: series[key] for key in sorted(series) if len(series[key][0]) > 1}

    main = {f"{name}_{main_score_of(head)}" for name, head in heads.items()}
    losses = {"loss", *(f"{name}_loss" for name in heads)}

    def evaluated(key: str, kinds: set[str]) -> bool:
        # (`eval_<metric>`, or `eval_<dataset>_<metric>` with several datasets)
        return key.startswith("eval_") and any(key.endswith(f"_{kind}") for kind in kinds)

    kinds = (
        ("loss", "Losses of the training run", "loss", lambda key: key in losses or evaluated(key, losses)),
        ("scores", "Scores while training", "score", lambda key: evaluated(key, {"f1", *main})),
        ("rates", "Learning rates", "learning rate", lambda key: key.startswith("learning_rate")),
    )
    pictures = []
    for kind, title, label, is_shown in kinds:
        points = lines(is_shown)
        if kind == "rates" and len(points) > 1:
            points.pop("learning_rate", None)  # the rate of the first group
        if points:
            figure = plots.curves(points, "epoch", label)
            pictures.append(Picture(f"training_{kind}", title, f"{title}, by epoch", plots.png(figure)))
    return pictures

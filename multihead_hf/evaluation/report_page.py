"""HTML page of a report, with its plots and tables as files."""

import io
import json
import math
import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import jinja2
import pandas as pd

from ..data.readers_text import no_formula
from ..utils.files import write_whole
from .report import EvaluationReport
from .report_pictures import HEAD_PICTURES, TRAINING_PICTURES, file_name

PAGE = "report.html"
TABLES = ("report.json", "mistakes.csv", "mistakes.parquet")


def save_report(report: EvaluationReport, folder: str | os.PathLike, max_mistakes: int = 500) -> EvaluationReport:
    """Write `report.html`, `report.json`, the plots, and the mistakes as CSV and Parquet.

    Args:
        report: result of `make_report`.
        folder: folder of the files, created if it does not exist; files of an earlier report are replaced, others stay.
        max_mistakes: maximum number of mistakes per head on the page; the tables contain all of them.
    """
    directory = Path(folder)
    page = _template().render(
        report=report, max_mistakes=max_mistakes, number=_number, percent=_percent, meaning=_meaning
    )
    # all content is created before the first file is written
    content = json.dumps(report.to_dict(), ensure_ascii=False, indent=2)
    tables = [head.mistakes for head in report.heads.values()]
    mistakes = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    directory.mkdir(parents=True, exist_ok=True)
    before = _files_of_earlier_report(directory)
    for picture in report.pictures:
        write_whole(directory / f"{picture.name}.png", picture.data)
    buffer = io.BytesIO()
    mistakes.to_parquet(buffer, index=False)
    write_whole(directory / "mistakes.parquet", buffer.getvalue())
    flat = mistakes.copy()
    for column in ("true", "predicted"):
        flat[column] = [" | ".join(labels) for labels in flat[column]]
    for column in ("true_scores", "predicted_scores"):
        flat[column] = [" | ".join(f"{score:.4f}" for score in scores) for scores in flat[column]]
    for column in flat.select_dtypes(exclude="number"):
        flat[column] = [no_formula(cell) if isinstance(cell, str) else cell for cell in flat[column]]
    write_whole(directory / "mistakes.csv", flat.rename(columns=no_formula).to_csv(index=False).encode())
    write_whole(directory / "report.json", f"{content}\n".encode())
    write_whole(directory / PAGE, page.encode())
    for name in before - {PAGE, *TABLES, *(f"{picture.name}.png" for picture in report.pictures)}:
        (directory / name).unlink(missing_ok=True)
    report.folder = directory
    return report


def _files_of_earlier_report(folder: Path) -> set[str]:
    """Return the names of the files that the report in a folder may have; an empty set without a report."""
    try:
        heads = json.loads((folder / "report.json").read_text(encoding="utf-8"))["heads"]
        return set(files_of_report(heads))
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def files_of_report(heads: Iterable[str]) -> list[str]:
    """Return the names of all files that a report on these heads may have."""
    taken: dict[str, str] = {}
    stems = [file_name(name, taken) for name in heads]
    pictures = [f"{stem}_{kind}.png" for stem in stems for kind in HEAD_PICTURES]
    return [PAGE, *TABLES, *pictures, *(f"training_{kind}.png" for kind in TRAINING_PICTURES)]


def _template() -> jinja2.Template:
    source = resources.files(__package__).joinpath("report_template.html").read_text(encoding="utf-8")
    # strict, because a misspelt name would otherwise become an empty string
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(source)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _percent(value: float) -> str:
    return f"{100 * value:g}%"


_KINDS = {
    "f1": "harmonic mean of precision and recall",
    "precision": "share of the predicted labels that are right",
    "recall": "share of the true labels that are found",
    "roc_auc": "probability that a row with the label scores higher than one without; 0.5 is chance",
    "average_precision": "mean precision over all thresholds (area under the precision-recall curve)",
}
_AREAS = ("roc_auc", "average_precision")
_MEANS = {
    "micro": "over all labels together",
    "macro": "mean over all labels; one without a row here counts as 0",
    "macro_present": "mean over the labels that occur here",
    "samples": "mean over the rows; one without true and predicted labels counts as 0",
    "weighted": "mean over the labels, weighted by their rows",
}


def _meaning(metric: str, multi_label: bool) -> str:
    """Return in words what a metric of a report is."""
    whole = {
        "accuracy": "share of the rows whose labels are all right"
        if multi_label
        else "share of the rows that are right",
        "accuracy_cells": "right decisions over all labels; easily high with many rare labels",
        "mcc": "Matthews correlation: 0 is chance, 1 is perfect",
    }
    if metric in whole:
        return whole[metric]
    kind = max((kind for kind in _KINDS if metric.startswith(kind)), key=len, default="")
    mean = _MEANS.get(metric.removeprefix(kind).strip("_"), "")
    if kind in _AREAS and metric.endswith("macro"):
        mean = "mean over the labels that some rows here have and others do not"
    return "; ".join(part for part in (_KINDS.get(kind, ""), mean) if part)

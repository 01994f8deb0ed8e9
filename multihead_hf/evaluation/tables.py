"""Table of an evaluation: a line for each head. Consoles, notebooks and commands show the same one."""

import math
from collections.abc import Mapping

from .metric_names import MULTI_LABEL, MetricHead, main_score_name

NAME_WIDTH = 24
NO_NUMBER = "-"

_LOSS = {"loss": "loss"}
_SINGLE_LABEL = {"accuracy": "accuracy", "F1 macro": "f1_macro", "precision": "precision_macro"}
_SINGLE_LABEL |= {"recall": "recall_macro", **_LOSS}
_POSITIVE_LABEL = {**_SINGLE_LABEL, "F1": "f1", "precision": "precision", "recall": "recall"}
_MULTI_LABEL = {"F1 micro": "f1_micro", "F1 macro": "f1_macro", "precision": "precision_micro"}
_MULTI_LABEL |= {"recall": "recall_micro", **_LOSS}
_COLUMNS = ("accuracy", "F1", "F1 micro", "F1 macro", "precision", "recall", "loss")


def evaluation_table(
    heads: Mapping[str, MetricHead],
    figures: Mapping[str, float],
    rows: Mapping[str, tuple[int, int]] | None = None,
    title: str = "",
) -> str:
    """Return the table of one evaluation: the combined loss and the mean F1, then a line for each head.

    Precision and recall are micro averages of a multi-label head, those of the positive label of a head that has one,
    and macro averages of other single-label heads. Columns in which no head has a number are left out.

    Args:
        heads: the model's heads, by name.
        figures: `<head>_<metric>`, `<head>_loss`, `f1` and `loss`, without the prefix of the evaluation.
        rows: head → labelled rows and all rows; `None` leaves the two columns out.
        title: beginning of the first line, such as the epoch.

    Returns:
        Lines of text, aligned for a monospaced font.
    """
    summary = [title] if title else []
    summary += [
        f"{caption} {number(figures[key])}" for key, caption in (("loss", "loss"), ("f1", "mean F1")) if key in figures
    ]
    columns = {name: _cells(name, head, figures, rows) for name, head in heads.items()}
    titles = ("labels", "rows", "unlabelled", *_COLUMNS)
    shown = [
        column for column in titles if any(cells.get(column, NO_NUMBER) != NO_NUMBER for cells in columns.values())
    ]
    lines = [["head", *shown]]
    lines += [
        [short_name(name), *(cells.get(column, NO_NUMBER) for column in shown)] for name, cells in columns.items()
    ]
    return "\n".join((["  ".join(summary)] if summary else []) + aligned(lines))


def _cells(
    name: str, head: MetricHead, figures: Mapping[str, float], rows: Mapping[str, tuple[int, int]] | None
) -> dict[str, str]:
    """Return title of a column → text of its cell for a head."""
    cells = {"labels": f"{len(head.labels):,}"}
    if rows is not None:
        labelled, total = rows.get(name, (0, 0))
        cells["rows"] = f"{labelled:,}"
        if labelled < total:
            cells["unlabelled"] = f"{total - labelled:,}"
    for title, metric in shown_metrics(head).items():
        cells[title] = number(figures.get(f"{name}_{metric}"))
    return cells


def shown_metrics(head: MetricHead) -> dict[str, str]:
    """Return the metrics of a head in the table: title of the column → name of the metric."""
    if head.problem_type == MULTI_LABEL:
        return _MULTI_LABEL
    main = main_score_name(head.problem_type, head.positive_label)
    return _POSITIVE_LABEL if main == "f1" else _SINGLE_LABEL


def aligned(lines: list[list[str]], left: int = 1) -> list[str]:
    """Return rows of cells as lines of text: the first `left` columns aligned left, the other columns right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ["<" if column < left else ">" for column in range(len(widths))]
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(line, sides, widths, strict=True)).rstrip()
        for line in lines
    ]


def number(value: float | None) -> str:
    """Return a number in six characters or a few more, and a dash for `None`."""
    if value is None or not math.isfinite(value):
        return NO_NUMBER
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def short_name(name: str) -> str:
    """Return a head's name, shortened to `NAME_WIDTH` characters."""
    return name if len(name) <= NAME_WIDTH else f"{name[: NAME_WIDTH - 3]}..."

"""Plots of a head's metrics and of a training run, as matplotlib figures. Needs the extra `plots`."""

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

try:
    from matplotlib.figure import Figure
except ImportError:
    raise ImportError('pictures need matplotlib: pip install "multihead-hf[plots]"') from None

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#1f5fa8", "#c0504d", "#3a8a4d", "#7b5ea7", "#c98a1b", "#3b8ea5", "#8c564b", "#666666")
_SHOWN = 28  # maximum number of characters of a label
_NUMBERS_UP_TO = 20  # maximum number of labels of a confusion matrix with numbers in its cells
_MOST_LABELS = 120  # more labels in one plot are not legible


def png(figure: Figure, dots: int = 110) -> bytes:
    """Return the figure as a PNG file, without the time or the program that wrote it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def label_bars(table: pd.DataFrame) -> Figure:
    """Plot the F1 of each label as a bar, best first, with its support.

    Labels without a row are left out, and of more than 120 labels those with the fewest rows.

    Args:
        table: a row for each label, with the columns `f1` and `support`, as `label_table` returns it.
    """
    table = table[table["support"] > 0].nlargest(_MOST_LABELS, "support").sort_values("f1", kind="stable")
    figure = Figure(figsize=(7, 0.9 + 0.24 * max(len(table), 2)))
    axes = figure.subplots()
    axes.barh(range(len(table)), table["f1"], color=COLOURS[0], height=0.7)
    for position, (f1, support) in enumerate(zip(table["f1"], table["support"], strict=True)):
        axes.text(f1 + 0.01, position, f"{f1:.2f}  (n = {support:,})", va="center", fontsize=8)
    axes.set_yticks(range(len(table)), [short(label) for label in table.index], fontsize=8)
    axes.set(xlim=(0, 1.22), ylim=(-0.6, len(table) - 0.4), xlabel="F1 (n: rows that have the label)")
    axes.set_xticks(np.linspace(0, 1, 6))
    _plain(axes)
    return figure


def confusion_matrix(
    counts: pd.DataFrame, support: npt.NDArray[np.int64], true: str = "true", predicted: str = "predicted"
) -> Figure:
    """Plot counts as colours, each as a share of the rows that have the true label; with numbers up to 20 labels.

    Of more than 120 labels, those confused most are shown.

    Args:
        counts: (labels, labels), a row for each true label.
        support: (labels,), number of rows that have the label.
        true: title of the rows.
        predicted: title of the columns.
    """
    if len(counts) > _MOST_LABELS:
        wrong = counts.to_numpy() * (1 - np.eye(len(counts), dtype=np.int64))
        indices = np.sort(np.argsort(-(wrong.sum(0) + wrong.sum(1)), kind="stable")[:_MOST_LABELS])
        counts, support = counts.iloc[indices, indices], support[indices]
    cells, labels = counts.to_numpy(), [short(label) for label in counts.index]
    shares = cells / np.maximum(support[:, None], 1)
    size = 1.6 + (0.62 if len(labels) <= _NUMBERS_UP_TO else 0.19) * len(labels)
    figure = Figure(figsize=(size + 1.2, size))
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=max(0.1, float(shares.max())))
    letters = 9 if len(labels) <= _NUMBERS_UP_TO else 7
    axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=letters)
    axes.set_yticks(range(len(labels)), labels, fontsize=letters)
    axes.set(xlabel=predicted, ylabel=true)
    if len(labels) <= _NUMBERS_UP_TO:
        for row, column in np.ndindex(cells.shape):
            colour = "white" if shares[row, column] > 0.55 * shares.max() else "black"
            axes.text(column, row, f"{cells[row, column]:,}", ha="center", va="center", color=colour, fontsize=9)
    figure.colorbar(image, ax=axes, label="share of the label's rows", fraction=0.04, pad=0.03)
    return figure


def curves(
    lines: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]],
    xlabel: str,
    ylabel: str,
    *,
    limits: tuple[float, float] | None = None,
    diagonal: bool = False,
    marks: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
    verticals: Sequence[float] = (),
) -> Figure:
    """Plot lines by name.

    Args:
        lines: name → x and y.
        xlabel: title of the x axis.
        ylabel: title of the y axis.
        limits: limits of both axes.
        diagonal: whether a dashed line `x = y` is shown.
        marks: name → x and y of points.
        verticals: x of dashed vertical lines.
    """
    figure = Figure(figsize=(6.2, 3.9))
    axes = figure.subplots()
    bases = list(dict.fromkeys(name.removeprefix("eval_") for name in lines))
    for name, (x, y) in lines.items():
        index = bases.index(name.removeprefix("eval_"))
        # evaluation curves are dashed, in the colour of the training curve
        dashed = (name.startswith("eval_") and name.removeprefix("eval_") in lines) or index >= len(COLOURS)
        few = "o" if np.size(x) < 25 else None
        colour, style = COLOURS[index % len(COLOURS)], "--" if dashed else "-"
        axes.plot(x, y, style, color=colour, label=short(name), marker=few, markersize=3, linewidth=1.6)
    for name, (x, y) in (marks or {}).items():
        axes.plot(x, y, "o", color="black", label=name, markersize=6)
    for vertical in verticals:
        axes.axvline(vertical, color="#999999", linestyle=":", linewidth=1)
    if diagonal:
        axes.plot([0, 1], [0, 1], "--", color="#999999", linewidth=1)
    if limits is not None:
        axes.set(xlim=limits, ylim=limits)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    _plain(axes)
    if lines or marks:
        axes.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2)
    return figure


def short(label: object) -> str:
    """Return as many characters of a label as fit into a plot."""
    text = " ".join(str(label).split())
    # (matplotlib reads text after a dollar sign as a formula, and a legend omits names with a leading underscore)
    text = (text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…").replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)

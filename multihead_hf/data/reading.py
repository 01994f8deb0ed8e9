"""How labels are read from rows: options of the caller, settings that heads remember, and errors for unclear cells."""

import datetime
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, TypeAlias, TypedDict

import numpy as np
import pandas as pd
from datasets import ClassLabel, Value

from ..model.head_multihead import HeadConfig, near_names
from ..model.reading_multihead import LabelReading
from ..utils.messages import counted

# option → the setting of `LabelReading` that it sets
OPTIONS = {"label_columns": "column", "sep": "sep", "empty": "empty", "multi_hot": "multi_hot"}

Number: TypeAlias = bool | int | float | Decimal


class ReadingOptions(TypedDict, total=False):
    """How the labels of the heads are read. Each option is one value for all heads, or a dict head → value.

    These options take precedence over what a head remembers (`HeadConfig.reading`), and `reading` takes precedence over
    the other options.

    Args:
        label_columns: the column of the labels, or a list of columns, one for each label.
        sep: the separator between the labels in the cells of multi-label heads, such as `"|"`.
        empty: what an empty cell of such a column, or of a column for one label, means: `"missing"` (unlabelled) or
            `"none"` (no label applies).
        multi_hot: whether lists of integers hold 0 or 1 for each label, or label ids.
        reading: a dict head → `LabelReading`, or a dict of its settings.
    """

    label_columns: str | Mapping[str, str | Sequence[str]] | None
    sep: str | Mapping[str, str] | None
    empty: str | Mapping[str, str] | None
    multi_hot: bool | Mapping[str, bool] | None
    reading: Mapping[str, LabelReading | Mapping[str, Any]] | None


def check_keywords(options: Mapping[str, Any], function: Callable) -> None:
    """Check that all keyword arguments exist.

    Raises:
        ValueError: If the function does not have a keyword argument; the message suggests similar names.
    """
    names = [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind != parameter.VAR_KEYWORD
    ]
    for name in options:
        if name not in ReadingOptions.__annotations__:
            near = near_names(name, [*names, *ReadingOptions.__annotations__], 0.5)
            raise ValueError(
                f"Unexpected keyword argument {name!r}.{near} {function.__name__} takes {', '.join(names)}, and for "
                f"the labels {', '.join(ReadingOptions.__annotations__)}"
            )


def check_values(options: Mapping[str, Any]) -> None:
    """Check the values of the options.

    Raises:
        ValueError: If an option has an invalid value; the message contains the option.
    """
    for option, setting in OPTIONS.items():
        value = options.get(option)
        for head_value in value.values() if isinstance(value, Mapping) else [value]:
            try:
                LabelReading(**{setting: head_value})
            except ValueError as error:
                raise ValueError(f"{option}: {error}" if option != setting else str(error)) from None


def said_readings(heads: Iterable[str], options: Mapping[str, Any]) -> dict[str, LabelReading]:
    """Return what the options state about each head.

    Raises:
        ValueError: If an option is for a head that does not exist, or has an invalid value.
    """
    known = list(heads)
    check_values(options)
    settings: dict[str, dict[str, Any]] = {name: {} for name in known}
    for option, setting in OPTIONS.items():
        value = options.get(option)
        by_head = value if isinstance(value, Mapping) else dict.fromkeys(known, value)
        _check_heads(option, by_head, known)
        for name, head_value in by_head.items():
            if head_value is not None:
                settings[name][setting] = head_value
    ready = options.get("reading") or {}
    _check_heads("reading", ready, known)
    for name, head_reading in ready.items():
        try:
            settings[name].update(LabelReading.of(head_reading).to_dict())
        except ValueError as error:
            raise ValueError(f"head {name!r}: {error}") from None
    return {name: LabelReading(**head_settings) for name, head_settings in settings.items()}


def label_readings(
    heads: Mapping[str, HeadConfig | None], options: Mapping[str, Any], columns: Iterable[str] | None = None
) -> dict[str, LabelReading]:
    """Return how the labels of each head are read: as the options state, else as the head remembers.

    Args:
        heads: the heads by name; `None` for a head whose labels are still to be inferred.
        options: see `ReadingOptions`.
        columns: columns of the rows; a remembered column that is not among them, or that the options assign to another
            head, is left out.

    Raises:
        ValueError: If `said_readings` raises it, or several heads would read one column and no option decides between
            them.
    """
    option_readings = said_readings(heads, options)
    taken = {column for reading in option_readings.values() for column in column_names(reading.column or [])}
    known = None if columns is None else set(columns) - taken
    readings = {}
    claimed: dict[str, str] = {}
    for name, head in heads.items():
        remembered = {} if head is None or head.reading is None else head.reading.to_dict()
        column = remembered.get("column", name)
        if known is not None and "column" in remembered and not known.issuperset(column_names(column)):
            del remembered["column"]
        elif known is not None and isinstance(column, str) and column in known and option_readings[name].column is None:
            other = claimed.setdefault(column, name)
            if other != name:
                raise ValueError(
                    f"the heads {other!r} and {name!r} would both read their labels from the column {column!r}: "
                    f"choose the head of this column, label_columns={{{other!r}: {column!r}}} or "
                    f"{{{name!r}: {column!r}}} (--label-column {other}={column} or {name}={column})"
                )
        readings[name] = LabelReading(**{**remembered, **option_readings[name].to_dict()})
    return readings


def remember_readings(heads: Mapping[str, HeadConfig], options: Mapping[str, Any]) -> None:
    """Store the options in the heads; for a single-label head only the column matters."""
    for name, reading in said_readings(heads, options).items():
        head = heads[name]
        new = {key: value for key, value in reading.to_dict().items() if head.multi_label or key == "column"}
        if new:
            head.reading = LabelReading(**{**(head.reading.to_dict() if head.reading is not None else {}), **new})


def separator_for_all(heads: Mapping[str, HeadConfig | None], options: Mapping[str, Any]) -> set[str]:
    """Return the heads still to be inferred whose separator was given only for all heads at once.

    Some of their columns may have one label in each row.
    """
    if not isinstance(options.get("sep"), str) or len(heads) == 1:
        return set()
    ready = {name: LabelReading.of(reading) for name, reading in (options.get("reading") or {}).items()}
    return {name for name, head in heads.items() if head is None and (name not in ready or ready[name].sep is None)}


def string_columns(heads: Mapping[str, HeadConfig | None], options: Mapping[str, Any]) -> set[str]:
    """Return the columns whose cells in CSV files are read as strings.

    They may hold joined labels, or labels of which several mean one number ("1" and "1.0").
    """
    for_all = separator_for_all(heads, options)
    columns: set[str] = set()
    for name, reading in label_readings(heads, options).items():
        head = heads[name]
        joined = reading.sep is not None and name not in for_all and (head is None or head.multi_label)
        alike = head is not None and not head.multi_label and len(set(map(meaning, head.labels))) < head.num_labels
        if joined or alike:
            label_columns = [reading.column] if isinstance(reading.column, str) else []
            columns.update([*label_columns, name, *usual_columns(name)])
    return columns


def usual_columns(name: str) -> list[str]:
    """Return the columns that may hold a head's labels besides the one that has its name."""
    return [f"{name}_labels", f"{name}_label"]


def column_names(column: str | Sequence[str]) -> list[str]:
    """Return the names of one column, or of several, as a list."""
    return [column] if isinstance(column, str) else list(column)


def _check_heads(option: str, values: Mapping[str, Any], known: list[str]) -> None:
    for name in values:
        if name not in known:
            raise ValueError(f"{option}: there is no head {name!r}.{near_names(name, known)} Heads: {known}")


# ---- cells ----


def is_missing(value: object) -> bool:
    """Return whether a value is `None`, NaN, `pandas.NA` or `pandas.NaT`, which means unlabelled."""
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return value is None or value is pd.NA or value is pd.NaT


def class_name(value: object) -> str:
    """Return the label name of a plain value: `"False"`, `"True"`, or `str(value)`.

    Whole floats (integers in a data frame column with missing values) are written as integers, and points in time as
    ISO 8601, without a time of 00:00.
    """
    if isinstance(value, datetime.datetime):
        is_day = value.time() == datetime.time() and value.tzinfo is None
        # (a pandas timestamp has nanoseconds, which its time() leaves out)
        value = value.date() if is_day and not getattr(value, "nanosecond", 0) else value
        return value.isoformat()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def class_names(values: Iterable[Any]) -> dict[Any, str]:
    """Return value → label name; among numbers with a fraction (1.5), whole ones have one, too (`"1.0"`)."""
    values = list(values)
    if any(isinstance(value, float) and not value.is_integer() for value in values):
        return {value: str(value) for value in values}
    return {value: class_name(value) for value in values}


def as_written(value: Any, feature: ClassLabel | Value | None) -> Any:  # noqa: ANN401 (any cell)
    """Return a number of half or single precision as it was written: 0.1 and not 0.10000000149011612."""
    if isinstance(value, (float, np.floating)) and feature is not None and feature.dtype in ("float16", "float32"):
        return float(str(np.dtype(feature.dtype).type(value)))
    return value


def meaning(label: str | Number) -> tuple[type, Any]:
    """Return what a label means as a boolean or number, the same for each of its spellings; else its text.

    A file or data frame may store labels as values (true, 1, 2.0) whose names are spelled in another way ("TRUE", "01",
    "2.00").
    """
    if isinstance(label, Decimal):
        label = float(label)
    if isinstance(label, str):
        try:
            truth = {"true": True, "false": False}.get(label.lower())
            value: bool | int | float = float(label) if truth is None else truth
            if truth is None and "." not in label and "e" not in label.lower():
                value = int(label)
        except ValueError:
            return str, label
        if "_" in label or not label.isascii() or label != label.strip():
            return str, label
        label = value
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return type(label), label


def is_spelled(value: Number, label: str) -> bool:
    """Return whether a label is written as a boolean or number is; it has the same meaning."""
    return label == str(value) or isinstance(value, bool) or label in (class_name(value), str(float(value)))


def spellings(labels: Sequence[str]) -> dict[Any, list[str]]:
    """Return meaning → labels that have it."""
    groups: dict[Any, list[str]] = {}
    for label in labels:
        groups.setdefault(meaning(label), []).append(label)
    return groups


def joined_text(value: object, feature: ClassLabel | Value | None, sep: str) -> str:
    """Return the text of a cell of joined labels.

    It is an empty string where the cell is missing or consists of blanks and separators.
    """
    if is_missing(value) or (isinstance(feature, ClassLabel) and value == -1):
        return ""
    text = feature.int2str(value) if isinstance(feature, ClassLabel) else class_name(as_written(value, feature))
    return text if split_joined(text, sep) else ""


def split_joined(text: str, sep: str) -> list[str]:
    """Return the labels of a cell, without blanks around them."""
    return [part.strip() for part in text.split(sep) if part.strip()]


def ask_about_empty_cells(what: str, cells: str) -> ValueError:
    """Return the error that asks what an empty cell of joined labels means.

    Args:
        what: head and column.
        cells: which cells are empty.
    """
    return ValueError(
        f'{what}: {cells}. Say what an empty cell means: empty="none" if none of the labels applies, empty="missing" '
        "if the row is not labelled (on the command line --empty none or --empty missing)."
    )


def empty_cells(empty: int, rows: int, first: int) -> str:
    """Return how many cells are empty, as text for `ask_about_empty_cells`."""
    return f"{empty:,} of {rows:,} cells {'is' if empty == 1 else 'are'} empty (the first is row {first})"


def check_not_zeros_and_ones(what: str, lists: Iterable[Any], width: int | None = None, begin: int = 0) -> None:
    """Check that lists of integers can be read in one way only.

    Args:
        what: head and column.
        lists: the cells of a column of lists of integers.
        width: number of labels, where it is known.
        begin: number of the first row.

    Raises:
        ValueError: If all lists hold 0 and 1 only and are of one length, but for empty ones: they may be 0 or 1 for
            each label, or label ids. (Lists of one integer can be either only where the head has one label.)
    """
    first: tuple[int, Any] | None = None
    count = empty = 0
    are_ids = True  # as far as can be seen: ids of some labels are usually in order, and none is repeated
    for row, value in enumerate(lists, start=begin):
        if value is None:
            continue
        if not len(value):  # no label applies, or the row is not labelled
            empty += 1
            continue
        first = first or (row, value)
        if len(value) != len(first[1]) or not {0, 1}.issuperset(value):
            return
        are_ids = are_ids and all(one < following for one, following in pairwise(value))
        count += 1
    if first is None or (width is not None and len(first[1]) != width):
        return
    row, value = first
    if (empty and are_ids) or (len(value) == 1 and width is None):  # such as [0, 1] and [], or [0] and [1]
        return
    hold = "the list holds" if count == 1 else f"all {count:,} lists{' that are not empty' if empty else ''} hold"
    raise ValueError(
        f"{what}: {hold} {counted(len(value), 'integer')}, each of them 0 or 1 (the first is {list(value)} in row "
        f"{row}). Say what they are: multi_hot=True if they hold 0 or 1 for each label, multi_hot=False if they are "
        "label ids (on the command line --multi-hot or --no-multi-hot)."
    )

"""Columns of a table, and what kind of values they hold."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, Features, IterableDataset, LargeList, List, Value

from ..model.head_multihead import near_names
from ..model.values_multihead import is_blank
from .frames import table_of
from .readers_text import DELIMITERS, split
from .reading import column_names, is_missing
from .sources import FIRST_ROWS


def features_of(dataset: Dataset | IterableDataset) -> Features:
    """Return the types of the columns.

    For a stream that does not state its types, they are those of its first rows. A column without a value in these rows
    has the type `null`.

    Raises:
        ValueError: If a column holds values of several types; the message contains the row.
    """
    if dataset.features is not None:
        return dataset.features
    return table_of(list(dataset.take(FIRST_ROWS)), "the stream").features


def has_columns(rows: Dataset | IterableDataset, columns: str | Sequence[str]) -> bool:
    """Return whether the rows have all of these columns."""
    return set(column_names(columns)) <= set(features_of(rows))


def check_column(columns: Iterable[str], column: str, what: str) -> None:
    """Check that a column exists.

    Raises:
        ValueError: If `column` is not one of `columns`; the message suggests similar names.
    """
    known = list(columns)
    if column not in known:
        raise ValueError(f"{what}: there is no column {column!r}.{column_hint(column, known)} Columns: {known}")


def column_hint(column: str, known: Sequence[str]) -> str:
    """Return a hint for a column that does not exist: similar names, or the delimiter that would give it."""
    delimiters = [other for other in DELIMITERS if any(column in split(name, other) for name in known)]
    if delimiters:
        return f" The columns seem to be separated by {delimiters[0]!r}: give it as delimiter (--delimiter)."
    return near_names(column, known)


def is_list(feature: object) -> bool:
    """Return whether the values of this type are lists."""
    return isinstance(feature, (List, LargeList))


def is_multi_hot(values: Value, asked: bool) -> bool:
    """Return whether lists with values of this type hold 0 or 1 for each label."""
    return values.dtype == "bool" or values.dtype.startswith("float") or (asked and "int" in values.dtype)


def feature_of(features: Features | None, column: str, what: str) -> ClassLabel | Value:
    """Return the type of a label column, or of the values in its lists; `null` where no row has a value.

    Raises:
        ValueError: If the column cannot hold labels.
    """
    feature: Any = (features or {}).get(column)
    inner = feature.feature if is_list(feature) else feature
    if not isinstance(inner, (ClassLabel, Value)) or inner.dtype in ("binary", "large_binary"):
        raise ValueError(
            f"{what}, column {column!r}: labels must be strings, booleans, integers or ClassLabel, or lists of them, "
            f"but this column is {feature}"
        )
    if is_list(feature) and not isinstance(inner, ClassLabel) and not _may_be_in_lists(inner):
        raise ValueError(
            f"{what}, column {column!r}: lists of labels must hold strings, booleans, numbers or ClassLabel, but these "
            f"hold values of type {inner.dtype}. Store the labels as strings"
        )
    return inner


def _may_be_in_lists(value: Value) -> bool:
    kinds = ("string", "large_string", "bool", "int", "uint", "float", "null")
    return value.dtype.startswith(kinds)


def check_named(where: str, labels: Sequence[Any]) -> None:
    """Check that no label is missing, empty or infinite.

    Raises:
        ValueError: If one of the labels is missing, an empty text, has no visible character, or is an infinite number.
    """
    for label in labels:
        if is_missing(label):
            raise ValueError(f"{where}: {with_gap(labels)}")
        if isinstance(label, float) and math.isinf(label):
            raise ValueError(f"{where}: {label} is not a label. Give None for an unlabelled row")
        if isinstance(label, str) and is_blank(label):
            raise ValueError(
                f"{where}: {label!r} is not a label. Leave the cell of an unlabelled row empty (None); in a column of "
                "lists, give an empty list for a row to which no label applies"
            )


def check_ids(what: str, labels: Sequence[str]) -> None:
    """Check that integers in lists can only be positions in the list of labels, and not names of labels.

    Raises:
        ValueError: If the head's labels are integers that differ from their positions.
    """
    numbers = [label for position, label in enumerate(labels) if label != str(position) and label.isdecimal()]
    if len(numbers) == len(labels) or (numbers and all(label.isdecimal() for label in labels)):
        raise ValueError(
            f"{what}: integers in lists are positions in the list of labels (0 to {len(labels) - 1}), but the labels "
            f"of the head are numbers themselves, {list(labels[:8])}: store the labels in the lists as strings"
        )


def with_gap(value: object) -> str:
    """Return the message for a list of labels in which a label is missing."""
    return f"{value!r} holds a missing label; leave it out, or leave the whole list out"


def said_twice(label: object, value: object) -> str:
    """Return the message for a list of label ids that contains a duplicate."""
    return f"label id {label} is given twice in {value!r}; for lists of 0/1 set multi_hot=True (--multi-hot)"


def check_label_column(features: Features, column: str, what: str) -> None:
    """Check that a column can state for one label whether it applies.

    Raises:
        ValueError: If the column does not hold booleans, integers or floats.
    """
    feature = features[column]
    kinds = ("bool", "int", "uint", "float", "null")
    if not isinstance(feature, Value) or not feature.dtype.startswith(kinds):
        raise ValueError(
            f"{what}, column {column!r}: a column for one label must hold booleans, 0/1 or numbers from 0 to 1, "
            f"not {feature}"
            + (
                "; write 1 where the label applies, and 0 where it does not, in place of a text (numbers of a CSV file "
                "are texts where 0.5 stands beside 0.30: write all with one number of decimals)" * is_text(feature)
            )
        )


def is_text(feature: object) -> bool:
    """Return whether the values of this type are strings."""
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")

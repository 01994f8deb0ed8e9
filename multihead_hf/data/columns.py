"""Columns of a table, and what kind of values they hold."""

from collections.abc import Iterable, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, Features, IterableDataset, LargeList, List, Value

from ..model.head_multihead import near_names
from .frames import table_of
from .reading import (
    column_names,
)
from .sources import FIRST_ROWS


def features_of(dataset: Dataset | IterableDataset) -> Features:
    """The columns' types; of a stream that does not say, those of its first rows, in which a column may have no value:
    its type is `null` then.

    Raises:
        ValueError: values of several types in a column; names the row.
    """
    if dataset.features is not None:
        return dataset.features
    return table_of(list(dataset.take(FIRST_ROWS)), "the stream").features


def has_columns(rows: Dataset | IterableDataset, columns: str | Sequence[str]) -> bool:
    return set(column_names(columns)) <= set(features_of(rows))


def check_column(columns: Iterable[str], column: str, what: str) -> None:
    """Raises:
        ValueError: `column` is not one of `columns`; names near ones.
    """
    known = list(columns)
    if column not in known:
        raise ValueError(f"{what}: there is no column {column!r}.{near_names(column, known)} Columns: {known}")


def is_list(feature: Any) -> bool:
    return isinstance(feature, (List, LargeList))


def is_multi_hot(values: Any, asked: bool) -> bool:
    """Whether lists with values of this feature say 0/1 for each label."""
    return values.dtype == "bool" or values.dtype.startswith("float") or (asked and "int" in values.dtype)


def feature_of(features: Features | None, column: str, what: str) -> Any:
    """The feature of a label column, or of the values in its lists; of type `null` where no row has a value.

    Raises:
        ValueError: it cannot be a label column.
    """
    feature: Any = (features or {}).get(column)
    inner = feature.feature if is_list(feature) else feature
    if not isinstance(inner, (ClassLabel, Value)) or inner.dtype in ("binary", "large_binary"):
        raise ValueError(
            f"{what}, column {column!r}: labels are strings, booleans, integers or ClassLabel, or lists of them, "
            f"and this column is {feature}"
        )
    return inner


def check_named(where: str, labels: Iterable[Any]) -> None:
    """Raises:
        ValueError: one of the labels is an empty text, or one of blanks.
    """
    for label in labels:
        if isinstance(label, str) and not label.strip():
            raise ValueError(
                f"{where}: {label!r} is no label. A row to which no label applies has an empty list, and one that is "
                "not labelled None"
            )


def said_twice(label: Any, value: Any) -> str:
    """What is wrong with a list of label ids that holds one of them twice."""
    return f"label id {label} is given twice in {value!r}; for lists of 0/1 say multi_hot=True (--multi-hot)"


def check_label_column(features: Features, column: str, what: str) -> None:
    """Raises:
        ValueError: a column cannot say of one label whether it applies.
    """
    feature = features[column]
    kinds = ("bool", "int", "uint", "float", "null")
    if not isinstance(feature, Value) or not feature.dtype.startswith(kinds):
        raise ValueError(
            f"{what}, column {column!r}: a column for one label holds booleans, 0/1 or shares, not {feature}"
        )


def is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")

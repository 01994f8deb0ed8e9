"""Conversion of label cells to targets: ids, multi-hot rows, and the mark for unlabelled rows."""

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from datasets import ClassLabel, Dataset, Features, IterableDataset
from transformers.utils import logging

from ..model.head_multihead import HeadConfig, near_names
from ..model.losses_multihead import MISSING
from ..model.reading_multihead import LabelReading
from .columns import (
    check_column,
    check_ids,
    check_label_column,
    feature_of,
    features_of,
    is_list,
    is_multi_hot,
    is_text,
    said_twice,
    with_gap,
)
from .label_columns import LabelColumns
from .label_warnings import SEPARATORS, warn_of_another_column, warn_of_another_spelling
from .reading import (
    Number,
    as_written,
    ask_about_empty_cells,
    check_not_zeros_and_ones,
    class_name,
    column_names,
    empty_cells,
    is_missing,
    is_spelled,
    joined_text,
    label_readings,
    meaning,
    spellings,
    split_joined,
    usual_columns,
)
from .sources import FIRST_ROWS, column_batches
from .unknown_labels import UnknownLabel

logger = logging.get_logger(__name__)

_CELLS = {0: 0.0, 1: 1.0, None: float(MISSING)}


class LabelEncoder(NamedTuple):
    """Encoder of the values of a label column, or of a column for each label, as a head's targets."""

    name: str
    head: HeadConfig
    column: str | list[str]
    feature: Any  # type of the values, or of the values in lists
    ids: dict[str, int]
    reading: LabelReading
    joined: bool = False  # whether a cell holds labels with a separator between them
    spellings: Mapping[Any, list[str]] = {}  # meaning of a value → labels with that meaning

    def encode(self, batch: Mapping[str, Sequence[Any]], rows: Sequence[int]) -> list[int | list[float] | None]:
        """Return the targets of a batch of columns; `None` where a row is unlabelled.

        Raises:
            ValueError: If a value is not one of the head's labels; the message contains the head, column and row.
        """
        if not isinstance(self.column, str):
            cells = zip(*(batch[label] for label in self.head.labels), strict=True)
            return [self._label_columns(row_cells, row) for row_cells, row in zip(cells, rows, strict=True)]
        values = batch[self.column]
        if self.joined:
            return [self._joined(value, row) for value, row in zip(values, rows, strict=True)]
        encode_row = self._multi_label if self.head.multi_label else self._single_label
        if self.head.multi_label and self.feature.dtype == "null" and self.reading.multi_hot is None:
            # a stream without a value in its first rows: the first batch with lists decides
            lists = (value if self._is_list(value) and all(map(_is_integer, value)) else None for value in values)
            check_not_zeros_and_ones(self.what, lists, self.head.num_labels, rows[0])
        if not self.head.multi_label:
            values = [None if isinstance(value, str) and not value else value for value in values]
        return [None if is_missing(value) else encode_row(value, row) for value, row in zip(values, rows, strict=True)]

    @property
    def what(self) -> str:
        """Return head and column, for messages."""
        return f"head {self.name!r}, column {self.column!r}"

    def read_with(self) -> dict[str, Any]:
        """Return the reading options that apply to the column."""
        keys: tuple[str, ...] = ("sep", "empty") if self.joined else ("empty",) * (not isinstance(self.column, str))
        if self.head.multi_label and isinstance(self.column, str) and not self.joined and self._integers():
            keys = ("multi_hot",)
        return {key: value for key, value in self.reading.to_dict().items() if key in keys}

    def _integers(self) -> bool:
        return not isinstance(self.feature, ClassLabel) and self.feature.dtype.startswith(("int", "uint"))

    def check_column(self, dataset: Dataset | IterableDataset) -> None:
        """Check that the cells of the column can be read in one way only.

        Of a stream, only the first rows are checked; an empty cell in a later row is an error when it is read.

        Raises:
            ValueError: If cells can be read in two ways and no option decides between them.
        """
        if not isinstance(self.column, str):
            if self.reading.empty is None:
                LabelColumns(self.column).add_first_rows(dataset).check(f"head {self.name!r}")
            return
        if self.head.multi_label and not self.joined and self._integers() and self.reading.multi_hot is None:
            check_not_zeros_and_ones(self.what, self._first_cells(dataset), self.head.num_labels)
        if self.joined and self.reading.empty is None and isinstance(dataset, Dataset):
            cells = enumerate(self._first_cells(dataset))
            empty = [row for row, cell in cells if not self._is_list(cell) and not self._text(cell)]
            if empty:
                raise ask_about_empty_cells(self.what, empty_cells(len(empty), len(dataset), empty[0]))

    def _first_cells(self, dataset: Dataset | IterableDataset) -> Iterator[Any]:
        """Return the cells of the column; for a stream those of its first rows, which may lack it."""
        if not isinstance(dataset, Dataset):
            return (row.get(self.column) for row in dataset.with_format(None).take(FIRST_ROWS))
        assert isinstance(self.column, str)
        return (cell for batch in column_batches(dataset, [self.column]) for cell in batch[self.column])

    def _is_list(self, cell: object) -> bool:
        return isinstance(cell, (list, tuple))  # in a stream without declared types

    def _text(self, cell: object) -> str:
        assert self.reading.sep is not None
        return joined_text(cell, self.feature, self.reading.sep)

    def _joined(self, value: object, row: int) -> list[float] | None:
        if self._is_list(value):
            return self._multi_label(value, row)
        text = self._text(value)
        if not text and self.reading.empty is None:
            raise ask_about_empty_cells(self.what, f"the cell of row {row} is empty")
        if not text and self.reading.empty == "missing":
            return None
        targets = [0.0] * self.head.num_labels
        for label in split_joined(text, str(self.reading.sep)):
            targets[self._id(label, row)] = 1.0
        return targets

    def _label_columns(self, cells: Sequence[Any], row: int) -> list[float] | None:
        if self.reading.empty == "none":
            cells = [0 if is_missing(cell) else cell for cell in cells]
        elif all(is_missing(cell) for cell in cells):
            return None
        return self._multi_hot(cells, row)

    def _single_label(self, value: object, row: int) -> int:
        if isinstance(value, (list, tuple)):
            raise self._error(row, f"{value!r} is a list, but this single-label head takes one label per row")
        if isinstance(self.feature, ClassLabel):
            if value == -1:
                return MISSING  # `datasets` marks a missing class as -1
            value = self.feature.int2str(value)
        if isinstance(value, (bool, int, float)) or self.feature.dtype.startswith("decimal"):
            return self._id(self._spelled(as_written(value, self.feature), row), row)
        if isinstance(value, datetime.datetime):  # ISO 8601, or as pandas writes it
            names = (class_name(value), value.isoformat(), str(value))
            return self._id(next((name for name in names if name in self.ids), names[0]), row)
        if isinstance(value, str) and value not in self.ids:
            kind, truth = meaning(value)
            if kind is bool and (kind, truth) in self.spellings:  # as in a file of strings
                value = self._spelled(truth, row)
        return self._id(class_name(value), row)

    def _spelled(self, value: Number, row: int) -> str:
        """Return the label with the value of a boolean or number, however the label is spelled."""
        labels = self.spellings.get(meaning(value), [])
        labels = [str(value)] if self.feature.dtype.startswith("decimal") and str(value) in labels else labels
        if len(labels) > 1:
            raise self._error(row, f"{value!r} may be each of the labels {labels}: store this column's labels as text")
        if labels and not is_spelled(value, labels[0]):
            warn_of_another_spelling(self.what, value, labels[0])
        return labels[0] if labels else class_name(value)

    def _multi_label(self, value: object, row: int) -> list[float]:
        if not isinstance(value, (list, tuple)):
            raise self._error(
                row,
                f"{value!r} is one label, but this multi-label head takes a list of labels (or a string with sep=)",
            )
        if not isinstance(self.feature, ClassLabel) and self._says_cells(value):
            return self._multi_hot(value, row)
        targets = [0.0] * self.head.num_labels
        for label in value:
            if is_missing(label):
                raise self._error(row, with_gap(value))
            label_id = self._label_id(label, row)
            if targets[label_id] and not isinstance(label, str):
                raise self._error(row, said_twice(label, value))
            targets[label_id] = 1.0
        return targets

    def _says_cells(self, value: Sequence[Any]) -> bool:
        """Return whether a list holds 0 or 1 per label; its values decide if the type of the column is unknown."""
        if self.feature.dtype != "null":
            return is_multi_hot(self.feature, bool(self.reading.multi_hot))
        known = [cell for cell in value if not is_missing(cell)]
        counts = self.reading.multi_hot and all(isinstance(cell, int) for cell in known)
        return bool(known) and (counts or all(isinstance(cell, (bool, float)) for cell in known))

    def _label_id(self, label: Any, row: int) -> int:  # noqa: ANN401 (an id or a name)
        if isinstance(self.feature, ClassLabel):
            if not 0 <= label < self.feature.num_classes:
                raise self._error(
                    row, f"class {label} is out of range: the column has {self.feature.num_classes} classes"
                )
            return self._id(self.feature.int2str(label), row)
        if isinstance(label, str):
            return self._id(label, row)
        if not 0 <= label < self.head.num_labels:
            last = self.head.num_labels - 1
            raise self._error(row, f"label id {label} is out of range: the head's ids are 0 to {last}")
        return int(label)

    def _multi_hot(self, cells: Sequence[Any], row: int) -> list[float]:
        if len(cells) != self.head.num_labels:
            raise self._error(
                row, f"a multi-hot list of {len(cells)} cells, but the head has {self.head.num_labels} labels"
            )
        with contextlib.suppress(KeyError):  # the fast path
            return [_CELLS[cell] for cell in cells]
        targets = [float(MISSING) if is_missing(cell) else float(cell) for cell in cells]
        for label, target in zip(self.head.labels, targets, strict=True):
            if target != MISSING and not 0.0 <= target <= 1.0:
                raise self._error(
                    row, f"cell {label!r} is {target}; a cell must be 0, 1, a number between them (soft), or None"
                )
        return targets

    def _id(self, label: str, row: int) -> int:
        if label not in self.ids:
            known = ", ".join(repr(name) for name in self.head.labels[:8]) + (", …" if self.head.num_labels > 8 else "")
            near = near_names(label, self.head.labels)
            near = self._joined_by(label) or near
            problem = f"{label!r} is not one of the head's {self.head.num_labels} labels.{near} Labels: {known}"
            raise UnknownLabel(str(self._error(row, problem)), label, self.name)
        return self.ids[label]

    def _joined_by(self, label: str) -> str:
        """Return the advice for a cell that joins several of the head's labels, else an empty string."""
        for separator in SEPARATORS if self.joined else ():
            parts = split_joined(label, separator)
            if len(parts) > 1 and self.ids.keys() >= set(parts):
                return f" Its labels are joined by {separator!r}: sep={separator!r} (--sep {separator!r})."
        return ""

    def _error(self, row: int, problem: str) -> ValueError:
        return ValueError(f"{self.what}, row {row}: {problem}")


def _is_integer(cell: object) -> bool:
    return isinstance(cell, int) and not isinstance(cell, bool)


def label_encoders(
    dataset: Dataset | IterableDataset,
    heads: Mapping[str, HeadConfig],
    options: Mapping[str, Any],
    require_labels: bool = True,
    features: Features | None = None,
) -> dict[str, LabelEncoder]:
    """Return head → encoder, for the heads that have a column.

    Args:
        dataset: the rows.
        heads: the heads by name.
        options: see `ReadingOptions`.
        require_labels: refuse rows without a column for any head, and warn of heads without one.
        features: the columns' types, where they are known already.

    Raises:
        ValueError: If a named column or head does not exist, a column cannot hold labels of its head or can be read in
            two ways, or no head has a column.
    """
    features = features_of(dataset) if features is None else features
    encoders: dict[str, LabelEncoder] = {}
    readings = label_readings(heads, options, features)
    taken = {column for reading in readings.values() for column in column_names(reading.column or [])}
    free = Features({column: features[column] for column in features if column not in taken})
    for name, head in heads.items():
        column = _label_column(features if readings[name].column else free, name, heads, readings[name].column)
        if column is not None:
            encoders[name] = _encoder(features, name, head, column, readings[name])
            encoders[name].check_column(dataset)
            warn_of_another_column(name, head, readings[name], column)
    if not encoders and require_labels:
        raise ValueError(
            f"no column holds labels of the heads {list(heads)}: the columns are {list(features)}. A head's column "
            "has the name of the head (or this name and '_labels'); choose another column with label_columns={head: "
            "column} (--label-column HEAD=COLUMN)"
        )
    unlabelled = [name for name in heads if name not in encoders]
    if unlabelled and require_labels:
        logger.warning(
            f"no column for the heads {unlabelled}: they are not labelled in this dataset. Columns: {list(features)}. "
            "If one of them holds the labels, name it with label_columns={head: column} (--label-column HEAD=COLUMN)"
        )
    return encoders


def _encoder(
    features: Features, name: str, head: HeadConfig, column: str | list[str], reading: LabelReading
) -> LabelEncoder:
    """Return the encoder of one head's labels.

    Raises:
        ValueError: If the column cannot hold labels of this head.
    """
    ids = {label: i for i, label in enumerate(head.labels)}
    if not isinstance(column, str):
        return LabelEncoder(name, head, column, None, ids, reading)
    lists = is_list(features[column])
    encoder = LabelEncoder(
        name,
        head,
        column,
        feature_of(features, column, f"head {name!r}"),
        ids,
        reading,
        joined=head.multi_label and reading.sep is not None and not lists,
        spellings={} if head.multi_label else spellings(head.labels),
    )
    if lists and encoder._integers() and not encoder.reading.multi_hot:
        check_ids(encoder.what, head.labels)
    cut = [label for label in head.labels if encoder.joined and split_joined(label, str(reading.sep)) != [label]]
    if cut:
        raise ValueError(
            f"{encoder.what}: the labels {cut[:5]} cannot be read from strings joined with {reading.sep!r}, which is "
            "part of them or beside a blank: choose another separator, or store the labels as lists"
        )
    no_value = not lists and encoder.feature.dtype == "null"  # true if no row is labelled
    if lists != head.multi_label and not no_value and not encoder.joined:
        kind, expected = ("lists", "one label") if lists else ("one label per row", "a list of labels")
        if head.multi_label and is_text(features[column]):
            expected += " (for strings of several labels give their separator, --sep '|' or sep='|')"
        raise ValueError(
            f"{encoder.what}: the column holds {kind}, but this {head.problem_type} head takes {expected} in each row"
        )
    return encoder


def _label_column(
    features: Features, name: str, heads: Mapping[str, HeadConfig], label_columns: str | list[str] | None
) -> str | list[str] | None:
    """Return the column of a head's labels, or a column for each label in the order given."""
    head = heads[name]
    if label_columns is None:
        named = [name, *(column for column in usual_columns(name) if column not in heads)]
        present = [column for column in named if column in features]
        if present or not head.multi_label or not set(head.labels) <= set(features):
            return present[0] if present else None
        label_columns = head.labels
    for column in column_names(label_columns):
        check_column(features, column, f"head {name!r}")
        if not isinstance(label_columns, str):
            check_label_column(features, column, f"head {name!r}")
    if not isinstance(label_columns, str) and (set(label_columns) != set(head.labels) or not head.multi_label):
        raise ValueError(
            f"head {name!r}: a list of columns must have one column for each label of a multi-label head; its labels "
            f"are {head.labels}, but the columns are {label_columns}"
        )
    return label_columns

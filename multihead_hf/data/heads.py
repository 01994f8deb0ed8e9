"""Inference of heads from the columns of a dataset, and counts of their labels."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from datasets import ClassLabel, Dataset, Features, IterableDataset, Value
from transformers.utils import logging

from ..model.head_multihead import HeadConfig
from ..model.reading_multihead import LabelReading
from ..model.values_multihead import OpenSettings
from .frames import table_of
from .label_columns import LabelColumns
from .label_warnings import SEPARATORS, joined_labels, warn_of_labels
from .reading import (
    ReadingOptions,
    as_written,
    ask_about_empty_cells,
    check_keywords,
    check_not_zeros_and_ones,
    class_names,
    column_names,
    empty_cells,
    is_missing,
    joined_text,
    said_readings,
    separator_for_all,
    split_joined,
    string_columns,
)
from .rows_like import AnyDataset, RowsLike
from .sources import column_batches, in_part, read_dataset, training_part

if TYPE_CHECKING:
    from typing_extensions import Unpack
from .columns import (
    check_column,
    check_label_column,
    check_named,
    feature_of,
    features_of,
    has_columns,
    is_list,
    is_multi_hot,
    is_text,
    said_twice,
)

logger = logging.get_logger(__name__)
# of multi-label heads (benchmarks/README.md); for a target between 0 and 1 its optimum is not that share
_LOSS: dict[str, Any] = {"loss": "asymmetric", "loss_kwargs": OpenSettings(gamma_negative=2.0)}


def infer_heads(
    dataset: RowsLike, columns: Sequence[str] | Mapping[str, str | Sequence[str]], **options: "Unpack[ReadingOptions]"
) -> dict[str, HeadConfig]:
    """Infer heads from label columns: the task of each head, and its labels in a fixed order.

    The decisions, and how often each label occurs, are logged at info level.

    | column | head | labels |
    |---|---|---|
    | strings | single-label | the strings, sorted |
    | booleans | single-label | `"False"`, `"True"` |
    | integers | single-label | `str(value)` in numeric order |
    | ClassLabel | single-label | its names in its order |
    | lists of strings | multi-label | the strings, sorted |
    | lists of ClassLabel | multi-label | its names in its order |
    | lists of integers (label ids) | multi-label | `"0"` … the highest id |
    | lists of booleans or floats, or of 0 and 1 with `multi_hot=True` | multi-label | `"0"` … the last cell |
    | joined labels (`sep="|"`) | multi-label | the parts, sorted |
    | one column per label | multi-label | the columns' names in the order given |

    Args:
        dataset: rows, or files of them, as `read_dataset` takes; of a `DatasetDict` the `train` split (else the first)
            is read, and the other splits are checked.
        columns: names of the label columns, or a dict head name → column, or → list of columns, one for each label
            (booleans, 0/1, or shares between them).
        options: how labels are read, as for `prepare_dataset`. One separator for several columns leaves a column in
            which it never occurs single-label, with a warning; a separator for one head, `sep={"topics": "|"}`, always
            makes that head multi-label.

    Returns:
        A dict head name → `HeadConfig`; a head is named after its column unless `columns` is a dict. A head remembers
        how its labels were read (`HeadConfig.reading`), for every function that takes heads. Multi-label heads have the
        loss `asymmetric`, unless a cell is between 0 and 1.

    Raises:
        ValueError: If a column does not exist, holds no label, or is of a type that cannot hold labels; a label occurs
            only outside the split that is read; or cells can be read in two ways (empty cells of joined labels, or of
            columns for one label each that hold no 0, without `empty`; lists of 0 and 1 without `multi_hot`).

    Example:
        >>> from multihead_hf import infer_heads
        >>> heads = infer_heads("complaints.csv", ["topics", "mood"], sep={"topics": "|"}, empty={"topics": "none"})
        >>> heads["topics"].problem_type, heads["mood"].problem_type
        ('multi_label_classification', 'single_label_classification')
    """
    check_keywords(options, infer_heads)
    columns_by_head = columns if isinstance(columns, Mapping) else dict.fromkeys(column_names(columns))
    names = dict.fromkeys(columns_by_head)
    readings = {}
    for name, reading in said_readings(names, options).items():
        column: Any = columns_by_head[name] or reading.column or name
        readings[name] = replace(reading, column=column)
    for_all = separator_for_all(names, options)
    strings = string_columns(names, {"reading": {name: readings[name] for name in names if name not in for_all}})
    return heads_off(read_dataset(dataset, strings=strings), readings, for_all)


def heads_off(
    source: AnyDataset,
    readings: Mapping[str, LabelReading],
    for_all: Collection[str],
) -> dict[str, HeadConfig]:
    """Infer heads from a dataset or a dict of its splits, as `infer_heads` does.

    Args:
        source: the rows.
        readings: head → how its labels are read, with its column.
        for_all: heads whose separator was given for all heads and may not apply to them.
    """
    parts = dict(source) if isinstance(source, Mapping) else {"": source}
    if not parts:
        raise ValueError("the dataset has no splits, so it has no rows")
    first = training_part(parts)
    label_columns = list(
        dict.fromkeys(column for reading in readings.values() for column in column_names(reading.column or []))
    )
    for part, rows in parts.items():
        if isinstance(rows, IterableDataset) and rows.features is None:
            with in_part(part):
                parts[part] = _label_table(rows, label_columns)
    heads = {name: _infer(name, reading, parts, first, name in for_all) for name, reading in readings.items()}
    empty_settings = {name: reading.empty for name, reading in readings.items() if reading.empty is not None}
    if empty_settings and all((heads[name].reading or _NOTHING).empty is None for name in empty_settings):
        logger.warning(
            f"empty={next(iter(empty_settings.values()))!r} changes nothing: it is for joined labels and for "
            f"columns of one label each, and for {', '.join(map(repr, empty_settings))} no separator is set (sep), or "
            "none occurs. Empty cells count as not labelled"
        )
    return heads


def _infer(name: str, reading: LabelReading, parts: Mapping[str, Any], first: str, for_all: bool) -> HeadConfig:
    """Infer one head from the split `first`, and check the other splits.

    Args:
        name: name of the head.
        reading: how its labels are read, with its column.
        parts: split → rows.
        first: the split that is trained on.
        for_all: whether the separator was given for all columns and may not apply to this one.
    """
    column: Any = reading.column
    what = f"head {name!r}, column {column!r}"
    labelled = {part: rows for part, rows in parts.items() if part == first or has_columns(rows, column)}
    if for_all and not _holds_separator(name, reading, labelled):
        reading = replace(reading, sep=None)
    if reading.sep is not None and isinstance(column, str) and is_list(features_of(parts[first]).get(column)):
        logger.warning(f"{what}: sep={reading.sep!r} changes nothing, as the cells are lists of labels")
    with in_part(first):
        content = _read_column(parts[first], name, reading)
    if not content.labels or content.missing == content.rows:
        raise ValueError(f"{what}: no row has a label, so there is nothing to learn")
    for part, rows in labelled.items():
        if part == first:
            continue
        with in_part(part):
            counts = _read_column(rows, name, reading).counts
        new_labels = sorted(label for label, count in counts.items() if count and not content.counts[label])
        if new_labels:
            raise ValueError(
                f"{what}: labels that occur in {part!r} but not in {first!r}: {new_labels}. The model could not learn "
                "them: split the rows again, or name the head's labels yourself"
            )
    logger.info(f"head {name!r}: {content.describe()}")
    warn_of_labels(name, content.counts, content.rows - content.missing)
    joined = joined_labels(name, content.counts, content.separators)
    if content.unused is not None:
        unused = f"{what}: the separator {content.unused!r} occurs in none of {content.rows:,} rows"
        if joined is None:
            unused += ", so no row has several labels. If that is wrong, set the separator that the column has"
            logger.warning(unused)
        elif joined[1]:
            raise ValueError(f"{unused}; {joined[0]}")
    if joined is not None:
        logger.warning(joined[0])
    problem_type = "multi_label_classification" if content.multi_label else "single_label_classification"
    loss = _LOSS if content.multi_label and not content.has_shares else {}
    reading = replace(content.reading, column=None if column == name else column)
    return HeadConfig(labels=content.labels, problem_type=problem_type, reading=reading, **loss)


def _holds_separator(name: str, reading: LabelReading, parts: Mapping[str, Any]) -> bool:
    """Return whether the separator occurs in the column; warn where it could occur and does not."""
    column, sep, rows_read = reading.column, reading.sep, 0
    if not isinstance(column, str) or sep is None:
        return False
    for rows in parts.values():
        feature = features_of(rows).get(column)
        if not isinstance(feature, Value) or feature.dtype == "bool":
            return False
        for batch in column_batches(rows, [column]):
            rows_read += len(batch[column])
            if any(sep in joined_text(cell, feature, sep) for cell in batch[column]):
                return True
    logger.warning(
        f"head {name!r}, column {column!r}: the separator {sep!r} occurs in none of {rows_read:,} rows, so the head "
        f"is single-label. If a row may have several labels, set the separator for this head: sep={{{name!r}: "
        f'{sep!r}}} (--sep "{name}={sep}")'
    )
    return False


_NOTHING = LabelReading()


@dataclass
class _Column:
    """Task, labels and label counts of a column."""

    kind: str
    labels: list[str]
    multi_label: bool
    counts: Counter[str]
    missing: int
    rows: int
    reading: LabelReading = _NOTHING  # the settings that were used
    separators: str = ""  # possible separators in strings, if none was given
    unused: str | None = None  # separator that was given and occurs in no cell
    has_shares: bool = False  # whether a cell is between 0 and 1

    def describe(self) -> str:
        task = "multi-label" if self.multi_label else "single-label"
        counts = ", ".join(f"{label!r} {self.counts[label]}" for label in self.labels[:20])
        more = ", …" if len(self.labels) > 20 else ""
        return (
            f"{task}, {len(self.labels)} labels from {self.kind}, {self.rows - self.missing} of {self.rows} rows "
            f"labelled: {counts}{more}"
        )


def _label_table(rows: IterableDataset, columns: list[str]) -> Dataset:
    """Return the label columns of a stream without types as a table; the types are known once all rows are read."""
    records = [{column: row[column] for column in columns if column in row} for row in rows.with_format(None)]
    return table_of(records, "the stream")


def _read_column(dataset: Dataset | IterableDataset, name: str, reading: LabelReading) -> _Column:
    """Read the labels of a head's column.

    Raises:
        ValueError: If the column does not exist, cannot hold labels, or holds cells that can be read in two ways.
    """
    column: Any = reading.column
    features = features_of(dataset)
    for column_name in column_names(column):
        check_column(features, column_name, f"head {name!r}")
    if not isinstance(column, str):
        return _read_label_columns(dataset, features, f"head {name!r}", column, reading.empty)
    inner = feature_of(features, column, f"head {name!r}")
    what = f"head {name!r}, column {column!r}"
    if is_list(features[column]):
        return _read_lists(dataset, column, inner, what, reading.multi_hot)
    if reading.sep is not None:
        return _read_joined(dataset, column, inner, what, reading)
    return _read_classes(dataset, column, inner, what)


def _cells(dataset: Dataset | IterableDataset, column: str) -> Iterator[Any]:
    return (value for batch in column_batches(dataset, [column]) for value in batch[column])


def _read_classes(dataset: Dataset | IterableDataset, column: str, feature: ClassLabel | Value, what: str) -> _Column:
    """Read a column with one label in each row."""
    counts: Counter[Any] = Counter()
    rows = 0
    no_label = -1 if isinstance(feature, ClassLabel) else ""
    for row, value in enumerate(_cells(dataset, column)):
        rows += 1
        if not is_missing(value) and value != no_label:
            check_named(f"{what}, row {row}", [value])
            counts[as_written(value, feature)] += 1
    labelled = sum(counts.values())
    if isinstance(feature, ClassLabel):
        labels = list(feature.names)
        by_name = Counter({labels[label]: count for label, count in counts.items()})
    else:
        by_name = Counter({name: counts[value] for value, name in class_names(sorted(counts)).items()})
        labels = ["False", "True"] if counts and feature.dtype == "bool" else list(by_name)
    separators = SEPARATORS if is_text(feature) else ""
    return _Column(_kind(feature), labels, False, by_name, rows - labelled, rows, separators=separators)


def _read_joined(
    dataset: Dataset | IterableDataset, column: str, feature: ClassLabel | Value, what: str, reading: LabelReading
) -> _Column:
    """Read a column of labels with a separator between them.

    Raises:
        ValueError: If a cell is empty and `empty` is not given.
    """
    assert reading.sep is not None
    counts: Counter[str] = Counter()
    empty: list[int] = []
    rows, is_used = 0, False
    for row, value in enumerate(_cells(dataset, column)):
        rows += 1
        text = joined_text(value, feature, reading.sep)
        is_used = is_used or reading.sep in text
        empty += [] if text else [row]
        counts.update(set(split_joined(text, reading.sep)))
    if empty and reading.empty is None:
        raise ask_about_empty_cells(what, empty_cells(len(empty), rows, empty[0]))
    missing = len(empty) if reading.empty == "missing" else 0
    column_reading = LabelReading(sep=reading.sep, empty=reading.empty)
    kind, unused = f"strings joined with {reading.sep!r}", None if is_used else reading.sep
    separators = SEPARATORS.replace(",", "") if is_used else SEPARATORS
    return _Column(kind, sorted(counts), True, counts, missing, rows, column_reading, separators, unused)


# maximum number of labels implied by lists of label ids: per id that occurs, and in any case
_IDS_PER_USED, _IDS_FREE = 10, 1_000


def _read_lists(
    dataset: Dataset | IterableDataset, column: str, inner: ClassLabel | Value, what: str, multi_hot: bool | None
) -> _Column:
    """Read a column of lists of labels.

    Raises:
        ValueError: If integers may be label ids or 0 or 1 for each label, and `multi_hot` is not given.
    """
    integers = not isinstance(inner, ClassLabel) and inner.dtype.startswith(("int", "uint"))
    cells = not isinstance(inner, ClassLabel) and is_multi_hot(inner, bool(multi_hot))
    if integers and multi_hot is None:
        check_not_zeros_and_ones(what, _cells(dataset, column))
    counts: Counter[Any] = Counter()
    missing = rows = width = 0
    has_shares = False
    for row, value in enumerate(_cells(dataset, column)):
        rows += 1
        if is_missing(value):
            missing += 1
        elif cells:
            width = max(width, len(value))
            has_shares = has_shares or any(cell not in (0, 1) for cell in value if not is_missing(cell))
            counts.update(str(index) for index, cell in enumerate(value) if not is_missing(cell) and cell > 0)
        else:
            check_named(f"{what}, row {row}", value)
            if integers and len(set(value)) < len(value):
                raise ValueError(f"{what}, row {row}: {said_twice(Counter(value).most_common(1)[0][0], value)}")
            counts.update(set(value))
    kind = f"{'multi-hot ' if cells else ''}lists of {_kind(inner)}"
    if cells:
        labels = [str(index) for index in range(width)]
    elif isinstance(inner, ClassLabel):
        labels = list(inner.names)
        counts = Counter({labels[label]: count for label, count in counts.items() if label >= 0})
    elif is_text(inner):
        labels = sorted(counts)
    else:
        width = max(counts, default=-1) + 1
        if width > max(_IDS_PER_USED * len(counts), _IDS_FREE):
            raise ValueError(
                f"{what}: the lists hold {len(counts):,} different label ids, up to {max(counts):,}. Ids are "
                f"positions in the list of labels, so the head would have {width:,} labels. If they are names, "
                "store them as strings; if they are positions, give the head's labels: HeadConfig(labels=[...])"
            )
        labels = [str(label) for label in range(width)]
    by_name = Counter({str(label): count for label, count in counts.items()})
    column_reading = LabelReading(multi_hot=cells) if integers else _NOTHING
    return _Column(kind, labels, True, by_name, missing, rows, column_reading, has_shares=has_shares)


def _read_label_columns(
    dataset: Dataset | IterableDataset, features: Features, what: str, columns: list[str], empty: str | None
) -> _Column:
    for column in columns:
        check_label_column(features, column, what)
    cells = LabelColumns(columns).add_rows(dataset)
    if empty is None:
        cells.check(what)
    # (a table with cells of all three kinds shows that an empty one is unknown: other rows of it may have no 0)
    empty = empty or ("missing" if any(cells.empty.values()) else None)
    missing = cells.missing_rows if empty == "missing" else 0
    counted = (columns, True, cells.positive, missing, cells.rows, LabelReading(empty=empty))
    return _Column("one column per label", *counted, has_shares=cells.has_shares)


def _kind(inner: ClassLabel | Value) -> str:
    if isinstance(inner, ClassLabel):
        return "ClassLabel"
    names = {"bool": "booleans", "int": "integers", "uint": "integers", "float": "floats", "null": "nothing"}
    return next((name for prefix, name in names.items() if inner.dtype.startswith(prefix)), "strings")

"""Read heads off the columns of a dataset, and count labels in prepared ones."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from datasets import ClassLabel, Dataset, Features, IterableDataset, LargeList, List, Value
from transformers.utils import logging

from ..model.head_multihead import HeadConfig, near_names, one_of
from ..model.losses_multihead import MISSING
from .sources import column_batches, in_part, read_dataset, table_of, training_part

logger = logging.get_logger(__name__)


EMPTY = ("missing", "none")
_FIRST_ROWS = 1000  # of a stream, that say its columns


def infer_heads(
    dataset: Any,
    columns: Sequence[str] | Mapping[str, str | Sequence[str]],
    *,
    multi_hot: bool = False,
    sep: str | Mapping[str, str] | None = None,
    empty: str = "missing",
) -> dict[str, HeadConfig]:
    """Heads from label columns: what kind each is, and its labels in a fixed order. What was decided, and how often
    each label occurs, is logged at info level.

    | column | head | labels |
    |---|---|---|
    | strings | single-label | the strings, sorted |
    | booleans | single-label | `"False"`, `"True"` |
    | integers | single-label | `str(value)` in numeric order |
    | ClassLabel | single-label | its names in its order |
    | lists of strings | multi-label | the strings, sorted |
    | lists of ClassLabel | multi-label | its names in its order |
    | lists of integers | multi-label | `"0"` … the highest id |
    | lists of booleans or floats (multi-hot) | multi-label | `"0"` … the last cell |
    | joined strings (`sep="|"`) | multi-label | the parts, sorted |
    | one column per label | multi-label | the columns' names in the order given |

    Args:
        dataset: rows, or files of them, as `read_dataset` takes; of a `DatasetDict` the `train` part (else its first)
            is read, and the others are checked.
        columns: names of the label columns, or a dict head name → column, or → list of columns, one for each label
            (booleans, 0/1, or shares between them).
        multi_hot: whether lists of integers are 0/1 for each label, instead of label ids.
        sep: what joins the labels in strings, for all string columns named, or a dict head name → separator.
        empty: whether an empty joined string is `"missing"`, or `"none"` of the labels.

    Returns:
        head name → `HeadConfig`; a head is named after its column unless `columns` is a dict.

    Raises:
        ValueError: a column that does not exist, holds no label at all, or is of a kind that cannot be labels; a label
            that occurs only outside the part that is read.
    """
    one_of("empty", empty, EMPTY)
    source = read_dataset(dataset)
    parts = dict(source) if isinstance(source, Mapping) else {"": source}
    if not parts:
        raise ValueError("the dataset has no part, and so no row")
    first = training_part(parts)
    named = columns if isinstance(columns, Mapping) else {column: column for column in _names(columns)}
    check_separators(sep, named)
    wanted = list(dict.fromkeys(column for given in named.values() for column in _names(given)))
    for part, rows in parts.items():
        if isinstance(rows, IterableDataset) and rows.features is None:
            with in_part(part):
                parts[part] = _label_table(rows, wanted)
    heads = {}
    for name, given in named.items():
        joined = sep.get(name) if isinstance(sep, Mapping) else sep
        read = partial(_read_column, name=name, column=given, multi_hot=multi_hot, sep=joined, empty=empty)
        with in_part(first):
            found = read(parts[first])
        if not found.labels or found.missing == found.rows:
            raise ValueError(f"head {name!r}, column {given!r}: no row has a label, so there is nothing to learn")
        for part, rows in parts.items():
            if part != first and _has_columns(rows, given):
                with in_part(part):
                    counts = read(rows).counts
                strange = sorted(label for label, count in counts.items() if count and not found.counts[label])
                if strange:
                    raise ValueError(
                        f"head {name!r}, column {given!r}: labels that occur in {part!r} and not in {first!r}: "
                        f"{strange}. Nothing could be learned of them: split anew, or name the head's labels yourself"
                    )
        problem_type = "multi_label_classification" if found.multi_label else "single_label_classification"
        heads[name] = HeadConfig(labels=found.labels, problem_type=problem_type)
        logger.info(f"head {name!r}: {found.describe()}")
    return heads


@dataclass
class _Column:
    """What a column holds."""

    kind: str
    labels: list[str]
    multi_label: bool
    counts: Counter[str]
    missing: int
    rows: int

    def describe(self) -> str:
        task = "multi-label" if self.multi_label else "single-label"
        counts = ", ".join(f"{label!r} {self.counts[label]}" for label in self.labels[:20])
        more = ", …" if len(self.labels) > 20 else ""
        return (
            f"{task}, {len(self.labels)} labels from {self.kind}, {self.rows - self.missing} of {self.rows} rows "
            f"labelled: {counts}{more}"
        )


def features_of(dataset: Dataset | IterableDataset) -> Features:
    """The columns' types; of a stream that does not say, those of its first rows, in which a column may have no value:
    its type is `null` then.

    Raises:
        ValueError: values of several types in a column; names the row.
    """
    if dataset.features is not None:
        return dataset.features
    return table_of(list(dataset.take(_FIRST_ROWS)), "the stream").features


def _label_table(rows: IterableDataset, columns: list[str]) -> Dataset:
    """The label columns of a stream that does not say its types: they are known when all rows are."""
    found = [{column: row[column] for column in columns if column in row} for row in rows.with_format(None)]
    return table_of(found, "the stream")


def check_separators(sep: str | Mapping[str, str] | None, heads: Iterable[str]) -> None:
    """
    Raises:
        ValueError: a separator for a head that does not exist; names near ones.
    """
    known = list(heads)
    for name in sep if isinstance(sep, Mapping) else ():
        if name not in known:
            raise ValueError(f"sep: there is no head {name!r}.{near_names(name, known)} Heads: {known}")


def _has_columns(rows: Dataset | IterableDataset, columns: str | Sequence[str]) -> bool:
    return set(_names(columns)) <= set(features_of(rows))


def check_column(columns: Iterable[str], column: str, what: str) -> None:
    """
    Raises:
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


def is_missing(value: Any) -> bool:
    """`None` and NaN: not labelled."""
    return value is None or (isinstance(value, float) and value != value)


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


def class_name(value: Any) -> str:
    """The label name of a plain value: `"False"`, `"True"`, `str(value)`; whole floats (integers beside missing values
    in a data frame) as the integer."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _names(columns: Sequence[str]) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns)


def _read_column(
    dataset: Dataset | IterableDataset,
    name: str,
    column: str | Sequence[str],
    multi_hot: bool,
    sep: str | None,
    empty: str,
) -> _Column:
    features = features_of(dataset)
    what = f"head {name!r}"
    for each in _names(column):
        check_column(features, each, what)
    if not isinstance(column, str):
        return _read_label_columns(dataset, features, what, list(column))
    feature = features[column]
    inner = feature_of(features, column, what)
    multi_label = is_list(feature)
    kind = f"lists of {_kind(inner)}" if multi_label else _kind(inner)
    is_joined = sep is not None and not multi_label and is_text(inner)
    cells = (
        multi_label and not isinstance(inner, ClassLabel) and inner.dtype != "null" and is_multi_hot(inner, multi_hot)
    )
    counts: Counter[Any] = Counter()
    missing = rows = width = 0
    for value in (value for batch in column_batches(dataset, [column]) for value in batch[column]):
        rows += 1
        if is_joined:
            value = split_joined(value, sep, empty)  # type: ignore[arg-type]
        elif is_missing(value) or (not multi_label and value == (-1 if isinstance(inner, ClassLabel) else "")):
            value = None
        if value is None:
            missing += 1
        elif cells:
            width = max(width, len(value))
            counts.update(str(index) for index, cell in enumerate(value) if not is_missing(cell) and cell > 0)
        else:
            counts.update(label for label in (value if multi_label or is_joined else [value]) if not is_missing(label))
    if cells:
        kind, labels = f"multi-hot {kind}", [str(index) for index in range(width)]
    elif is_joined:
        kind, labels = f"strings joined with {sep!r}", sorted(counts)
    elif isinstance(inner, ClassLabel):
        labels = list(inner.names)
        counts = Counter({labels[label]: count for label, count in counts.items() if label >= 0})
    elif inner.dtype == "bool":
        labels = ["False", "True"] if counts else []
    elif multi_label and not is_text(inner):
        labels = [str(label) for label in range(max(counts, default=-1) + 1)]
    else:
        labels = [class_name(value) for value in sorted(counts)]
    by_name = Counter({label if cells else class_name(label): count for label, count in counts.items()})
    return _Column(kind, labels, multi_label or is_joined, by_name, missing, rows)


def _read_label_columns(
    dataset: Dataset | IterableDataset, features: Features, what: str, columns: list[str]
) -> _Column:
    for column in columns:
        check_label_column(features, column, what)
    counts: Counter[str] = Counter()
    missing = rows = 0
    for batch in column_batches(dataset, columns):
        for row in zip(*(batch[column] for column in columns), strict=True):
            rows += 1
            missing += all(is_missing(cell) for cell in row)
            counts.update(c for c, cell in zip(columns, row, strict=True) if not is_missing(cell) and cell > 0)
    return _Column("one column per label", columns, True, counts, missing, rows)


def check_label_column(features: Features, column: str, what: str) -> None:
    """
    Raises:
        ValueError: a column cannot say of one label whether it applies.
    """
    feature = features[column]
    kinds = ("bool", "int", "uint", "float", "null")
    if not isinstance(feature, Value) or not feature.dtype.startswith(kinds):
        raise ValueError(
            f"{what}, column {column!r}: a column for one label holds booleans, 0/1 or shares, not {feature}"
        )


def split_joined(value: str | None, sep: str, empty: str) -> list[str] | None:
    """Labels of a joined string; `None` when it is missing."""
    if value is None or (not value.strip() and empty == "missing"):
        return None
    return [part.strip() for part in value.split(sep) if part.strip()]


def is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in ("string", "large_string")


def _kind(inner: Any) -> str:
    if isinstance(inner, ClassLabel):
        return "ClassLabel"
    names = {"bool": "booleans", "int": "integers", "uint": "integers", "float": "floats", "null": "nothing"}
    return next((name for prefix, name in names.items() if inner.dtype.startswith(prefix)), "strings")


def count_labels(
    rows: Iterable[Mapping[str, Any]], heads: Mapping[str, HeadConfig]
) -> dict[str, tuple[list[float], list[float]]]:
    """Head → (positives, known) per label over prepared rows.

    For a single-label head `known` is the number of labelled rows at every label; soft targets count by their value.
    """
    counts = {name: ([0.0] * head.num_labels, [0.0] * head.num_labels) for name, head in heads.items()}
    for row in rows:
        for name, targets in (row.get("labels") or {}).items():
            if targets is None or name not in counts:
                continue
            positives, known = counts[name]
            if not heads[name].multi_label:
                if targets != MISSING:
                    positives[targets] += 1.0
                continue
            for label, target in enumerate(targets):
                if target is not None and target != MISSING:
                    positives[label] += target
                    known[label] += 1.0
    for name, head in heads.items():
        if not head.multi_label:
            positives, known = counts[name]
            known[:] = [sum(positives)] * head.num_labels
    return counts


def near_equal_labels(labels: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs of labels that differ in case or blanks only: each such label with the first of its kind."""
    first: dict[str, str] = {}
    pairs = []
    for label in labels:
        earlier = first.setdefault(" ".join(label.split()).casefold(), label)
        if earlier != label:
            pairs.append((earlier, label))
    return pairs

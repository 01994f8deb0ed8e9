"""Read heads off the columns of a dataset, and count labels in prepared ones."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Features, LargeList, List, Value

from ..model.head_multihead import HeadConfig, near_names
from ..model.losses_multihead import MISSING


def infer_heads(
    dataset: Dataset | DatasetDict, columns: Sequence[str] | Mapping[str, str], *, multi_hot: bool = False
) -> dict[str, HeadConfig]:
    """Heads from label columns: what kind each is, and its labels in a fixed order.

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

    Args:
        dataset: a dataset, or a `DatasetDict` whose `train` part (else its first) is read.
        columns: names of the label columns, or a dict head name → column.
        multi_hot: whether lists of integers are 0/1 for each label, instead of label ids.

    Returns:
        head name → `HeadConfig`; a head is named after its column unless `columns` is a dict.

    Raises:
        ValueError: a column that does not exist, holds no label at all, or is of a kind that cannot be labels.
    """
    if isinstance(dataset, DatasetDict):
        dataset = dataset["train"] if "train" in dataset else next(iter(dataset.values()))
    named = columns if isinstance(columns, Mapping) else {column: column for column in _names(columns)}
    heads = {}
    for name, column in named.items():
        check_column(dataset.column_names, column, f"head {name!r}")
        labels, multi_label = _labels(dataset, name, column, multi_hot)
        if not labels:
            raise ValueError(f"head {name!r}, column {column!r}: no row has a label, so there is nothing to learn")
        problem_type = "multi_label_classification" if multi_label else "single_label_classification"
        heads[name] = HeadConfig(labels=labels, problem_type=problem_type)
    return heads


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


def _labels(dataset: Dataset, name: str, column: str, multi_hot: bool) -> tuple[list[str], bool]:
    feature = dataset.features[column]
    inner = feature_of(dataset.features, column, f"head {name!r}")
    multi_label = is_list(feature)
    if isinstance(inner, ClassLabel):
        return list(inner.names), multi_label
    if inner.dtype == "null":
        return [], multi_label
    if multi_label and is_multi_hot(inner, multi_hot):
        width = max((len(row) for row in _values(dataset, column)), default=0)
        return [str(cell) for cell in range(width)], True
    values = {value for row in _values(dataset, column) for value in (row if multi_label else [row])}
    values = {value for value in values if not is_missing(value)}
    if inner.dtype == "bool":
        return (["False", "True"] if values else []), multi_label
    if multi_label and inner.dtype not in ("string", "large_string"):
        return [str(label) for label in range(max(values, default=-1) + 1)], True
    return [class_name(value) for value in sorted(values)], multi_label


def _values(dataset: Dataset, column: str) -> Iterable[Any]:
    for batch in dataset.select_columns([column]).with_format(None).iter(batch_size=1000):
        yield from (value for value in batch[column] if not is_missing(value))


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

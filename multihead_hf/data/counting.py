"""Targets of prepared rows as arrays, and counts of their labels: 100,000 rows take a fraction of a second."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeGuard

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..model.head_multihead import HeadConfig
from ..model.losses_multihead import MISSING
from ..model.values_multihead import relative_weight
from .collator import stack_targets
from .encoding import WEIGHT
from .rows_like import PreparedRows, has_length

_BATCH_ROWS, _BATCH_CELLS = 20_000, 20_000_000


class Targets(NamedTuple):
    """Targets of some rows.

    Args:
        heads: head → label ids (rows,) or cells (rows, labels); `MISSING` where unlabelled.
        weights: (rows,), the rows' `sample_weight`.
    """

    heads: dict[str, npt.NDArray[Any]]
    weights: npt.NDArray[np.float64]

    def labelled(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which rows have a label of a head, or a known cell, bool (rows,)."""
        targets = self.heads[name]
        return (targets != MISSING).reshape(len(targets), -1).any(1)


@dataclass
class HeadCounts:
    """Counts of one head's labels.

    Args:
        positives: (labels,), rows to which a label applies (soft targets count from 0.5).
        labelled: number of rows with a label, or with a known cell.
        unlabelled: number of the other rows.
        none: number of labelled rows of a multi-label head to which no label applies.
        sums: (labels,), the positives, where soft targets count by their value.
        known: (labels,), rows in which it is known whether a label applies.
        weight: sum of the `sample_weight` of the labelled rows.
        labels: the head's labels when they were counted.
    """

    positives: npt.NDArray[np.int64]
    labelled: int = 0
    unlabelled: int = 0
    none: int = 0
    sums: Any = 0.0
    known: Any = 0
    weight: float = 0.0
    labels: Sequence[str] = ()


def can_be_counted(rows: object) -> TypeGuard[Dataset]:
    """Return whether the targets are a column in memory; a stream or torch dataset would be read row by row."""
    return (
        isinstance(rows, Dataset) and rows.format["type"] != "custom" and isinstance(rows.features.get("labels"), dict)
    )


def head_counts(rows: PreparedRows, heads: Mapping[str, HeadConfig]) -> dict[str, HeadCounts]:
    """Count the labels of prepared rows in one pass.

    Args:
        rows: rows as `prepare_dataset` returns them.
        heads: the model's heads, by name.

    Raises:
        ValueError: If a target is not one of its head.
    """
    counts = {}
    for name, head in heads.items():
        zeros = np.zeros(head.num_labels, np.int64)
        counts[name] = HeadCounts(zeros, sums=zeros.astype(np.float64), known=zeros.copy(), labels=[*head.labels])
    for targets in target_chunks(rows, heads):
        for name, head_targets in targets.heads.items():
            _count(counts[name], head_targets)
            counts[name].weight += float(targets.weights[targets.labelled(name)].sum())
    return counts


def target_chunks(rows: PreparedRows, heads: Mapping[str, HeadConfig]) -> Iterator[Targets]:
    """Read the targets of prepared rows, some thousands of rows at a time.

    Args:
        rows: rows as `prepare_dataset` returns them: a `Dataset`, a stream, a torch dataset or a list.
        heads: the heads to read, by name.

    Raises:
        ValueError: If a target is not one of its head.
    """
    labels = max((head.num_labels for head in heads.values()), default=1)
    size = min(_BATCH_ROWS, max(_BATCH_CELLS // labels, 1))
    if can_be_counted(rows):
        columns = [name for name in ("labels", WEIGHT) if name in rows.column_names]
        for batch in rows.select_columns(columns).with_format("arrow").iter(size):
            yield _checked(_of_columns(batch, heads))
        return
    source = (rows[index] for index in range(len(rows))) if has_length(rows) else iter(rows)
    while chunk := list(islice(source, min(size, 2_000))):
        yield _checked(_of_rows(chunk, heads))


def _checked(targets: Targets) -> Targets:
    """Return the targets; raise `ValueError` for an invalid weight."""
    weights = targets.weights
    usual = (weights == 0) | ((weights >= 0.999e-9) & (weights <= 1.001e9))
    for weight in weights[~usual]:
        relative_weight(f"{WEIGHT} of a prepared row", float(weight))
    return targets


def _of_columns(batch: pa.Table, heads: Mapping[str, HeadConfig]) -> Targets:
    labels = batch.column("labels").combine_chunks()  # a struct with a field for each head
    # (a column without any value has the type null)
    known = {field.name for field in labels.type if not pa.types.is_null(field.type)}
    targets = {}
    for name, head in heads.items():
        if name not in known:
            targets[name] = _unlabelled(len(labels), head)
        else:
            read, column = _cells if head.multi_label else _ids, pc.struct_field(labels, [name])
            _check_kind(column, name, head)
            targets[name] = read(column, name, head)
    weights = np.ones(len(labels))
    if WEIGHT in batch.column_names:
        weights = batch.column(WEIGHT).fill_null(1.0).to_numpy().astype(np.float64)
    return Targets(targets, weights)


def _of_rows(rows: list[Mapping[str, Any]], heads: Mapping[str, HeadConfig]) -> Targets:
    weights = np.array([1.0 if row.get(WEIGHT) is None else float(row[WEIGHT]) for row in rows])
    labels = [row.get("labels") or {} for row in rows]
    tensors = {
        name: stack_targets(name, head, [row_labels.get(name) for row_labels in labels]) for name, head in heads.items()
    }
    return Targets({name: tensor.numpy() for name, tensor in tensors.items()}, weights)


def _unlabelled(rows: int, head: HeadConfig) -> npt.NDArray[Any]:
    if head.multi_label:
        return np.full((rows, head.num_labels), MISSING, np.float32)
    return np.full(rows, MISSING, np.int64)


def _check_kind(column: pa.Array, name: str, head: HeadConfig) -> None:
    lists = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    if lists != head.multi_label and not pa.types.is_fixed_size_list(column.type):
        kind = "a list of cells" if lists else "a label id"
        raise ValueError(
            f"head {name!r}: a prepared row has {kind}, but the head is {head.problem_type}: prepare the rows for this "
            "model (prepare_dataset), or pass the raw rows"
        )


def _ids(column: pa.Array, name: str, head: HeadConfig) -> npt.NDArray[np.int64]:
    ids: npt.NDArray[np.int64] = column.fill_null(MISSING).to_numpy(zero_copy_only=False).astype(np.int64)
    wrong = ids[(ids != MISSING) & ((ids < 0) | (ids >= head.num_labels))]
    if len(wrong):
        raise ValueError(
            f"head {name!r}: a prepared row has the label id {wrong[0]}, but the ids of the head are 0 to "
            f"{head.num_labels - 1}: prepare the rows for this model (prepare_dataset), or pass the raw rows"
        )
    return ids


def _cells(column: pa.Array, name: str, head: HeadConfig) -> npt.NDArray[np.float32]:
    lists = column.drop_null()
    wrong = pc.filter(lists, pc.not_equal(pc.list_value_length(lists), head.num_labels))
    if len(wrong):
        raise ValueError(
            f"head {name!r}: a prepared row has {len(wrong[0])} cells, but the head has {head.num_labels} labels: "
            "prepare the rows for this model (prepare_dataset), or pass the raw rows"
        )
    cells = _unlabelled(len(column), head)
    values = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, head.num_labels)  # null becomes NaN
    cells[column.is_valid().to_numpy(zero_copy_only=False)] = np.where(
        np.isnan(values.astype(np.float32)), MISSING, values
    )
    return cells


def _count(counts: HeadCounts, targets: npt.NDArray[Any]) -> None:
    if targets.ndim == 1:
        ids = targets[targets != MISSING]
        positives = np.bincount(ids, minlength=len(counts.positives))
        counts.positives += positives
        counts.sums += positives
        counts.known += len(ids)
        labelled = len(ids)
    else:
        known, positive = targets != MISSING, targets >= 0.5
        rows = known.any(1)
        counts.positives += np.count_nonzero(positive, axis=0)
        counts.sums += np.where(known, targets, 0.0).sum(0, dtype=np.float64)
        counts.known += np.count_nonzero(known, axis=0)
        counts.none += int(np.count_nonzero(rows & ~positive.any(1)))
        labelled = int(np.count_nonzero(rows))
    counts.labelled += labelled
    counts.unlabelled += len(targets) - labelled

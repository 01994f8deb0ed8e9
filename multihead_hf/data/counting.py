"""Counts of labels in prepared rows, column by column: 100,000 rows take a fraction of a second."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig
from ..model.losses_multihead import MISSING
from .heads import count_labels

_BATCH_ROWS = 20_000


@dataclass
class HeadCounts:
    """Counts of one head's labels.

    Args:
        positives: (labels,), rows to which a label applies (soft targets count from 0.5 on).
        labelled: rows with a label, or with a known cell.
        unlabelled: the other rows.
        none: labelled rows of a multi-label head to which no label applies.
    """

    positives: npt.NDArray[np.int64]
    labelled: int = 0
    unlabelled: int = 0
    none: int = 0


def head_counts(rows: Any, heads: Mapping[str, HeadConfig]) -> dict[str, HeadCounts] | None:
    """Count the labels of prepared rows in one pass over their `labels` column.

    Args:
        rows: as `prepare_dataset` makes them.
        heads: the model's heads, by name.

    Returns:
        Head → its counts; `None` of what is no `datasets.Dataset` with the targets of these heads (a stream, a torch
        dataset), which would have to be read row by row.

    Raises:
        ValueError: a multi-label row has not one cell for each label.
    """
    if not isinstance(rows, Dataset) or not isinstance(rows.features.get("labels"), dict):
        return None
    counts = {name: HeadCounts(np.zeros(head.num_labels, np.int64)) for name, head in heads.items()}
    for batch in rows.select_columns(["labels"]).with_format("arrow").iter(_BATCH_ROWS):
        targets = batch.column("labels").combine_chunks()  # a struct with a field for each head
        for name, head in heads.items():
            if name not in rows.features["labels"]:
                counts[name].unlabelled += len(targets)
            elif head.multi_label:
                _count_cells(counts[name], pc.struct_field(targets, [name]), name, head.num_labels)
            else:
                _count_ids(counts[name], pc.struct_field(targets, [name]), head.num_labels)
    return counts


def label_counts(rows: Any, config: MultiHeadConfig) -> dict[str, dict[str, int]]:
    """Head → label → training rows, of heads with a labelled one."""
    if not isinstance(rows, Dataset) or "labels" not in rows.column_names:
        return {}
    counts = count_labels(rows.select_columns(["labels"]), config.heads)
    return {
        name: {label: round(count) for label, count in zip(config.heads[name].labels, positives, strict=True)}
        for name, (positives, known) in counts.items()
        if any(known)
    }


def _count_ids(counts: HeadCounts, column: pa.Array, labels: int) -> None:
    ids = column.drop_null().to_numpy(zero_copy_only=False).astype(np.int64)
    ids = ids[(ids >= 0) & (ids < labels)]  # (−100 is a missing label; the model refuses other numbers)
    counts.positives += np.bincount(ids, minlength=labels)
    counts.labelled += len(ids)
    counts.unlabelled += len(column) - len(ids)


def _count_cells(counts: HeadCounts, column: pa.Array, name: str, labels: int) -> None:
    lists = column.drop_null()
    wrong = pc.filter(lists, pc.not_equal(pc.list_value_length(lists), labels))
    if len(wrong):
        raise ValueError(
            f"head {name!r}: a prepared row has {len(wrong[0])} cells, and the head has {labels} labels: prepare the "
            "rows for this model (prepare_dataset), or pass them raw"
        )
    cells = lists.flatten().to_numpy(zero_copy_only=False).reshape(-1, labels)  # unknown cells are NaN or −100
    positive = cells >= 0.5
    labelled = (positive | ((cells < 0.5) & (cells != MISSING))).any(1)
    counts.positives += np.count_nonzero(positive, axis=0)
    counts.labelled += int(np.count_nonzero(labelled))
    counts.unlabelled += len(column) - int(np.count_nonzero(labelled))
    counts.none += int(np.count_nonzero(labelled & ~positive.any(1)))

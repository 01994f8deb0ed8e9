"""Type of the rows that functions accept."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard

import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from transformers import trainer_utils


class ArrowFrame(Protocol):
    """A data frame that can be converted to an Arrow table, such as one of polars."""

    def to_arrow(self) -> pa.Table:
        """Return the frame as an Arrow table."""


class TorchRows(Protocol):
    """Prepared rows by index, such as a `torch.utils.data.Dataset`."""

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


class SizedRows(TorchRows, Protocol):
    """Prepared rows by index, with a length."""

    def __len__(self) -> int: ...


def has_length(rows: object) -> TypeGuard[SizedRows]:
    """Return whether rows have a length, unlike a stream."""
    return trainer_utils.has_length(rows)


AnyDataset: TypeAlias = Dataset | DatasetDict | IterableDataset | IterableDatasetDict
"""Rows as `read_dataset` returns them."""
OneSource: TypeAlias = (
    AnyDataset | pd.DataFrame | ArrowFrame | TorchRows | str | os.PathLike | Sequence[str | os.PathLike]
)
RowsLike: TypeAlias = OneSource | Mapping[str, OneSource]
"""Rows as `read_dataset` takes them (datasets, data frames, files, globs, names on the Hub, or several of these by
name), or prepared rows."""
PreparedRows: TypeAlias = Dataset | IterableDataset | SizedRows | Iterable[Mapping[str, Any]]
"""Rows with tokens and targets: as `prepare_dataset` returns them, or a list, torch dataset or stream of such rows."""

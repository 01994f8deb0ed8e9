"""Type of the rows that functions accept."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import pandas as pd
import pyarrow as pa
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict


class ArrowFrame(Protocol):
    """A data frame that becomes an Arrow table, such as one of polars."""

    def to_arrow(self) -> pa.Table:
        """Return the frame as an Arrow table."""


class TorchRows(Protocol):
    """Prepared rows by their number, such as a `torch.utils.data.Dataset`."""

    def __getitem__(self, index: int, /) -> Mapping[str, Any]: ...


OneSource: TypeAlias = (
    Dataset
    | DatasetDict
    | IterableDataset
    | IterableDatasetDict
    | pd.DataFrame
    | ArrowFrame
    | TorchRows
    | str
    | os.PathLike
    | Sequence[str | os.PathLike]
)
RowsLike: TypeAlias = OneSource | Mapping[str, OneSource]
"""Rows as `read_dataset` takes them (datasets, data frames, files, globs, names on the Hub, or several of these by
name), or prepared rows."""
PreparedRows: TypeAlias = Dataset | IterableDataset | TorchRows | Iterable[Mapping[str, Any]]
"""Rows with tokens and targets: as `prepare_dataset` returns them, or a list, torch dataset or stream of such rows."""

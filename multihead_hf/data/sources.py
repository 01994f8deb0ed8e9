"""Whatever holds a user's rows, as a `datasets` dataset: files, globs, data frames, Hub names."""

import glob
import os
import re
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from datasets import (
    Dataset,
    DatasetDict,
    IterableDataset,
    IterableDatasetDict,
    concatenate_datasets,
    load_dataset,
)
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from pyarrow import ArrowInvalid

from ..model.head_multihead import near_names

_CSV = (".csv", ".tsv")
_JSON = (".json", ".jsonl")
SUFFIXES = (*_CSV, *_JSON, ".parquet")
_PARTS = ("train", "validation", "test")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DELIMITERS = (",", ";", "\t", "|")


def read_dataset(
    source: Any, *, delimiter: str | None = None, **hub: Any
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict:
    """A dataset from whatever holds the rows.

    Args:
        source: a `datasets` dataset or dict of them (returned as it is), a pandas data frame, a CSV, TSV, JSON, JSON
            Lines or Parquet file, a glob or a list of such files (read as one table), a folder with files named after
            their parts (`train.csv`, `test.csv`), a dict part → any of these, or the name of a data set on the Hub.
        delimiter: between the columns of CSV files; by default a comma, and a tab in `.tsv` files. "NA" and "None" are
            labels like others there; an empty cell is a missing number or an empty string.
        hub: for `datasets.load_dataset` with the name of a data set on the Hub (`name`, `split`, `streaming`, …).

    Raises:
        ValueError: a file that does not exist or cannot be read, files with different columns, a column of mixed
            types, or a delimiter that does not separate anything; names the file, the column and the row.
    """
    if isinstance(source, (Dataset, DatasetDict, IterableDataset, IterableDatasetDict)):
        return source
    if isinstance(source, pd.DataFrame):
        return _from_frame(source, "the data frame")
    if isinstance(source, Mapping):
        return DatasetDict({part: read_dataset(rows, delimiter=delimiter) for part, rows in source.items()})
    if isinstance(source, (list, tuple)) and source and all(isinstance(path, (str, os.PathLike)) for path in source):
        return _from_files([os.fspath(path) for path in source], delimiter)
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            f"rows are a datasets.Dataset, a pandas data frame, files ({', '.join(SUFFIXES)}) or the name of a data "
            f"set on the Hub, not a {type(source).__name__}: Dataset.from_list(rows) for a list of dicts"
        )
    path = os.fspath(source)
    if os.path.isdir(path):
        return _from_folder(path, delimiter)
    if os.path.isfile(path):
        return _from_files([path], delimiter)
    found = sorted(glob.glob(path, recursive=True))
    if found:
        return _from_files(found, delimiter)
    if _HUB_NAME.fullmatch(path) and not path.endswith(SUFFIXES):
        try:
            return load_dataset(path, **hub)
        except DatasetNotFoundError as error:
            raise ValueError(f"{path!r} is neither a file here nor a data set on the Hub: {error}") from None
    near = near_names(os.path.basename(path), _siblings(path))
    raise ValueError(f"{path}: there is no such file, and no file matches it.{near}")


def _siblings(path: str) -> list[str]:
    folder = os.path.dirname(path) or "."
    return os.listdir(folder) if os.path.isdir(folder) else []


def _from_folder(folder: str, delimiter: str | None) -> DatasetDict:
    if os.path.isfile(os.path.join(folder, "dataset_dict.json")) or os.path.isfile(os.path.join(folder, "state.json")):
        raise ValueError(f"{folder} was written by save_to_disk: pass datasets.load_from_disk({folder!r})")
    files = {os.path.splitext(name)[0]: name for name in sorted(os.listdir(folder)) if name.endswith(SUFFIXES)}
    if not files:
        raise ValueError(f"{folder}: no file in this folder ends in {', '.join(SUFFIXES)}")
    order = sorted(files, key=lambda part: ("train", "validation", "test").index(part) if part in _PARTS else 3)
    return DatasetDict({part: _from_files([os.path.join(folder, files[part])], delimiter) for part in order})


def _from_files(paths: Sequence[str], delimiter: str | None) -> Dataset:
    tables = [_from_file(path, delimiter) for path in paths]
    for path, table in zip(paths[1:], tables[1:], strict=True):
        only_first = [column for column in tables[0].column_names if column not in table.column_names]
        only_here = [column for column in table.column_names if column not in tables[0].column_names]
        if only_first or only_here:
            raise ValueError(
                f"{path} has other columns than {paths[0]}: only there {only_first}, only here {only_here}"
            )
    if len(tables) == 1:
        return tables[0]
    try:
        return concatenate_datasets(tables)
    except ValueError as error:
        raise ValueError(f"the files {list(paths)} are no one table: {error}") from None


def _from_file(path: str, delimiter: str | None) -> Dataset:
    try:
        if path.endswith(_CSV):
            return _from_csv(path, delimiter or ("\t" if path.endswith(".tsv") else ","))
        if path.endswith(_JSON):
            table = _not_empty(Dataset.from_json(path), path)
            for column, feature in table.features.items():
                if type(feature).__name__ == "Json":  # what newer versions of datasets make of mixed values
                    _check_one_type(pd.Series(list(table[column]), dtype=object), column, path)
            return table
        if path.endswith(".parquet"):
            return _not_empty(Dataset.from_parquet(path), path)
    except (OSError, UnicodeDecodeError, ArrowInvalid, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except DatasetGenerationError as error:
        cause = error.__cause__ or error
        raise ValueError(f"{path} cannot be read: {str(cause).strip() or type(cause).__name__}") from None
    raise ValueError(f"{path}: files of rows end in {', '.join(SUFFIXES)}")


def _not_empty(table: Dataset, path: str) -> Dataset:
    if not len(table):
        raise ValueError(f"{path} holds no row")
    return table


def _from_csv(path: str, delimiter: str) -> Dataset:
    frame = pd.read_csv(path, sep=delimiter, keep_default_na=False, na_values=[""], low_memory=False)
    columns = [str(column) for column in frame.columns]
    others = [other for other in _DELIMITERS if other != delimiter and any(other in column for column in columns)]
    if len(columns) == 1 and others:
        raise ValueError(
            f"{path}: with the delimiter {delimiter!r} it has one column, {columns[0]!r}. If that is several, say "
            f"delimiter={others[0]!r}"
        )
    if not len(frame):
        raise ValueError(f"{path} holds no row below its header {columns}")
    texts = {column: "" for column in frame.columns if not pd.api.types.is_numeric_dtype(frame[column])}
    return _from_frame(frame.fillna(texts), path)


def _from_frame(frame: pd.DataFrame, what: str) -> Dataset:
    if not len(frame):
        raise ValueError(f"{what} holds no row; its columns are {list(frame.columns)}")
    names = [str(column) for column in frame.columns]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} has two columns called {twice[0]!r}")
    for column in frame.columns:
        _check_one_type(frame[column], str(column), what)
    return Dataset.from_pandas(frame.rename(columns=str).reset_index(drop=True), preserve_index=False)


def _check_one_type(values: pd.Series, column: str, what: str) -> None:
    """
    Raises:
        ValueError: a column holds values of several types; names the first row whose type differs.
    """
    if values.dtype != object:
        return
    first: tuple[int, Any] | None = None
    for row, value in enumerate(values):
        if pd.api.types.is_scalar(value) and pd.isna(value):
            continue
        if first is None:
            first = (row, value)
        elif _kind(value) != _kind(first[1]):
            raise ValueError(
                f"{what}, column {column!r}: mixed types, {first[1]!r} in row {first[0]} is a {_kind(first[1])} and "
                f"{value!r} in row {row} a {_kind(value)}; make them one, such as frame[{column!r}].astype(str)"
            )


def _kind(value: Any) -> str:
    if isinstance(value, Real) and not isinstance(value, bool):
        return "number"
    return "list" if isinstance(value, (list, tuple, np.ndarray)) else type(value).__name__

"""Rows of files one after the other, of which any may be bad: for predictions of more rows than memory holds."""

import csv
import glob
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.sources import DELIMITERS, HUB_NAME, no_such_file
from ..model.head_multihead import near_names

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".arrow")
_BATCH = 1024
csv.field_size_limit(16 * 2**20)


class Row(NamedTuple):
    """A row that was read, or why not.

    Args:
        values: by column; of a bad row what could be read.
        place: file and line or row in it, for messages.
        error: why the row cannot be used, `None` for a good one.
    """

    values: dict[str, Any]
    place: str
    error: str | None = None


@dataclass
class RowSource:
    """Rows of files or of a data set on the Hub, in their order.

    Args:
        files: in the order in which they are read; empty for a data set on the Hub.
        columns: that rows have (of JSON Lines those of the first row).
        schema: types of the columns, where the files say them (Parquet, Arrow).
        total: number of rows where it is known beforehand.
    """

    files: list[str]
    columns: list[str]
    schema: pa.Schema | None
    total: int | None
    delimiter: str | None = None
    stream: Any = None
    share: float = 0.0  # of the bytes, how much has been read

    def __iter__(self) -> Iterator[Row]:
        if self.stream is not None:
            for number, values in enumerate(self.stream):
                yield Row(dict(values), f"row {number}")
            return
        sizes = [max(os.path.getsize(path), 1) for path in self.files]
        for path, before, size in zip(self.files, _sums(sizes), sizes, strict=True):
            for row, done in _read(path, self.delimiter, self.columns):
                self.share = (before + done * size) / sum(sizes)
                yield row


def open_rows(source: str | list[str], delimiter: str | None = None, split: str | None = None) -> RowSource:
    """The rows of files, globs and folders, or of a data set on the Hub.

    Args:
        source: one or several; a folder stands for all files in it.
        delimiter: between the columns of CSV files; by default a comma, and a tab in `.tsv` files.
        split: part of a data set on the Hub.

    Raises:
        ValueError: a file that does not exist, is of another kind, holds nothing or cannot be read, or files with
            different columns.
    """
    given = [source] if isinstance(source, str) else list(source)
    if len(given) == 1 and _is_hub_name(given[0]):
        return _from_hub(given[0], split)
    if split is not None:
        raise ValueError(f"split {split!r} is for data sets on the Hub; name the files")
    files = [path for each in given for path in _files(each)]
    schemas = [_schema(path, delimiter) for path in files]
    first = schemas[0]
    for path, own in zip(files[1:], schemas[1:], strict=True):
        if set(own.names) != set(first.names) and not path.endswith((".jsonl", ".ndjson")):
            only = [name for name in own.names if name not in first.names]
            missing = [name for name in first.names if name not in own.names]
            raise ValueError(f"{path} has other columns than {files[0]}: only there {missing}, only here {only}")
    typed = all(path.endswith((".parquet", ".arrow")) for path in files)
    if typed and any(own.field(name).type != first.field(name).type for own in schemas for name in own.names):
        raise ValueError(f"the files {files} have columns of different types: {schemas}")
    total = None
    if all(path.endswith(".parquet") for path in files):
        total = sum(pq.read_metadata(path).num_rows for path in files)
    return RowSource(files, first.names, first if typed else None, total, delimiter)


def check_columns(columns: list[str], wanted: list[str], what: str) -> None:
    """
    Raises:
        ValueError: a wanted column does not exist; says which are like it.
    """
    for name in wanted:
        if name not in columns:
            raise ValueError(f"there is no column {name!r} for {what}.{near_names(name, columns)} Columns: {columns}")


def _is_hub_name(source: str) -> bool:
    if os.path.exists(source) or glob.glob(source, recursive=True):
        return False
    return HUB_NAME.fullmatch(source) is not None and not source.lower().endswith((*SUFFIXES, ".json"))


def _from_hub(name: str, split: str | None) -> RowSource:
    from datasets import IterableDatasetDict, load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        found = load_dataset(name, split=split, streaming=True)
    except (DatasetNotFoundError, ConnectionError) as error:
        raise ValueError(f"{name!r} is neither a file here nor a data set on the Hub: {error}") from None
    if isinstance(found, IterableDatasetDict):
        if len(found) > 1:
            raise ValueError(f"{name!r} has the parts {list(found)}: name one of them as split")
        found = next(iter(found.values()))
    if found.features is None:
        found = found._resolve_features()
    sizes = found.info.splits or {}
    total = sizes[str(found.split)].num_examples if str(found.split) in sizes else None
    # lists of these values are what datasets makes of them; types are those of Arrow
    return RowSource([], list(found.features), found.features.arrow_schema, total, stream=found)


def _files(source: str) -> list[str]:
    """
    Raises:
        ValueError: there is none, or one of a kind that is not read row by row.
    """
    if os.path.isdir(source):
        found = sorted(str(path) for path in Path(source).iterdir() if path.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"{source}: no file in this folder ends in {', '.join(SUFFIXES)}")
        return found
    found = [source] if os.path.isfile(source) else sorted(glob.glob(source, recursive=True))
    if not found:
        raise ValueError(no_such_file(source))
    for path in found:
        if path.lower().endswith(".json"):
            raise ValueError(f"{path}: one JSON document cannot be read row by row; save it as JSON Lines (.jsonl)")
        if not path.lower().endswith(SUFFIXES):
            raise ValueError(f"{path}: files of rows end in {', '.join(SUFFIXES)}")
    return found


def _schema(path: str, delimiter: str | None) -> pa.Schema:
    """Columns of a file, with types where it says them.

    Raises:
        ValueError: it holds nothing, or cannot be read.
    """
    try:
        if path.lower().endswith(".parquet"):
            return pq.read_schema(path)
        if path.lower().endswith(".arrow"):
            with pa.memory_map(path) as file:
                return _arrow_reader(file).schema
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if path.lower().endswith((".csv", ".tsv")):
        return pa.schema([(name, pa.string()) for name in _header(path, _between(path, delimiter))])
    first = next((row.values for row, _ in _read_json_lines(path) if row.error is None), None)
    if first is None:
        raise ValueError(f"{path} holds no row that can be read: one JSON object on each line is expected")
    return pa.schema([(name, pa.null()) for name in first])


def _read(path: str, delimiter: str | None, columns: list[str]) -> Iterator[tuple[Row, float]]:
    """Rows, with the share of the file that has been read."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in (".csv", ".tsv"):
        return _read_csv(path, _between(path, delimiter))
    return _read_json_lines(path) if suffix in (".jsonl", ".ndjson") else _read_arrow(path, columns)


def _between(path: str, delimiter: str | None) -> str:
    return delimiter or ("\t" if path.lower().endswith(".tsv") else ",")


def _header(path: str, delimiter: str) -> list[str]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        columns = next(csv.reader(file, delimiter=delimiter), None)
    if not columns:
        raise ValueError(f"{path} holds no row")
    twice = sorted({name for name in columns if columns.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has two columns called {twice[0]!r}")
    others = [other for other in DELIMITERS if other != delimiter and other in columns[0]]
    if len(columns) == 1 and others:
        raise ValueError(
            f"{path}: with the delimiter {delimiter!r} it has one column, {columns[0]!r}; if that is several, "
            f"say --delimiter {others[0]!r}"
        )
    return columns


def _read_csv(path: str, delimiter: str) -> Iterator[tuple[Row, float]]:
    columns, size = _header(path, delimiter), os.path.getsize(path)
    with open(path, "rb") as file:
        # bytes that are no UTF-8 spoil their row only
        reader = csv.reader(
            io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=""),
            delimiter=delimiter,
            strict=True,
        )
        next(reader)
        while True:
            place = f"{path}, line {reader.line_num + 1}"
            try:
                fields = next(reader, None)
            except csv.Error as problem:
                yield Row({}, place, str(problem)), file.tell() / size
                continue
            if fields is None:
                return
            if not fields:  # an empty line
                continue
            values = dict(zip(columns, fields, strict=False))
            error = _not_utf8(values)
            if len(fields) != len(columns):
                error = f"{len(fields)} fields, and the header has {len(columns)}"
            yield Row(values, place, error), file.tell() / size


def _not_utf8(values: dict[str, Any]) -> str | None:
    for name, value in values.items():
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                return f"column {name!r} is not in UTF-8"
    return None


def _read_json_lines(path: str) -> Iterator[tuple[Row, float]]:
    size = max(os.path.getsize(path), 1)
    done = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            done += len(line)
            if not line.strip():
                continue
            place, error = f"{path}, line {number}", None
            values: Any = {}
            try:
                values = json.loads(line)
            except ValueError as problem:  # also bytes that are no UTF-8
                error = f"no JSON: {problem}"
            if not isinstance(values, dict):
                error = f"a JSON object is expected, not {values!r}"
                values = {}
            yield Row(values, place, error or _not_utf8(values)), done / size


def _read_arrow(path: str, columns: list[str]) -> Iterator[tuple[Row, float]]:
    number = 0
    for batch, share in _arrow_batches(path, columns):
        for values in batch.to_pylist():
            yield Row(values, f"{path}, row {number}"), share
            number += 1


def _arrow_batches(path: str, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, float]]:
    if path.lower().endswith(".parquet"):
        with pq.ParquetFile(path) as file:
            rows, done = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(_BATCH, columns=columns):
                done += batch.num_rows
                yield batch.select(columns), done / rows
        return
    with pa.memory_map(path) as file:
        for batch in _arrow_reader(file):
            for begin in range(0, batch.num_rows, _BATCH):
                yield batch.select(columns).slice(begin, _BATCH), file.tell() / max(file.size(), 1)


def _arrow_reader(file: Any) -> Any:
    """Of a file in Arrow's stream format, which `datasets` writes, or its file format."""
    try:
        return pa.ipc.open_stream(file)
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_file(file)
        return _Batches(reader)


class _Batches:
    """A reader of Arrow's file format that is read like one of its stream format."""

    def __init__(self, reader: Any) -> None:
        self.schema = reader.schema
        self._reader = reader

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return (self._reader.get_batch(i) for i in range(self._reader.num_record_batches))


def _sums(values: list[int]) -> list[int]:
    """Of the values before each."""
    return [sum(values[:i]) for i in range(len(values))]

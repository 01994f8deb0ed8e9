"""Rows of files whose values have types: Parquet, Arrow and Excel."""

import datetime
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .readers_text import CSV, LINES, PACKED, check_names, suffix_of

TYPED = (".parquet", ".arrow")
EXCEL = ".xlsx"
SUFFIXES = (*CSV, ".json", *LINES, *TYPED, EXCEL)
_BATCH = 1024


def is_rows(path: str | os.PathLike) -> bool:
    """Return whether a file's name is that of a file of rows; for text files also with `.gz` or `.zst` at its end."""
    suffix = suffix_of(path)
    packed = os.fspath(path).lower().endswith(PACKED)
    return suffix in SUFFIXES and not (packed and suffix in (*TYPED, EXCEL))


def schema_of(path: str) -> pa.Schema:
    """Return columns and types of a Parquet or Arrow file.

    Raises:
        ValueError: If the file cannot be read, or two columns have one name.
    """
    try:
        if suffix_of(path) == ".parquet":
            schema = pq.read_schema(path)
        else:
            with pa.memory_map(path) as file:
                schema = _arrow_parts(file)[0]
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    check_names(schema.names, path)
    return schema


def batches_of(path: str, columns: Sequence[str]) -> Iterator[tuple[pa.RecordBatch, float]]:
    """Read some columns of a Parquet or Arrow file, each batch with the share of the file read so far."""
    names = list(columns)
    if suffix_of(path) == ".parquet":
        with pq.ParquetFile(path) as file:
            rows, done = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(_BATCH, columns=names):
                done += batch.num_rows
                yield batch.select(names), done / rows
        return
    with pa.memory_map(path) as file:
        for batch in _arrow_parts(file)[1]:
            for begin in range(0, batch.num_rows, _BATCH):
                yield batch.select(names).slice(begin, _BATCH), file.tell() / max(file.size(), 1)


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | str]:
    """Return rows, or the reason why a row cannot be converted (such as a date outside Python's range)."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                yield str(error)


def excel_rows(path: str) -> Iterator[dict[str, Any]]:
    """Read the rows of the first sheet of an Excel file, whose first row holds the names of the columns.

    Dates and times are ISO 8601 texts.

    Raises:
        ImportError: If openpyxl is not installed; the message contains the command that installs it.
        ValueError: If the file cannot be read, or two columns have one name.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise ImportError(
            f'{path}: Excel files need openpyxl: pip install "multihead-hf[excel]" (or save it as CSV)'
        ) from None
    from zipfile import BadZipFile

    try:
        book = load_workbook(path, read_only=True, data_only=True)
    except (OSError, KeyError, InvalidFileException, BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    try:
        cells = book.worksheets[0].iter_rows(values_only=True)
        header = list(next(cells, ()))
        while header and header[-1] is None:  # columns that were formatted, and never filled
            header.pop()
        columns = ["" if name is None else str(name) for name in header]
        check_names(columns, path)
        for row in cells:
            if any(cell is not None for cell in row):
                yield {name: _plain(cell) for name, cell in zip(columns, row, strict=False)}
    finally:
        book.close()


def _plain(cell: Any) -> Any:
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, (datetime.date, datetime.time)) else cell


def _arrow_parts(file: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return schema and batches of a file in Arrow's stream format, which `datasets` writes, or its file format."""
    try:
        stream = pa.ipc.open_stream(file)
        return stream.schema, iter(stream)
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_file(file)
        return reader.schema, map(reader.get_batch, range(reader.num_record_batches))

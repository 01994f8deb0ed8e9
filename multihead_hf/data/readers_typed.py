"""Rows of files whose values have types: Parquet, Arrow and Excel."""

import contextlib
import datetime
import os
import re
from collections.abc import Iterator, Sequence, Set
from typing import TYPE_CHECKING, Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import pyarrow as pa
import pyarrow.parquet as pq

from .readers_text import CSV, LINES, PACKED, check_names, suffix_of

if TYPE_CHECKING:
    from openpyxl.cell.read_only import EmptyCell, ReadOnlyCell
    from openpyxl.worksheet._read_only import ReadOnlyWorksheet

TYPED = (".parquet", ".arrow")
EXCEL = ".xlsx"
SUFFIXES = (*CSV, ".json", *LINES, *TYPED, EXCEL)
_BATCH = 1024


def is_rows(path: str | os.PathLike) -> bool:
    """Return whether a file name has a supported suffix; text files may also end in `.gz` or `.zst`."""
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
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                yield str(error)


def excel_rows(path: str) -> Iterator[dict[str, Any] | str]:
    """Read the rows of the first sheet of an Excel file, whose first row holds the names of the columns.

    Dates and times become ISO 8601 texts. A row that cannot be read is replaced by the reason: a cell with an error
    such as #N/A, a formula without a stored result, or a value beyond the named columns.

    Raises:
        ImportError: If openpyxl is not installed; the message contains the command that installs it.
        ValueError: If the file cannot be read, or two columns have one name.
    """
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise ImportError(
            f'{path}: Excel files need openpyxl: pip install "multihead-hf[excel]" (or save it as CSV)'
        ) from None
    try:
        with contextlib.closing(load_workbook(path, read_only=True, data_only=True)) as book:
            if not book.worksheets:
                raise ValueError("it has no sheet")
            sheet = book.worksheets[0]
            formulas = _formulas_without_result(path, sheet)
            yield from _sheet_rows(sheet, formulas, path)
    except (OSError, EOFError, KeyError, ValueError, SyntaxError, BadZipFile) as error:  # (SyntaxError: invalid XML)
        problem = str(error)
        raise ValueError(problem if problem.startswith(path) else f"{path} cannot be read: {problem}") from None


def _sheet_rows(sheet: "ReadOnlyWorksheet", formulas: Set[str], path: str) -> Iterator[dict[str, Any] | str]:
    """Return the rows of a sheet below its header; `lacking` are the cells that have a formula without a result."""
    cells = sheet.iter_rows()
    header = [cell.value for cell in next(cells, ())]
    while header and header[-1] is None:  # columns that are formatted but empty
        header.pop()
    columns = ["" if name is None else str(name) for name in header]
    check_names(columns, path)
    for row in cells:
        if all(cell.value is None for cell in row) and not formulas:
            continue
        problem = next((reason for cell in row if (reason := _wrong_cell(cell, len(columns), formulas))), None)
        if problem is not None:
            yield problem
        elif any(cell.value is not None for cell in row):
            yield {name: _plain(cell.value) for name, cell in zip(columns, row, strict=False)}


def _wrong_cell(cell: "ReadOnlyCell | EmptyCell", columns: int, formulas: Set[str]) -> str | None:
    """Return why a cell cannot be read; `None` if it can."""
    name = getattr(cell, "coordinate", "")  # (an empty cell has none)
    if name in formulas:
        return f"cell {name} holds a formula without a stored result: open the file in a spreadsheet and save it again"
    if cell.value is None:
        return None
    if cell.data_type == "e":
        return f"cell {name} holds the error {cell.value}: correct or empty it"
    if cell.column > columns:
        return f"cell {name} holds {cell.value!r}, but its column has no name in the first row"
    return None


# written by programs that do not compute formulas; a result would be in <v>, and an empty text has type "str"
_NO_RESULT = re.compile(rb'<c r="([A-Z]+[0-9]+)"([^>]*)>\s*<f(?:[^>]*/>|[^>]*>[^<]*</f>)\s*(?:<v\s*/>|<v></v>)?\s*</c>')


def _formulas_without_result(path: str, sheet: "ReadOnlyWorksheet") -> set[str]:
    """Return the cells with a formula without a result, such as "B2"; openpyxl reads them as empty."""
    with ZipFile(path) as file:
        cells = _NO_RESULT.findall(file.read(sheet._worksheet_path))
    return {name.decode() for name, about in cells if b't="str"' not in about}


def _plain(cell: object) -> object:
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return cell.isoformat() if isinstance(cell, (datetime.date, datetime.time)) else cell


def _arrow_parts(file: BinaryIO) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return schema and batches of a file in Arrow's stream format, which `datasets` writes, or its file format."""
    try:
        stream = pa.ipc.open_stream(file)
        return stream.schema, iter(stream)
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_file(file)
        return reader.schema, map(reader.get_batch, range(reader.num_record_batches))

"""Files of texts that are uploaded to the demo page, and the file of predictions that is downloaded.

This file is copied into Spaces, with the readers that it imports: standard library only. Tables are read as text, so
that values do not change, and never beyond the limits of the page.
"""

import csv
import difflib
import json
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..data.readers import NOT_DECODED, TextFile
from ..data.readers_text import CSV, no_formula

SUFFIXES = (*CSV, ".jsonl")
MAX_COLUMNS = 1_000
_SEPARATORS = ("|", ";", ",", "/", "\t", "¦", "§", "‖", "␟")

Row = dict[str, Any]


def read_rows(path: str, columns: Sequence[str], max_rows: int, max_chars: int) -> list[Row]:
    """Return the rows of an uploaded file, each with a text in each of `columns`.

    Args:
        path: a CSV file (with commas, semicolons or tabs between its columns), a TSV file, or JSON Lines.
        columns: the text columns.
        max_rows: maximum number of rows.
        max_chars: maximum number of characters of a text.

    Raises:
        ValueError: If the file is of another type, cannot be read, has too many rows, or lacks a column (the message
            suggests similar names) or a text; the message contains the row, counted from 1.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{os.path.basename(path)}: give a file that ends in {', '.join(SUFFIXES)}")
    rows: list[Row] = []
    text = TextFile(path, wanted=columns, name="the file")
    for row in _csv_rows(text) if suffix in CSV else _json_rows(text):
        if len(rows) == max_rows:
            raise ValueError(f"the file has more than {max_rows:,} rows: split it")
        rows.append(_checked(row, len(rows) + 1, columns, max_chars))
    if not rows:
        raise ValueError("the file has no rows")
    return rows


def write_rows(path: str, rows: Sequence[Row], predictions: Sequence[Mapping[str, list[dict[str, Any]]]]) -> str:
    """Write the rows with the columns of `multihead-hf predict`: the labels of each head, and their probabilities.

    Cells that look like formulas are escaped.

    Args:
        path: the CSV file to write.
        rows: rows as `read_rows` returns them. Columns with the names of the new ones are replaced.
        predictions: for each row the result of the pipeline.

    Returns:
        The separator of several labels, and of several probabilities, in a cell: `|` unless a label contains it.
    """
    names = {label["label"] for row in predictions for labels in row.values() for label in labels}
    sep = next((separator for separator in _SEPARATORS if not any(separator in name for name in names)), _SEPARATORS[0])
    with open(path, "w", encoding="utf-8", newline="") as file:
        further = [column for head in predictions[0] for column in (f"predicted_{head}", f"predicted_{head}_score")]
        columns = [column for column in dict.fromkeys(key for row in rows for key in row) if column not in further]
        writer = csv.DictWriter(file, [*columns, *further])
        writer.writerow({column: no_formula(column) for column in writer.fieldnames})
        for row, heads in zip(rows, predictions, strict=True):
            cells = {column: _cell(row.get(column)) for column in columns}
            for head, labels in heads.items():
                cells[f"predicted_{head}"] = sep.join(label["label"] for label in labels)
                cells[f"predicted_{head}_score"] = sep.join(f"{label['score']:.6f}" for label in labels)
            writer.writerow({column: no_formula(cell) for column, cell in cells.items()})
    return sep


def _cell(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


def _csv_rows(text: TextFile) -> Iterator[Row]:
    header = text.columns
    for number, (record, _) in enumerate(text.records(), start=1):
        _check_decoded(record.error)
        if record.error is not None:
            raise ValueError(f"the file cannot be read as CSV: {record.error}")
        cells = record.fields
        if len(cells) > len(header) and any(cells[len(header) :]):
            raise ValueError(
                f"row {number} has {len(cells)} cells, but the header has {len(header)} ({_names(header)}): put "
                "quotes around texts that hold the delimiter"
            )
        yield dict(zip(header, cells, strict=False))


def _json_rows(text: TextFile) -> Iterator[Row]:
    for number, (row, _) in enumerate(text.rows(), start=1):
        _check_decoded(row.error)
        if row.error is not None:
            raise ValueError(f'row {number} is not a JSON object such as {{"text": "…"}}')
        yield row.values


def _check_decoded(error: str | None) -> None:
    if error is not None and NOT_DECODED in error:
        raise ValueError("the file is not in UTF-8: save it as UTF-8")


def _names(columns: Iterable[str]) -> str:
    return reprlib.repr(list(columns)).strip("[]")


def _checked(row: Row, number: int, columns: Sequence[str], max_chars: int) -> Row:
    if len(row) > MAX_COLUMNS:
        raise ValueError(f"the file has more than {MAX_COLUMNS:,} columns")
    for column in columns:
        if column not in row:
            near = difflib.get_close_matches(column, list(row), n=1)
            hint = f" Is it {near[0]!r}? Then call it {column!r}." if near else ""
            raise ValueError(f"row {number} has no column {column!r}; it has {_names(row)}.{hint}")
        text = row[column]
        if not isinstance(text, str):
            raise ValueError(f"row {number}: {column!r} is {reprlib.repr(text)}, not a text")
        if len(text) > max_chars:
            raise ValueError(f"row {number}: {column!r} has {len(text):,} characters, but the maximum is {max_chars:,}")
    return row

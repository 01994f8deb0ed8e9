"""Rows of text files, one after the other: CSV, TSV, JSON and JSON Lines, also compressed.

Training, prediction and the demo page all read text files here. Cells of CSV files are texts, as they are written. A
row that cannot be read does not affect other rows, and the caller decides how to handle it. This file is copied into
Spaces: standard library only (except `.zst`, which pyarrow reads), and no import but from `readers_text`.
"""

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TextIO

from .readers_text import (
    CSV,
    DELIMITERS,
    FIELD_LIMIT,
    Lines,
    as_it_stands,
    check_names,
    dumped,
    found_encoding,
    long_fields,
    printable,
    split,
    suffix_of,
    undecoded,
    unique_keys,
    unpacked,
)

_NUL = "line contains NUL"  # an error in csv before Python 3.11
NOT_DECODED = "is not in "  # part of the message about a row in another encoding


class Row(NamedTuple):
    """A row that was read, or the reason why it was not.

    Args:
        values: values by column; for an invalid row those that could be read.
        place: file and line or row in it, for messages.
        error: why the row cannot be used, `None` for a valid row.
        line: the text of a row that could not be parsed, as it is in the file.
    """

    values: dict[str, Any]
    place: str
    error: str | None = None
    line: str | None = None


class Record(NamedTuple):
    """A record of a CSV file.

    Args:
        number: number of its first line, from 1.
        fields: its cells; empty where it could not be parsed.
        lines: its lines as they are in the file.
        error: why it could not be parsed or decoded.
        until: number of its last line.
    """

    number: int
    fields: list[str]
    lines: list[str]
    error: str | None
    until: int


def _holds_rows(values: list[Any]) -> bool:
    """Return whether the values of a JSON object are columns, or one is a list of rows; a row has a text in it."""
    lists = [value for value in values if isinstance(value, (list, dict))]
    return bool(values) and (
        len(lists) == len(values)
        or any(isinstance(value, list) and isinstance(value[0], dict) for value in lists if value)
    )


def _with_advice(reason: str) -> str:
    return f"{reason}, a character that texts do not have: delete it" if reason == _NUL else reason


def _next_line(text: TextIO) -> tuple[str, int]:
    """Return the next line that is not blank, and the number of blank lines before it."""
    blank = 0
    while (line := text.readline()).isspace():
        blank += 1
    return line, blank


@dataclass
class TextFile:
    """A text file of rows.

    Args:
        path: path of the file.
        delimiter: character between the columns of a CSV file. By default a comma, or a tab in `.tsv` files; a
            semicolon where the first lines contain semicolons and no comma, as Excel writes them in many countries; a
            semicolon or tab where the first two lines have equal numbers of columns with it and not with the comma; or
            the character in a first line `sep=;`.
        encoding: by default UTF-8, or that of the byte order mark.
        wanted: columns that a CSV file should have: the delimiter with which it has them is used.
        name: name of the file in messages; by default its path.

    Raises:
        ValueError: If the file cannot be opened or decoded, or a CSV file has no header, or two columns of one name.
    """

    path: str
    delimiter: str | None = None
    encoding: str | None = None
    wanted: Sequence[str] = ()
    name: str = ""
    columns: list[str] = field(default_factory=list, init=False)
    recognised: str | None = field(default=None, init=False)  # detected settings, in one line

    def __post_init__(self) -> None:
        self.name = self.name or self.path
        self.suffix = suffix_of(self.path)
        try:
            self.encoding = found_encoding(self.path, self.encoding, self.name)
            self._skipped = 0  # lines before the header
            if self.suffix in CSV:
                self.delimiter = self._found_delimiter()
                self.columns = self._header()
        except (OSError, EOFError) as error:
            raise ValueError(f"{self.name} cannot be read: {error}") from None

    def records(self) -> Iterator[tuple[Record, float]]:
        """Read the records of a CSV file below its header, each with the share of the file read so far.

        Empty lines are skipped.

        Raises:
            OSError: If the file cannot be read to its end.
        """
        with self._open() as (text, share):
            lines = Lines(text)
            for _ in range(self._skipped):
                next(lines)
            reader = self._reader(lines)
            with long_fields():
                next(reader)
            while True:
                record, broken = self._next(reader, lines)
                if record is None:
                    return
                if broken:
                    reader = self._reader(lines)
                if record.fields or record.error:
                    yield record, share()

    def rows(self) -> Iterator[tuple[Row, float]]:
        """Read the rows, valid and invalid, each with the share of the file read so far.

        A `.json` file is read as a whole.
        """
        if self.suffix == ".json":
            yield from self._document_rows()
        else:
            yield from self._csv_rows() if self.suffix in CSV else self._json_rows()

    def document(self) -> list[Any]:
        """Read the rows of a `.json` file, which holds a list of them, one row, or JSON Lines.

        Raises:
            ValueError: If the file cannot be read; the message contains the line.
        """
        with self._open() as (text, _):
            content = text.read()
        if (wrong := undecoded([("", content)])) is not None:
            line = 1 + content[: wrong[1]].count("\n")
            raise ValueError(self.not_decoded(line))
        try:
            data = json.loads(content, object_pairs_hook=unique_keys) if content.strip() else []
        except (ValueError, RecursionError) as error:
            try:
                return [json.loads(line, object_pairs_hook=unique_keys) for line in content.split("\n") if line.strip()]
            except (json.JSONDecodeError, RecursionError):
                raise ValueError(f"{self.name} cannot be read: {error}") from None
            except ValueError as twice:
                raise ValueError(f"{self.name} cannot be read: {twice}") from None
        if isinstance(data, dict) and _holds_rows(list(data.values())):
            raise ValueError(
                f"{self.name} holds one JSON object with lists or objects in it, and not rows: write a list of rows, "
                "[{...}, {...}], such as frame.to_json(path, orient='records')"
            )
        return [] if data is None else data if isinstance(data, list) else [data]

    def not_decoded(self, line: int) -> str:
        """Return the message about bytes of another encoding."""
        return (
            f"{self.name} {NOT_DECODED}{self._shown} (line {line}): save it as UTF-8, or name its encoding, such as "
            "encoding='cp1252' (--encoding cp1252)"
        )

    # ---- encoding and delimiter ----

    def _found_delimiter(self) -> str:
        with self._open() as (text, _):
            first, self._skipped = _next_line(text)
            second, blank = _next_line(text)
        declaration = re.fullmatch(r'"?sep=(.)"?\s*', first)
        if declaration:
            self._skipped += 1 + blank
            return self.delimiter or declaration[1]
        usual = "\t" if self.suffix == ".tsv" else ","
        if self.delimiter is not None or self.suffix == ".tsv":
            return self.delimiter or usual
        counts = {other: len(split(first, other)) for other in DELIMITERS}
        fitting = [other for other in DELIMITERS if self.wanted and set(self.wanted) <= set(split(first, other))]
        if fitting:
            return usual if usual in fitting else self._told(fitting[0])
        equal = {other: not second or len(split(second, other)) == count for other, count in counts.items()}
        # a column's name may hold a comma: then the next line has other fields, or a quoted name is torn apart
        if counts[usual] > 1 and equal[usual] and not any('"' in name for name in split(first, usual)):
            return usual
        others = (";", "\t") if counts[usual] > 1 else (";",)  # (a header without a comma, but with tabs, is refused)
        return next((self._told(other) for other in others if counts[other] > 1 and equal[other]), usual)

    def _told(self, delimiter: str) -> str:
        self.recognised = f"{self.name}: its columns are separated by {delimiter!r}"
        return delimiter

    def _header(self) -> list[str]:
        with self._open() as (text, _):
            for _ in range(self._skipped):
                text.readline()
            try:
                with long_fields():
                    columns = next(self._reader(text), None)
            except csv.Error as error:
                raise ValueError(f"{self.name} cannot be read: line {self._skipped + 1}: {error}") from None
        if not columns:
            raise ValueError(f"{self.name} has no rows")
        if undecoded([("", "".join(columns))]):
            raise ValueError(self.not_decoded(self._skipped + 1))
        check_names(columns, self.name)
        others = [other for other in DELIMITERS if other != self.delimiter and other in columns[0]]
        if len(columns) == 1 and others:
            raise ValueError(
                f"{self.name}: with the delimiter {self.delimiter!r} it has one column, {columns[0]!r}; if that is "
                f"several columns, give --delimiter {others[0]!r} (delimiter={others[0]!r})"
            )
        return columns

    # ---- reading ----

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[TextIO, Callable[[], float]]]:
        """Context manager: the text, and a function that returns the share of the file's bytes read so far."""
        size = max(os.path.getsize(self.path), 1)
        with open(self.path, "rb") as file:
            text = io.TextIOWrapper(
                unpacked(file, self.path),
                encoding=self.encoding,
                errors="surrogateescape",  # bytes in another encoding invalidate only their row
                newline="" if self.suffix in CSV else "\n",
            )
            try:
                yield text, lambda: file.tell() / size
            except EOFError as error:  # raised by gzip
                raise OSError(f"{self.name} is cut off: {error}") from error

    def _reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        return csv.reader(lines, delimiter=self.delimiter or ",", strict=True)

    def _next(self, reader: Iterator[list[str]], lines: "Lines") -> tuple[Record | None, bool]:
        """Return the next record, and whether a new reader is needed after it."""
        lines.taken = []
        number = lines.number + 1
        before = csv.field_size_limit(FIELD_LIMIT)  # (not `long_fields`, which would take longer than the row)
        try:
            fields = next(reader, None)
        except csv.Error as problem:
            # such as an unclosed quote: only its first line is invalid, and the lines after it are read again
            until, first = lines.number, lines.taken[:1]
            lines.back(lines.taken[1:])
            error = f"{problem} (read up to line {until})" if lines.number < until else _with_advice(str(problem))
            return Record(number, [], first, error, until), True
        finally:
            csv.field_size_limit(before)
        if fields is None:
            return None, False
        wrong = undecoded(zip(self.columns, fields, strict=False))
        reason = self._reason(wrong)
        if reason is None and any("\0" in line for line in lines.taken):
            reason = _with_advice(_NUL)
        return Record(number, fields, lines.taken, reason, lines.number), False

    @property
    def _shown(self) -> str:
        return (self.encoding or "").removesuffix("-sig").upper()

    def _reason(self, wrong: tuple[str, int] | None) -> str | None:
        return None if wrong is None else f"column {wrong[0]!r} {NOT_DECODED}{self._shown}"

    def _csv_rows(self) -> Iterator[tuple[Row, float]]:
        for record, share in self.records():
            error = record.error
            if error is None and len(record.fields) == len(self.columns):
                yield (
                    Row(dict(zip(self.columns, record.fields, strict=True)), f"{self.name}, line {record.number}"),
                    share,
                )
                continue
            if record.fields and len(record.fields) != len(self.columns):
                error = f"{len(record.fields)} fields, but the header has {len(self.columns)}"
                error += f" (read up to line {record.until})" if record.until > record.number else ""
            values = dict(zip(self.columns, record.fields, strict=False))
            yield Row(values, f"{self.name}, line {record.number}", error, as_it_stands(record.lines)), share

    def _json_rows(self) -> Iterator[tuple[Row, float]]:
        with self._open() as (text, share):
            for number, line in enumerate(text, start=1):
                if not line.strip():
                    continue
                values, error = self._object(line)
                written = None if error is None else as_it_stands([line])
                location = f"{self.name}, line {number}"
                yield Row(values if error is None else printable(values), location, error, written), share()

    def _document_rows(self) -> Iterator[tuple[Row, float]]:
        items = self.document()
        for number, item in enumerate(items):
            line = json.dumps(item)
            values, error = self._object(line)
            location = f"{self.name}, row {number}"
            row = (
                Row(values, location)
                if error is None
                else Row(printable(values), location, error, as_it_stands([line]))
            )
            yield row, (number + 1) / len(items)

    def _object(self, line: str) -> tuple[dict[str, Any], str | None]:
        try:
            values = json.loads(line, object_pairs_hook=unique_keys)
        except (ValueError, RecursionError) as problem:
            decoded = undecoded([("", line)]) is None
            return {}, f"not valid JSON: {problem}" if decoded else f"the line {NOT_DECODED}{self._shown}"
        if not isinstance(values, dict):
            return {}, f"a JSON object is expected, not {values!r}"
        if line.isascii() and "\\ud" not in line.lower():
            return values, None
        if undecoded([("", line)]) is not None:
            return values, self._reason(undecoded(dumped(values)))
        wrong = undecoded(dumped(values))  # such as "\ud800", which cannot be encoded
        return (
            values,
            None if wrong is None else f"column {wrong[0]!r} contains a lone surrogate and cannot be encoded as UTF-8",
        )

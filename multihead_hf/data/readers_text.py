"""Encodings, compression, delimiters and lines of text files of rows.

This file is copied into Spaces, as `readers` is.
"""

import codecs
import contextlib
import csv
import difflib
import gzip
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from encodings.aliases import aliases
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from pyarrow import CompressedInputStream

CSV = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst")
DELIMITERS = (",", ";", "\t", "|")
FIELD_LIMIT = 16 * 2**20  # maximum number of characters in a cell
_LOOKED_AT = 4096  # number of bytes
_MARKS = (  # longest first: the mark of UTF-32 begins with that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def found_encoding(path: str, encoding: str | None, name: str) -> str:
    """Return the encoding of a text file: that of its byte order mark, else the one given, else UTF-8.

    Raises:
        ValueError: If the encoding does not exist, or the file looks like UTF-16 without a byte order mark.
    """
    with open(path, "rb") as file:
        start = unpacked(file, path).read(_LOOKED_AT)
    for mark, marked in _MARKS:
        if start.startswith(mark):
            return marked
    if encoding is not None:
        return known_encoding(encoding)
    # in UTF-16, every ASCII character (commas and line ends in any language) has a zero byte; a single zero byte only
    # affects its row
    zeros = [position for position, byte in enumerate(start) if not byte]
    if len(zeros) > 2 and len({position % 2 for position in zeros}) == 1:
        order = "le" if zeros[0] % 2 else "be"
        raise ValueError(
            f"{name} holds zero bytes, as UTF-16 does: name its encoding, encoding='utf-16-{order}' "
            f"(--encoding utf-16-{order})"
        )
    return "utf-8"


def suffix_of(path: str | os.PathLike) -> str:
    """Return the suffix that determines the format, in lower case: `.csv` for `rows.CSV.gz`."""
    stem, suffix = os.path.splitext(os.fspath(path).lower())
    return os.path.splitext(stem)[1] if suffix in PACKED else suffix


@contextlib.contextmanager
def long_fields() -> Iterator[None]:
    """Context manager: the csv module reads long cells; its limit, which is global, is restored on exit."""
    before = csv.field_size_limit(FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def unpacked(file: BinaryIO, path: str) -> "BinaryIO | gzip.GzipFile | CompressedInputStream":
    """Return the file, decompressed where its name ends in `.gz` or `.zst`."""
    if path.lower().endswith(".zst"):
        import pyarrow as pa

        return pa.CompressedInputStream(file, "zstd")
    return gzip.GzipFile(fileobj=file) if path.lower().endswith(".gz") else file


class Lines:
    """Lines of a file, some of which can be given back; `number` counts the lines read."""

    def __init__(self, file: Iterator[str]) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._file)
        self.number += 1
        self.taken.append(line)
        return line

    def back(self, lines: list[str]) -> None:
        """Give lines back, so that they are read again."""
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)


def known_encoding(encoding: str) -> str:
    """Return the usual name of an encoding.

    Raises:
        ValueError: If no encoding has this name; the message suggests a similar one.
    """
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        near = difflib.get_close_matches(encoding.lower().replace("-", "_"), [*aliases, *aliases.values()], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"Unknown encoding {encoding!r}.{hint} Use one such as utf-8 or cp1252") from None


def one_character(delimiter: str) -> str:
    r"""Return a delimiter as one character; a tab may be written as `\\t` or `tab`.

    Raises:
        ValueError: If it is not exactly one character.
    """
    known = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(known) != 1:
        raise ValueError(f"delimiter {delimiter!r}: one character is expected, such as ; or \\t")
    return known


def check_names(names: Sequence[str], what: str) -> None:
    """Check that no two columns have one name.

    Raises:
        ValueError: If two columns have one name.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} has two columns called {twice[0]!r}")


def split(line: str, delimiter: str) -> list[str]:
    """Return the fields of a line of a CSV file."""
    with long_fields():
        return next(csv.reader([line], delimiter=delimiter), [])


def as_it_stands(lines: list[str]) -> str:
    """Return the text of lines without the last line end; bytes that could not be decoded become escapes."""
    return "".join(lines).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").rstrip("\r\n")


def undecoded(texts: Iterable[tuple[str, str]]) -> tuple[str, int] | None:
    """Return the name of the first text with bytes that could not be decoded, and their position in it."""
    for name, value in texts:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return name, error.start
    return None


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the keys and values of a JSON object as a dict; `json.loads` alone keeps the last value of a key.

    Raises:
        ValueError: If a key occurs twice.
    """
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return values


def dumped(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Return each value as JSON, with its name."""
    return ((name, json.dumps(value, ensure_ascii=False)) for name, value in values.items())


def printable(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with bytes that could not be decoded as escapes."""
    return json.loads(json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())


def no_formula(cell: str) -> str:
    """Return a cell of a CSV file as text for spreadsheets, which run a cell that looks like a formula.

    Spreadsheets take a cell that begins with =, +, -, @, a tab or a carriage return for a formula. An apostrophe before
    it prevents that. Numbers are left unchanged.
    """
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell

"""How text files of rows are written: their suffixes, encodings, compression, and lines that may be given back.

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
from typing import Any, BinaryIO

CSV = (".csv", ".tsv")
LINES = (".jsonl", ".ndjson")
PACKED = (".gz", ".zst")
DELIMITERS = (",", ";", "\t", "|")
FIELD_LIMIT = 16 * 2**20  # characters of a cell
_LOOKED_AT = 4096  # bytes
_MARKS = (  # the longer ones first: that of UTF-16 begins that of UTF-32
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def found_encoding(path: str, encoding: str | None, name: str) -> str:
    """The encoding of a text file: that of its byte order mark, else the one that was named, else UTF-8.

    Raises:
        ValueError: there is no such encoding, or it would be UTF-16 without a mark.
    """
    with open(path, "rb") as file:
        start = unpacked(file, path).read(_LOOKED_AT)
    for mark, marked in _MARKS:
        if start.startswith(mark):
            return marked
    if encoding is not None:
        return known_encoding(encoding)
    if b"\0" in start:
        order = "le" if start[1:2] == b"\0" else "be"
        raise ValueError(
            f"{name} holds zero bytes, as UTF-16 does: name its encoding, encoding='utf-16-{order}' "
            f"(--encoding utf-16-{order})"
        )
    return "utf-8"


def suffix_of(path: str | os.PathLike) -> str:
    """The suffix that says the format, in small letters: `.csv` of `rows.CSV.gz`."""
    stem, suffix = os.path.splitext(os.fspath(path).lower())
    return os.path.splitext(stem)[1] if suffix in PACKED else suffix


@contextlib.contextmanager
def long_fields() -> Iterator[None]:
    """Let the csv module read long cells, and leave its limit, which is one for the whole program, as it was."""
    before = csv.field_size_limit(FIELD_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def unpacked(file: BinaryIO, path: str) -> Any:
    if path.lower().endswith(".zst"):
        import pyarrow as pa

        return pa.CompressedInputStream(file, "zstd")
    return gzip.GzipFile(fileobj=file) if path.lower().endswith(".gz") else file


class Lines:
    """Lines of a file, some of which can be given back; `number` is how many were read."""

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
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)


def known_encoding(encoding: str) -> str:
    """An encoding by its usual name.

    Raises:
        ValueError: there is none of this name; names near ones.
    """
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        near = difflib.get_close_matches(encoding.lower().replace("-", "_"), [*aliases, *aliases.values()], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"encoding {encoding!r}: there is none of this name.{hint} Such as utf-8, cp1252") from None


def one_character(delimiter: str) -> str:
    """A delimiter, also written as `\\t` or `tab`.

    Raises:
        ValueError: it is more than one character, or none.
    """
    known = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(known) != 1:
        raise ValueError(f"delimiter {delimiter!r}: one character is expected, such as ; or \\t")
    return known


def check_names(names: Sequence[str], what: str) -> None:
    """Raises:
        ValueError: two columns have one name.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} has two columns called {twice[0]!r}")


def split(line: str, delimiter: str) -> list[str]:
    with long_fields():
        return next(csv.reader([line], delimiter=delimiter), [])


def as_it_stands(lines: list[str]) -> str:
    """The text of lines without the end of the last; bytes that could not be decoded are escapes."""
    return "".join(lines).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").rstrip("\r\n")


def undecoded(texts: Iterable[tuple[str, str]]) -> tuple[str, int] | None:
    """The name of the first text in which bytes could not be decoded, and where in it."""
    for name, value in texts:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                return name, error.start
    return None


def dumped(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    return ((name, json.dumps(value, ensure_ascii=False)) for name, value in values.items())


def printable(values: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())


def no_formula(cell: str) -> str:
    """A cell of a CSV file as text for spreadsheets, which take one that begins with =, +, -, @, a tab or a carriage
    return for a formula and run it: an apostrophe before it keeps them from that. Numbers stay as they are.
    """
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell

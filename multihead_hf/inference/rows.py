"""Rows of files one after the other, of which any may be bad: for predictions of more rows than memory holds."""

import csv
import glob
import io
import itertools
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ..data.sources import DELIMITERS, HUB_NAME, no_such_file, one_character
from ..model.head_multihead import near_names
from .tables import fits

_CSV, _LINES, _TYPED = (".csv", ".tsv"), (".jsonl", ".ndjson"), (".parquet", ".arrow")
SUFFIXES = (*_CSV, *_LINES, *_TYPED)
_BATCH = 1024
_FIRST_ROWS = 1000  # of JSON Lines, whose columns count as known
csv.field_size_limit(16 * 2**20)


class Row(NamedTuple):
    """A row that was read, or why not.

    Args:
        values: by column; of a bad row what could be read.
        place: file and line or row in it, for messages.
        error: why the row cannot be used, `None` for a good one.
        line: the text of a row that could not be taken apart as it should, as it stands in the file.
    """

    values: dict[str, Any]
    place: str
    error: str | None = None
    line: str | None = None


@dataclass
class RowSource:
    """Rows of files or of a data set on the Hub, in their order.

    Args:
        files: in the order in which they are read; empty for a data set on the Hub.
        columns: that rows have (of JSON Lines those of the first rows; later ones may have others).
        schema: types of the columns, where the files say them (Parquet, Arrow).
        total: number of rows where it is known beforehand.
        version: of a data set on the Hub, its commit.
    """

    files: list[str]
    columns: list[str]
    schema: pa.Schema | None
    total: int | None
    delimiter: str | None = None
    stream: Any = None
    version: str | None = None
    wanted: list[str] | None = None  # of files that say their columns only these are read; all by default
    share: float = 0.0  # of the bytes, how much has been read

    def __iter__(self) -> Iterator[Row]:
        if self.stream is not None:
            stream = self.stream if self.wanted is None else self.stream.select_columns(self.wanted)
            for number, values in enumerate(stream):
                yield Row(dict(values), f"row {number}")
            return
        sizes = [max(os.path.getsize(path), 1) for path in self.files]
        for path, before, size in zip(self.files, itertools.accumulate(sizes, initial=0), sizes, strict=False):
            for row, done in _read(path, self.delimiter, self.wanted or self.columns):
                self.share = (before + done * size) / sum(sizes)
                yield row


def open_rows(
    source: str | list[str],
    delimiter: str | None = None,
    split: str | None = None,
    config: str | None = None,
    without: Sequence[Path] = (),
) -> RowSource:
    """The rows of files, globs and folders, or of a data set on the Hub.

    Args:
        source: one or several; a folder stands for all files in it.
        delimiter: between the columns of CSV files; by default a comma, and a tab in `.tsv` files.
        split, config: part and configuration of a data set on the Hub.
        without: files and folders that are not read, though a glob or folder has them.

    Raises:
        ValueError: a file that does not exist, is of another kind, holds nothing or cannot be read, or files with
            different columns.
    """
    given = [source] if isinstance(source, str) else list(source)
    if len(given) == 1 and _is_hub_name(given[0]):
        return _from_hub(given[0], split, config)
    if split is not None or config is not None:
        raise ValueError("split and config are for data sets on the Hub; name the files")
    delimiter = None if delimiter is None else one_character(delimiter)
    files = [path for each in given for path in _files(each, without)]
    schemas = {path: own for path in files if (own := _schema(path, delimiter)) is not None}
    if not schemas:
        raise ValueError(f"{given[0] if len(given) == 1 else given} holds no row")
    files = list(schemas)
    first = schemas[files[0]]
    columns = list(first.names)
    for path, own in schemas.items():
        if _suffix(path) in _LINES:
            columns += [name for name in own.names if name not in columns]
        elif set(own.names) != set(first.names):
            only = [name for name in own.names if name not in first.names]
            missing = [name for name in first.names if name not in own.names]
            raise ValueError(f"{path} has other columns than {files[0]}: only there {missing}, only here {only}")
    schema = _common_schema(schemas) if all(_suffix(path) in _TYPED for path in files) else None
    total = None
    if all(_suffix(path) == ".parquet" for path in files):
        total = sum(pq.read_metadata(path).num_rows for path in files)
    return RowSource(files, columns, schema, total, delimiter)


def _common_schema(schemas: dict[str, pa.Schema]) -> pa.Schema:
    """Types that hold the values of all files; text where there is none for all numbers."""
    try:
        common = pa.unify_schemas(list(schemas.values()), promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"the files {list(schemas)} have columns of different types: {error}") from None
    for place, column in enumerate(common):
        others = [path for path, own in schemas.items() if own.field(column.name).type != column.type]
        if not all(_holds(column, path) for path in others):
            common = common.set(place, column.with_type(pa.string()))
    return common


def _holds(column: pa.Field, path: str) -> bool:
    """Whether the type of a column holds what a file has there."""
    for batch, _ in _arrow_batches(path, [column.name]):
        values = [row[column.name] for row in _rows_of(batch) if isinstance(row, dict)]
        if not fits(values, column.type):
            return False
    return True


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def is_within(path: str | Path, places: Sequence[Path]) -> bool:
    """Whether a path is one of these, or lies in one."""
    own = Path(os.path.abspath(path))
    return any(own.is_relative_to(os.path.abspath(place)) for place in places)


def is_read_by(source: str | Sequence[str], path: Path) -> bool:
    """Whether a folder or glob of the source has this file."""
    given = [source] if isinstance(source, str) else source
    folders = [os.path.join(each, "*") if os.path.isdir(each) else each for each in given]
    return any(is_within(found, [path]) for each in folders for found in glob.glob(each, recursive=True))


def columns_of(path: Path) -> list[str]:
    """The columns of a file; none where it holds nothing, or is no file of rows."""
    try:
        schema = _schema(str(path), None)
    except ValueError:
        return []
    return [] if schema is None else list(schema.names)


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


def _from_hub(name: str, split: str | None, config: str | None) -> RowSource:
    from datasets import IterableDatasetDict, load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError

    try:
        builder = load_dataset_builder(name, config)
        found = builder.as_streaming_dataset(split=split)
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
    return RowSource([], list(found.features), found.features.arrow_schema, total, stream=found, version=builder.hash)


def _files(source: str, without: Sequence[Path]) -> list[str]:
    """
    Raises:
        ValueError: there is none, or one of a kind that is not read row by row.
    """
    if os.path.isdir(source):
        inside = [path for path in Path(source).iterdir() if not is_within(path, without)]
        found = sorted(str(path) for path in inside if path.suffix.lower() in SUFFIXES)
        if not found:
            raise ValueError(f"{source}: no file in this folder ends in {', '.join(SUFFIXES)}")
        return found
    if os.path.isfile(source):
        found = [source]
    else:
        found = sorted(path for path in glob.glob(source, recursive=True) if not is_within(path, without))
    if not found:
        raise ValueError(no_such_file(source))
    for path in found:
        if path.lower().endswith(".json"):
            raise ValueError(f"{path}: one JSON document cannot be read row by row; save it as JSON Lines (.jsonl)")
        if not path.lower().endswith(SUFFIXES):
            raise ValueError(f"{path}: files of rows end in {', '.join(SUFFIXES)}")
    return found


def _schema(path: str, delimiter: str | None) -> pa.Schema | None:
    """Columns of a file, with types where it says them; `None` where it holds nothing.

    Raises:
        ValueError: it cannot be read.
    """
    if not os.path.getsize(path):
        return None
    try:
        if _suffix(path) == ".parquet":
            return _no_twins(pq.read_schema(path), path)
        if _suffix(path) == ".arrow":
            with pa.memory_map(path) as file:
                return _no_twins(_arrow_parts(file)[0], path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if _suffix(path) in _CSV:
        return pa.schema([(name, pa.string()) for name in _header(path, _between(path, delimiter))])
    first = next(_read_json_lines(path), None)
    if first is None:
        return None
    good = [row for row, _ in itertools.islice(filter(_is_good, _read_json_lines(path)), _FIRST_ROWS)]
    if not good:
        raise ValueError(f"{first[0].place}: {first[0].error}; one JSON object on each line is expected")
    names = dict.fromkeys(name for row in good for name in row.values)
    return pa.schema([(name, pa.null()) for name in names])


def _is_good(read: tuple[Row, float]) -> bool:
    return read[0].error is None


def _no_twins(schema: pa.Schema, path: str) -> pa.Schema:
    twice = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if twice:
        raise ValueError(f"{path} has two columns called {twice[0]!r}")
    return schema


def _read(path: str, delimiter: str | None, columns: list[str]) -> Iterator[tuple[Row, float]]:
    """Rows, with the share of the file that has been read."""
    if _suffix(path) in _CSV:
        return _read_csv(path, _between(path, delimiter))
    return _read_json_lines(path) if _suffix(path) in _LINES else _read_arrow(path, columns)


def _between(path: str, delimiter: str | None) -> str:
    return delimiter or ("\t" if _suffix(path) == ".tsv" else ",")


def _header(path: str, delimiter: str) -> list[str]:
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        columns = next(csv.reader(file, delimiter=delimiter), None)
    if not columns:
        raise ValueError(f"{path} holds no row")
    if _not_utf8(dict.fromkeys(columns, "".join(columns))):
        raise ValueError(f"{path}: its first line is not in UTF-8; save it as UTF-8")
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
        lines = _Lines(io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=""))
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        next(reader)
        while True:
            lines.taken.clear()
            place = f"{path}, line {lines.number + 1}"
            try:
                fields = next(reader, None)
            except csv.Error as problem:
                # such as a quote that is never closed: one line is bad, and not all that it swallowed
                until, first = lines.number, _as_it_stands(lines.taken[:1])
                lines.back(lines.taken[1:])
                reader = csv.reader(lines, delimiter=delimiter, strict=True)
                error = f"{problem} (read up to line {until})" if lines.number < until else str(problem)
                yield Row({}, place, error, first), file.tell() / size
                continue
            if fields is None:
                return
            if not fields:  # an empty line
                continue
            values = dict(zip(columns, fields, strict=False))
            wrong = _not_utf8(values)
            if len(fields) != len(columns):
                wrong = f"{len(fields)} fields, and the header has {len(columns)}"
                wrong += f" (read up to line {lines.number})" if len(lines.taken) > 1 else ""
            line = None if wrong is None else _as_it_stands(lines.taken)
            yield Row(values, place, wrong, line), file.tell() / size


def _as_it_stands(lines: list[str]) -> str:
    return _without_end("".join(lines).encode("utf-8", "surrogateescape"))


def _without_end(line: bytes) -> str:
    """Text without the end of its line; bytes that are no UTF-8 are escapes."""
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")


class _Lines:
    """Lines of a file, some of which can be given back; `number` is how many were read."""

    def __init__(self, file: Iterator[str]) -> None:
        self._file = file
        self._again: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._file)
        self.number += 1
        self.taken.append(line)
        return line

    def back(self, lines: list[str]) -> None:
        self._again.extendleft(reversed(lines))
        self.number -= len(lines)


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
            except (ValueError, RecursionError) as problem:  # also bytes that are no UTF-8
                error = f"no JSON: {problem}"
            if not isinstance(values, dict):
                error = f"a JSON object is expected, not {values!r}"
                values = {}
            text = None if error is None else _without_end(line)
            if error is None and b"\\ud" in line.lower():  # half of a character, which no file can hold
                error = _not_utf8({name: json.dumps(own, ensure_ascii=False) for name, own in values.items()})
            yield Row(values if error is None else _printable(values), place, error, text), done / size


def _printable(values: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values, ensure_ascii=False).encode("utf-8", "backslashreplace").decode())


def _read_arrow(path: str, columns: list[str]) -> Iterator[tuple[Row, float]]:
    number = 0
    for batch, share in _arrow_batches(path, columns):
        for values in _rows_of(batch):
            error = values if isinstance(values, str) else None
            yield Row({} if isinstance(values, str) else values, f"{path}, row {number}", error), share
            number += 1


def _rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | str]:
    """Rows, or why one cannot be had (a date that Python has not)."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                yield str(error)


def _arrow_batches(path: str, columns: list[str]) -> Iterator[tuple[pa.RecordBatch, float]]:
    if _suffix(path) == ".parquet":
        with pq.ParquetFile(path) as file:
            rows, done = max(file.metadata.num_rows, 1), 0
            for batch in file.iter_batches(_BATCH, columns=columns):
                done += batch.num_rows
                yield batch.select(columns), done / rows
        return
    with pa.memory_map(path) as file:
        for batch in _arrow_parts(file)[1]:
            for begin in range(0, batch.num_rows, _BATCH):
                yield batch.select(columns).slice(begin, _BATCH), file.tell() / max(file.size(), 1)


def _arrow_parts(file: Any) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Of a file in Arrow's stream format, which `datasets` writes, or its file format."""
    try:
        stream = pa.ipc.open_stream(file)
        return stream.schema, iter(stream)
    except pa.ArrowInvalid:
        file.seek(0)
        reader = pa.ipc.open_file(file)
        return reader.schema, map(reader.get_batch, range(reader.num_record_batches))

"""Streams of rows from files, some of them bad, for predictions of more rows than fit into memory."""

import glob
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from transformers.utils import logging

from ..data.columns import column_hint
from ..data.readers import Row, TextFile
from ..data.readers_text import CSV, LINES, one_character, suffix_of
from ..data.readers_typed import EXCEL, SUFFIXES, TYPED, batches_of, excel_rows, is_rows, rows_of, schema_of
from ..data.sources import HUB_NAME, no_such_file
from .tables import fits

logger = logging.get_logger(__name__)

JSON = ".json"  # a single document, which is read at once
TEXTS = (*CSV, *LINES, JSON)
_FIRST_ROWS = 1000  # number of rows that determine the columns of JSON and Excel files
Files = str | Sequence[str]  # files, globs and folders, or the name of a dataset on the Hub


@dataclass
class RowSource:
    """Rows of files or of a dataset on the Hub, in their order.

    Args:
        files: Files in the order in which they are read; empty for a dataset on the Hub.
        columns: Columns of the rows (for JSON Lines, of the first rows; later rows may have others).
        schema: Types of the columns, if the files declare them (Parquet, Arrow).
        total: Number of rows, if it is known beforehand.
        version: Commit of a dataset on the Hub.
    """

    files: list[str]
    columns: list[str]
    schema: pa.Schema | None
    total: int | None
    texts: dict[str, TextFile] = field(default_factory=dict)  # the text files among the files
    stream: Any = None
    version: str | None = None
    wanted: list[str] | None = None  # columns to read from files that declare their columns; all by default
    share: float = 0.0  # share of the bytes that has been read

    def __iter__(self) -> Iterator[Row]:
        if self.stream is not None:
            stream = self.stream if self.wanted is None else self.stream.select_columns(self.wanted)
            for number, values in enumerate(stream):
                yield Row(dict(values), f"row {number}")
            return
        sizes = [max(os.path.getsize(path), 1) for path in self.files]
        for path, before, size in zip(self.files, itertools.accumulate(sizes, initial=0), sizes, strict=False):
            for row, done in _read(path, self.texts.get(path), self.wanted or self.columns):
                self.share = (before + done * size) / sum(sizes)
                yield row


def open_rows(
    source: Files,
    delimiter: str | None = None,
    split: str | None = None,
    config: str | None = None,
    without: Sequence[Path] = (),
    encoding: str | None = None,
) -> RowSource:
    """Open the rows of files, globs and folders, or of a dataset on the Hub.

    Args:
        source: One or several sources; a folder means all files in it.
        delimiter: As for `TextFile`.
        split: Split of a dataset on the Hub.
        config: Configuration of a dataset on the Hub.
        without: Files and folders that are skipped.
        encoding: As for `TextFile`.

    Raises:
        ValueError: A file does not exist, has an unknown type, is empty or cannot be read, or files have different
            columns.
    """
    sources = [source] if isinstance(source, str) else source
    if not isinstance(sources, (list, tuple)) or not all(isinstance(item, str) for item in sources):
        raise ValueError(
            f"files of rows or the name of a dataset on the Hub are expected, not a {type(source).__name__} "
            "(MultiHeadPredictor.predict takes rows themselves)"
        )
    if len(sources) == 1 and _is_hub_name(sources[0]):
        return _from_hub(sources[0], split, config)
    if split is not None or config is not None:
        raise ValueError("split and config are for datasets on the Hub; name the files")
    delimiter = None if delimiter is None else one_character(delimiter)
    files = [path for item in sources for path in _files(item, without)]
    texts = {
        path: TextFile(path, delimiter, encoding)
        for path in files
        if suffix_of(path) in TEXTS and os.path.getsize(path)
    }
    for recognised in filter(None, (text.recognised for text in texts.values())):
        logger.warning(recognised)
    schemas = {path: file_schema for path in files if (file_schema := _schema(path, texts.get(path))) is not None}
    if not schemas:
        raise ValueError(f"{sources[0] if len(sources) == 1 else sources} has no rows")
    files = list(schemas)
    first = schemas[files[0]]
    columns = list(first.names)
    for path, file_schema in schemas.items():
        if suffix_of(path) in (*LINES, JSON, EXCEL):
            columns += [name for name in file_schema.names if name not in columns]
        elif set(file_schema.names) != set(first.names):
            only = [name for name in file_schema.names if name not in first.names]
            missing = [name for name in first.names if name not in file_schema.names]
            raise ValueError(f"{path} has other columns than {files[0]}: missing {missing}, additional {only}")
    schema = _common_schema(schemas) if all(suffix_of(path) in TYPED for path in files) else None
    total = None
    if all(suffix_of(path) == ".parquet" for path in files):
        total = sum(pq.read_metadata(path).num_rows for path in files)
    return RowSource(files, columns, schema, total, texts)


def _common_schema(schemas: dict[str, pa.Schema]) -> pa.Schema:
    """Return types that fit the values of all files; text if no type fits all numbers."""
    try:
        common = pa.unify_schemas(list(schemas.values()), promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"the files {list(schemas)} have columns of different types: {error}") from None
    for index, column in enumerate(common):
        others = [path for path, schema in schemas.items() if schema.field(column.name).type != column.type]
        if not all(_holds(column, path) for path in others):
            common = common.set(index, column.with_type(pa.string()))
    return common


def _holds(column: pa.Field, path: str) -> bool:
    """Return whether the type of a column fits a file's values."""
    for batch, _ in batches_of(path, [column.name]):
        values = [row[column.name] for row in rows_of(batch) if isinstance(row, dict)]
        if not fits(values, column.type):
            return False
    return True


def is_within(path: str | Path, places: Sequence[Path]) -> bool:
    """Return whether a path is one of these, or is inside one, also through links."""
    real = Path(os.path.realpath(path))
    return any(real.is_relative_to(os.path.realpath(parent)) for parent in places)


def is_read_by(source: Files, path: Path) -> bool:
    """Return whether a folder or glob of the source includes this file."""
    sources = [source] if isinstance(source, str) else source
    folders = [os.path.join(item, "*") if os.path.isdir(item) else item for item in sources]
    return any(is_within(file, [path]) for item in folders for file in glob.glob(item, recursive=True))


def columns_of(path: Path) -> list[str]:
    """Return the columns of a file; an empty list if it is empty or not a file of rows."""
    if suffix_of(path) not in SUFFIXES or not path.stat().st_size:
        return []
    try:
        schema = _schema(str(path), TextFile(str(path)) if suffix_of(path) in TEXTS else None)
    except ValueError:
        return []
    return [] if schema is None else list(schema.names)


def check_columns(columns: list[str], names: list[str], what: str, advice: str = "") -> None:
    """Check that columns exist.

    Raises:
        ValueError: A requested column does not exist; the message suggests similar names.
    """
    for name in names:
        if name not in columns:
            raise ValueError(
                f"there is no column {name!r} for {what}.{column_hint(name, columns)} Columns: {columns}{advice}"
            )


def _is_hub_name(source: str) -> bool:
    if os.path.exists(source) or glob.glob(source, recursive=True):
        return False
    return HUB_NAME.fullmatch(source) is not None and not is_rows(source)


def _from_hub(name: str, split: str | None, config: str | None) -> RowSource:
    from datasets import IterableDatasetDict, load_dataset_builder
    from datasets.exceptions import DatasetNotFoundError

    try:
        builder = load_dataset_builder(name, config)
        dataset = builder.as_streaming_dataset(split=split)
    except (DatasetNotFoundError, ConnectionError) as error:
        raise ValueError(f"{name!r} is neither a local file nor a dataset on the Hub: {error}") from None
    if isinstance(dataset, IterableDatasetDict):
        if len(dataset) > 1:
            raise ValueError(f"{name!r} has the splits {list(dataset)}: choose one of them as split")
        dataset = next(iter(dataset.values()))
    if dataset.features is None:
        dataset = dataset._resolve_features()
    sizes = dataset.info.splits or {}
    total = sizes[str(dataset.split)].num_examples if str(dataset.split) in sizes else None
    # lists of these values are what datasets makes of them; types are those of Arrow
    return RowSource(
        [], list(dataset.features), dataset.features.arrow_schema, total, stream=dataset, version=builder.hash
    )


def _files(source: str, without: Sequence[Path]) -> list[str]:
    """Return the files of one source.

    Raises:
        ValueError: There are no files, or a file has a type that is not read row by row.
    """
    if os.path.isdir(source):
        inside = [path for path in Path(source).iterdir() if not is_within(path, without)]
        paths = sorted(str(path) for path in inside if is_rows(path))
        if not paths:
            raise ValueError(f"{source}: no file in this folder ends in {', '.join(SUFFIXES)}")
        return paths
    if os.path.isfile(source):
        paths = [source]
    else:
        paths = sorted(path for path in glob.glob(source, recursive=True) if not is_within(path, without))
    if not paths:
        raise ValueError(no_such_file(source))
    for path in paths:
        if not is_rows(path):
            raise ValueError(f"{path}: files of rows end in {', '.join(SUFFIXES)}")
    return paths


def _schema(path: str, text: TextFile | None) -> pa.Schema | None:
    """Return the columns of a file, with types if it declares them; `None` if it is empty.

    Raises:
        ValueError: It cannot be read.
    """
    if not os.path.getsize(path):
        return None
    if suffix_of(path) in TYPED:
        return schema_of(path)
    if suffix_of(path) in CSV and text is not None:
        return pa.schema([(name, pa.string()) for name in text.columns])
    first = next(_read(path, text, []), None)
    if first is None:
        return None
    good = [row for row, _ in itertools.islice(filter(_is_good, _read(path, text, [])), _FIRST_ROWS)]
    if not good:
        raise ValueError(f"{first[0].place}: {first[0].error}; one JSON object on each line is expected")
    names = dict.fromkeys(name for row in good for name in row.values)
    return pa.schema([(name, pa.null()) for name in names])


def _is_good(read: tuple[Row, float]) -> bool:
    return read[0].error is None


def _read(path: str, text: TextFile | None, columns: list[str]) -> Iterator[tuple[Row, float]]:
    """Yield rows, with the share of the file that has been read."""
    if text is not None:
        return text.rows()
    return _read_excel(path) if suffix_of(path) == EXCEL else _read_typed(path, columns)


def _read_excel(path: str) -> Iterator[tuple[Row, float]]:
    for number, values in enumerate(excel_rows(path)):
        error = values if isinstance(values, str) else None
        yield Row({} if isinstance(values, str) else values, f"{path}, row {number}", error), 0.0


def _read_typed(path: str, columns: list[str]) -> Iterator[tuple[Row, float]]:
    number = 0
    for batch, share in batches_of(path, columns):
        for values in rows_of(batch):
            error = values if isinstance(values, str) else None
            yield Row({} if isinstance(values, str) else values, f"{path}, row {number}", error), share
            number += 1

"""Datasets from files, globs, data frames and names on the Hub."""

import contextlib
import glob
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import pandas as pd
import pyarrow as pa
from datasets import (
    Dataset,
    DatasetDict,
    Features,
    IterableDataset,
    IterableDatasetDict,
    List,
    Value,
    concatenate_datasets,
    load_dataset,
)
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError
from datasets.table import InMemoryTable
from pyarrow import ArrowException, ArrowInvalid
from transformers.utils import logging

from ..model.head_multihead import near_names
from .frames import from_frame, from_polars, table_of, typed
from .readers import NOT_DECODED, Row, TextFile
from .readers_text import CSV, one_character, suffix_of
from .readers_typed import EXCEL, SUFFIXES, TYPED, batches_of, excel_rows, is_rows, schema_of
from .rows_like import AnyDataset, RowsLike

if TYPE_CHECKING:
    import polars as pl
    from datasets.features.features import FeatureType

logger = logging.get_logger(__name__)

PARTS = ("train", "validation", "test")
# names of splits that `datasets` recognises
_OTHER_NAMES = {"training": "train", **dict.fromkeys(("dev", "val", "valid"), "validation"), "testing": "test"}
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
FIRST_ROWS = 1000  # number of rows of a stream from which its columns and their types are determined


def read_dataset(
    source: RowsLike,
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    strings: Collection[str] = (),
    **hub: Any,
) -> AnyDataset:
    """Read a dataset from a file, folder, data frame or the Hub.

    Args:
        source: a `datasets` dataset or dict of them (returned as it is), a pandas or polars data frame, a CSV, TSV,
            JSON or JSON Lines file (also as `.gz` or `.zst`), a Parquet, Arrow or Excel file (`.xlsx`, its first
            sheet), a glob or a list of such files (read as one table), a folder with files named after their splits
            (`train.csv`, `test.csv`; `dev` and `val` are `validation`), a dict split → any of these, or the name of a
            dataset on the Hub.
        delimiter: character between the columns of CSV files. By default a comma, a tab in `.tsv` files, or a semicolon
            where the first lines contain semicolons. "NA" and "None" are read as ordinary labels; an empty cell is a
            missing number or an empty string. A column with a number that begins with 0 or +, or that is too long for a
            number, holds strings.
        encoding: encoding of text files, such as `"cp1252"`. By default UTF-8, or that of the byte order mark.
        strings: columns of CSV files that are read as strings, as they are written, whatever they look like; in JSON
            and Excel files they may hold numbers beside strings. (Columns of joined labels are read in this way where
            the separator is known.)
        hub: keyword arguments of `datasets.load_dataset` for a dataset on the Hub (`name`, `split`, `streaming`, …).

    Returns:
        The rows as a `Dataset`, or a `DatasetDict` for several splits; streams only where `source` or `hub` asks for
        them.

    Raises:
        ValueError: If a file does not exist or cannot be read, files have different columns, a column has mixed types,
            or a delimiter does not separate anything; the message contains the file, the column and the row.

    Example:
        >>> from multihead_hf import read_dataset
        >>> rows = read_dataset("complaints.csv")
        >>> rows.column_names, len(rows)
        (['text', 'topics', 'mood'], 40)
    """
    if isinstance(source, (Dataset, DatasetDict, IterableDataset, IterableDatasetDict)):
        return source
    written = _Written(None if delimiter is None else one_character(delimiter), encoding, strings)
    if isinstance(source, pd.DataFrame):
        return from_frame(source, "the data frame")
    if is_polars(source):
        return from_polars(source)
    if isinstance(source, Mapping):
        if any(_is_column(values) for values in source.values()):
            raise ValueError(
                f"rows as a dict of columns {list(source)}: pass Dataset.from_dict(rows). A dict given here has a "
                "split in each entry"
            )
        inner: dict[str, Any] = {"delimiter": delimiter, "encoding": encoding, "strings": strings}
        return DatasetDict({part: read_dataset(rows, **inner) for part, rows in source.items()})
    if isinstance(source, (list, tuple)) and source and all(isinstance(path, (str, os.PathLike)) for path in source):
        return _from_files([os.fspath(path) for path in source], written)
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            f"rows must be a datasets.Dataset, a pandas or polars data frame, files ({', '.join(SUFFIXES)}) or the "
            f"name of a dataset on the Hub, not a {type(source).__name__}: Dataset.from_list(rows) for a list of "
            "dicts"
        )
    path = os.fspath(source)
    if os.path.isdir(path):
        return _from_folder(path, written)
    if os.path.isfile(path):
        return _from_files([path], written)
    paths = sorted(glob.glob(path, recursive=True))
    if paths:
        return _from_files(paths, written)
    if HUB_NAME.fullmatch(path) and not is_rows(path):
        try:
            return load_dataset(path, **hub)
        except (DatasetNotFoundError, ConnectionError) as error:
            raise ValueError(f"{path!r} is neither a local file nor a dataset on the Hub: {error}") from None
    raise ValueError(no_such_file(path))


def _is_column(values: object) -> bool:
    """Return whether this is a list of values instead of files."""
    if not isinstance(values, (list, tuple)) or not values:
        return False
    first = values[0]
    return not isinstance(first, (str, os.PathLike)) or not (is_rows(os.fspath(first)) or os.path.exists(first))


class _Written(NamedTuple):
    """Delimiter and encoding of text files, and the columns of CSV files that are always read as strings."""

    delimiter: str | None
    encoding: str | None
    strings: Collection[str]


def is_polars(source: object) -> "TypeGuard[pl.DataFrame | pl.LazyFrame]":
    """Return whether this is a polars data frame; polars itself need not be installed."""
    return type(source).__module__.partition(".")[0] == "polars" and type(source).__name__ in ("DataFrame", "LazyFrame")


def is_read(source: object) -> bool:
    """Return whether rows must be read from it: files, a folder, a name on the Hub, or a data frame."""
    files = isinstance(source, list) and source and all(isinstance(item, (str, os.PathLike)) for item in source)
    return bool(files) or isinstance(source, (str, os.PathLike, pd.DataFrame)) or is_polars(source)


DEFAULT_PARTS = ("test", "validation")
"""Splits to evaluate a model on: the first of these that a dataset has is used."""


def one_part(
    data: AnyDataset,
    split: str | None,
    parts: Sequence[str] = DEFAULT_PARTS,
) -> Dataset | IterableDataset:
    """Return the rows of one split, by default the first of `parts` that exists, or rows that have no splits.

    Raises:
        ValueError: If the split does not exist, or it is not clear which split is meant.
    """
    if not isinstance(data, Mapping):
        if split is not None:
            raise ValueError(f"split {split!r}: these rows have no splits; leave it out")
        return data
    for name in parts if split is None else [split]:
        if name in data:
            return data[name]
    raise ValueError(f"the splits are {list(data)}: choose one of them as split")


def training_part(parts: Iterable[str]) -> str:
    """Return the name of the split that is trained on: `train`, else the first."""
    names = list(parts)
    return "train" if "train" in names else names[0]


@contextlib.contextmanager
def in_part(part: str) -> Iterator[None]:
    """Context manager: errors about rows contain the name of the split; `""` stands for no split."""
    try:
        yield
    except ValueError as error:
        if not part:
            raise
        raise ValueError(f"split {part!r}: {error}") from error


def column_batches(dataset: Dataset | IterableDataset, columns: list[str]) -> Iterator[dict[str, list]]:
    """Return the plain values of some columns in batches of 1,000 rows."""
    return dataset.select_columns(columns).with_format(None).iter(batch_size=1000)


def no_such_file(path: str) -> str:
    """Return the message that a file does not exist, with similar names."""
    folder = os.path.dirname(path) or "."
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return f"{path}: there is no such file, and no file matches it.{near_names(os.path.basename(path), names)}"


def _from_folder(folder: str, written: _Written) -> DatasetDict:
    if os.path.isfile(os.path.join(folder, "dataset_dict.json")) or os.path.isfile(os.path.join(folder, "state.json")):
        raise ValueError(f"{folder} was written by save_to_disk: pass datasets.load_from_disk({folder!r})")
    files: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):
        stem = name[: name.lower().rindex(suffix_of(name))] if is_rows(name) else name
        part = _OTHER_NAMES.get(stem.lower(), stem)
        if is_rows(name):
            if part in files:
                raise ValueError(f"{folder}: {files[part]} and {name} would both be the split {part!r}; name the files")
            files[part] = name
    if not files:
        raise ValueError(f"{folder}: no file in this folder ends in {', '.join(SUFFIXES)}")
    order = sorted(files, key=lambda part: PARTS.index(part) if part in PARTS else len(PARTS))
    return DatasetDict({part: _from_files([os.path.join(folder, files[part])], written) for part in order})


def _from_files(paths: Sequence[str], written: _Written) -> Dataset:
    strings = written.strings
    all_csv = all(suffix_of(path) in CSV for path in paths)
    tables: list[Any] = [
        _read(path, written) if all_csv else _as_dataset(_read(path, written), path, strings) for path in paths
    ]
    columns = [list(table.columns) if all_csv else table.column_names for table in tables]
    for path, names in zip(paths[1:], columns[1:], strict=True):
        only_first = [column for column in columns[0] if column not in names]
        only_here = [column for column in names if column not in columns[0]]
        if only_first or only_here:
            raise ValueError(f"{path} has other columns than {paths[0]}: missing {only_first}, additional {only_here}")
    if all_csv:  # concatenated before types are inferred: a column may be empty in one file
        what = paths[0] if len(paths) == 1 else f"files {list(paths)}"
        return _as_dataset(pd.concat(tables, ignore_index=True), what, strings)
    return tables[0] if len(tables) == 1 else joined(tables, paths)


def joined(tables: Sequence[Dataset], names: Sequence[str]) -> Dataset:
    """Concatenate tables with the same columns.

    Args:
        tables: the tables.
        names: their names in messages.

    Raises:
        ValueError: If a column has types that do not fit together; the message contains the column and two names.
    """
    features = Features()
    for column in tables[0].column_names:
        features[column] = tables[0].features[column]
        for name, table in zip(names[1:], tables[1:], strict=True):
            common = _common(features[column], table.features[column])
            if common is None:
                raise ValueError(
                    f"{name}, column {column!r}: the type is {table.features[column]}, but {features[column]} in "
                    f"{names[0]}; make them one type, such as strings"
                )
            features[column] = common
    try:
        return concatenate_datasets([table.select_columns(list(features)).cast(features) for table in tables])
    except (ValueError, ArrowException) as error:
        raise ValueError(f"{list(names)} cannot be read as one table: {error}") from None


def _common(one: "FeatureType", other: "FeatureType") -> "FeatureType | None":
    """Return the common type of two columns; `None` if there is none."""
    if one == other:
        return one
    if isinstance(one, List) and isinstance(other, List):
        inner = _common(one.feature, other.feature)
        return None if inner is None else List(inner)
    for feature, another in ((one, other), (other, one)):
        if isinstance(feature, Value) and feature.dtype == "null":  # no row has a value
            return another
    if not (isinstance(one, Value) and isinstance(other, Value)):
        return None
    fields = [pa.schema({"": value.pa_type}) for value in (one, other)]
    try:
        schema = pa.unify_schemas(fields, promote_options="permissive")
    except ArrowException:
        return None
    return Features.from_arrow_schema(schema)[""]


def _read(path: str, written: _Written) -> Dataset | pd.DataFrame:
    """Read one file; cells of a CSV file stay strings.

    Raises:
        ValueError: If the file cannot be read, or holds no row.
    """
    if not is_rows(path):
        raise ValueError(f"{path}: files of rows end in {', '.join(SUFFIXES)}")
    suffix = suffix_of(path)
    try:
        if suffix in TYPED:
            return _not_empty(_typed_file(path), path)
        if suffix == EXCEL:
            return table_of(list(_valid(excel_rows(path), path)), path, written.strings)
        if os.path.getsize(path) == 0:
            raise ValueError(f"{path} has no rows")
        text = TextFile(path, written.delimiter, written.encoding)
        return _read_csv(text) if suffix in CSV else _read_json(text, written.strings)
    except (OSError, EOFError, ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except DatasetGenerationError as error:
        cause = error.__cause__ or error
        raise ValueError(f"{path} cannot be read: {str(cause).strip() or type(cause).__name__}") from None


def _valid(rows: Iterable[dict[str, Any] | str], path: str) -> Iterator[dict[str, Any]]:
    """Return the rows; raise `ValueError` for the first one that cannot be read."""
    for row in rows:
        if isinstance(row, str):
            raise ValueError(f"{path} cannot be read: {row}")
        yield row


def _typed_file(path: str) -> Dataset:
    if suffix_of(path) == ".parquet":
        return Dataset.from_parquet(path)
    schema = schema_of(path)
    return Dataset(InMemoryTable.from_batches([batch for batch, _ in batches_of(path, schema.names)], schema))


def _read_json(text: TextFile, strings: Collection[str]) -> Dataset:
    rows = text.document() if text.suffix == ".json" else [_strict(row, text) for row, _ in text.rows()]
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{text.name} cannot be read: row {number} is {row!r}, but a JSON object is expected")
    return table_of(rows, text.name, strings)


def _strict(row: Row, text: TextFile) -> dict[str, Any]:
    """Return the values of a valid row.

    Raises:
        ValueError: If the row is invalid.
    """
    if row.error is None:
        return row.values
    if NOT_DECODED in row.error:
        raise ValueError(text.not_decoded(int(row.place.rpartition(" ")[2])))
    raise ValueError(f"{text.name} cannot be read: {row.place.removeprefix(f'{text.name}, ')}: {row.error}")


def _not_empty(table: Dataset, path: str) -> Dataset:
    if not len(table):
        raise ValueError(f"{path} has no rows")
    return table


def _read_csv(text: TextFile) -> pd.DataFrame:
    """Return cells as strings, `None` for empty ones; warn about rows with fewer fields than the header.

    Raises:
        ValueError: If a row cannot be read, or has more fields than the header that are not all empty.
    """
    if text.recognised:
        logger.warning(text.recognised)
    columns = text.columns
    rows: list[list[str]] = []
    short: list[int] = []
    for record, _ in text.records():
        fields = record.fields
        if record.error is not None:
            _strict(Row({}, f"{text.name}, line {record.number}", record.error), text)
        if len(fields) == len(columns):
            rows.append(fields)
            continue
        if any(fields[len(columns) :]):
            raise ValueError(
                f"{text.name}, line {record.until}: {len(fields)} fields, but the header has {len(columns)}, "
                f"{columns}; put quotes around texts that hold {text.delimiter!r}"
            )
        if len(fields) < len(columns):
            short.append(record.until)
        rows.append([*fields, *([""] * (len(columns) - len(fields)))][: len(columns)])
    if not rows:
        raise ValueError(f"{text.name} has no rows below its header {columns}")
    if short:
        logger.warning(
            f"{text.name}: {len(short):,} rows have fewer fields than the header {columns}, and their missing fields "
            f"are read as empty; the first is line {short[0]}"
        )
    cells = zip(columns, zip(*rows, strict=True), strict=True)
    return pd.DataFrame({name: pd.Series([cell or None for cell in column], dtype="string") for name, column in cells})


def _as_dataset(table: Dataset | pd.DataFrame, what: str, strings: Collection[str]) -> Dataset:
    """Convert a table to a dataset; the cells of a CSV file get their types here."""
    if isinstance(table, Dataset):
        return table
    return from_frame(table.apply(lambda column: column.fillna("") if column.name in strings else typed(column)), what)

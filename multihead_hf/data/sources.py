"""Whatever holds a user's rows, as a `datasets` dataset: files, globs, data frames, Hub names."""

import contextlib
import csv
import glob
import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
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
from pyarrow import ArrowException, ArrowInvalid
from transformers.utils import logging

from ..model.head_multihead import near_names

logger = logging.get_logger(__name__)

_CSV = (".csv", ".tsv")
_JSON = (".json", ".jsonl")
SUFFIXES = (*_CSV, *_JSON, ".parquet")
PARTS = ("train", "validation", "test")
# of parts, as `datasets` knows them
_OTHER_NAMES = {"training": "train", **dict.fromkeys(("dev", "val", "valid"), "validation"), "testing": "test"}
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
FIRST_ROWS = 1000  # of a stream, that say its columns and what they hold
DELIMITERS = (",", ";", "\t", "|")
# how a CSV file writes what is no text; of integers those that keep each of their characters as numbers
_BOOLEANS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_INTEGER = r"-?(0|[1-9]\d{0,17})"
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_NAME_OF_DIGITS = r"[-+]?(0\d.*|\d{16,})"  # a postcode, an id: as a number it would lose digits


def read_dataset(
    source: Any, *, delimiter: str | None = None, strings: Collection[str] = (), **hub: Any
) -> Dataset | DatasetDict | IterableDataset | IterableDatasetDict:
    """A dataset from whatever holds the rows.

    Args:
        source: a `datasets` dataset or dict of them (returned as it is), a pandas or polars data frame, a CSV, TSV,
            JSON, JSON Lines or Parquet file, a glob or a list of such files (read as one table), a folder with files
            named after their parts (`train.csv`, `test.csv`; `dev` and `val` are `validation`), a dict part → any of
            these, or the name of a data set on the Hub.
        delimiter: between the columns of CSV files; by default a comma, and a tab in `.tsv` files. "NA" and "None" are
            labels like others there; an empty cell is a missing number or an empty string. A column with a number that
            begins with 0 or +, or that is too long for one, holds strings.
        strings: columns of CSV files that hold strings, as they are written there, whatever they look like. (Columns of
            joined labels are read in this way where the separator is known.)
        hub: for `datasets.load_dataset` with the name of a data set on the Hub (`name`, `split`, `streaming`, …).

    Raises:
        ValueError: a file that does not exist or cannot be read, files with different columns, a column of mixed
            types, or a delimiter that does not separate anything; names the file, the column and the row.
    """
    if isinstance(source, (Dataset, DatasetDict, IterableDataset, IterableDatasetDict)):
        return source
    delimiter = None if delimiter is None else one_character(delimiter)
    if isinstance(source, pd.DataFrame):
        return _from_frame(source, "the data frame")
    if is_polars(source):
        return _from_polars(source)
    if isinstance(source, Mapping):
        return DatasetDict(
            {part: read_dataset(rows, delimiter=delimiter, strings=strings) for part, rows in source.items()}
        )
    if isinstance(source, (list, tuple)) and source and all(isinstance(path, (str, os.PathLike)) for path in source):
        return _from_files([os.fspath(path) for path in source], delimiter, strings)
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            f"rows are a datasets.Dataset, a pandas or polars data frame, files ({', '.join(SUFFIXES)}) or the name of "
            f"a data set on the Hub, not a {type(source).__name__}: Dataset.from_list(rows) for a list of dicts"
        )
    path = os.fspath(source)
    if os.path.isdir(path):
        return _from_folder(path, delimiter, strings)
    if os.path.isfile(path):
        return _from_files([path], delimiter, strings)
    found = sorted(glob.glob(path, recursive=True))
    if found:
        return _from_files(found, delimiter, strings)
    if HUB_NAME.fullmatch(path) and not path.lower().endswith(SUFFIXES):
        try:
            return load_dataset(path, **hub)
        except (DatasetNotFoundError, ConnectionError) as error:
            raise ValueError(f"{path!r} is neither a file here nor a data set on the Hub: {error}") from None
    raise ValueError(no_such_file(path))


def is_polars(source: Any) -> bool:
    """Whether it is a polars data frame; polars itself need not be installed."""
    return type(source).__module__.partition(".")[0] == "polars" and type(source).__name__ in ("DataFrame", "LazyFrame")


def is_read(source: Any) -> bool:
    """Whether rows have to be read out of it first: files, a folder, a name on the Hub, or a data frame."""
    files = isinstance(source, list) and source and all(isinstance(each, (str, os.PathLike)) for each in source)
    return bool(files) or isinstance(source, (str, os.PathLike, pd.DataFrame)) or is_polars(source)


DEFAULT_PARTS = ("test", "validation")
"""Of a data set in parts the one to judge a model on: the first of these that it has."""


def one_part(data: Any, split: str | None, parts: Sequence[str] = DEFAULT_PARTS) -> Any:
    """The rows of the part `split`, by default of the first of `parts`; rows that are not in parts as they are.

    Raises:
        ValueError: there is no such part, or it is not clear which.
    """
    if not isinstance(data, Mapping):
        if split is not None:
            raise ValueError(f"split {split!r}: these rows are not in parts; leave it out")
        return data
    for name in parts if split is None else [split]:
        if name in data:
            return data[name]
    raise ValueError(f"the parts are {list(data)}: name one of them as split")


def training_part(parts: Iterable[str]) -> str:
    """The part that is trained on: `train`, else the first."""
    names = list(parts)
    return "train" if "train" in names else names[0]


@contextlib.contextmanager
def in_part(part: str) -> Iterator[None]:
    """What is wrong with rows says in which part they are; `""` is none."""
    try:
        yield
    except ValueError as error:
        if not part:
            raise
        raise ValueError(f"part {part!r}: {error}") from error


def column_batches(dataset: Dataset | IterableDataset, columns: list[str]) -> Iterator[dict[str, list]]:
    """Plain values of some columns, 1,000 rows at a time."""
    return dataset.select_columns(columns).with_format(None).iter(batch_size=1000)


def one_character(delimiter: str) -> str:
    """A delimiter, also written as `\\t` or `tab`.

    Raises:
        ValueError: it is more than one character, or none.
    """
    known = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
    if len(known) != 1:
        raise ValueError(f"delimiter {delimiter!r}: one character is expected, such as ; or \\t")
    return known


def no_such_file(path: str) -> str:
    """That a file does not exist, and which are like it."""
    folder = os.path.dirname(path) or "."
    beside = os.listdir(folder) if os.path.isdir(folder) else []
    return f"{path}: there is no such file, and no file matches it.{near_names(os.path.basename(path), beside)}"


def _from_folder(folder: str, delimiter: str | None, strings: Collection[str]) -> DatasetDict:
    if os.path.isfile(os.path.join(folder, "dataset_dict.json")) or os.path.isfile(os.path.join(folder, "state.json")):
        raise ValueError(f"{folder} was written by save_to_disk: pass datasets.load_from_disk({folder!r})")
    files: dict[str, str] = {}
    for name in sorted(os.listdir(folder)):
        stem, suffix = os.path.splitext(name)
        part = _OTHER_NAMES.get(stem.lower(), stem)
        if suffix.lower() in SUFFIXES:
            if part in files:
                raise ValueError(f"{folder}: {files[part]} and {name} would both be the part {part!r}; name the files")
            files[part] = name
    if not files:
        raise ValueError(f"{folder}: no file in this folder ends in {', '.join(SUFFIXES)}")
    order = sorted(files, key=lambda part: PARTS.index(part) if part in PARTS else len(PARTS))
    return DatasetDict({part: _from_files([os.path.join(folder, files[part])], delimiter, strings) for part in order})


def _from_files(paths: Sequence[str], delimiter: str | None, strings: Collection[str]) -> Dataset:
    all_csv = all(path.lower().endswith(_CSV) for path in paths)
    tables: list[Any] = [
        _read(path, delimiter) if all_csv else _as_dataset(_read(path, delimiter), path, strings) for path in paths
    ]
    columns = [list(table.columns) if all_csv else table.column_names for table in tables]
    for path, own in zip(paths[1:], columns[1:], strict=True):
        only_first = [column for column in columns[0] if column not in own]
        only_here = [column for column in own if column not in columns[0]]
        if only_first or only_here:
            raise ValueError(
                f"{path} has other columns than {paths[0]}: only there {only_first}, only here {only_here}"
            )
    if all_csv:  # as one table before types are settled: a column may be empty in one file
        what = paths[0] if len(paths) == 1 else f"files {list(paths)}"
        return _as_dataset(pd.concat(tables, ignore_index=True), what, strings)
    return tables[0] if len(tables) == 1 else _joined(tables, paths)


def _joined(tables: Sequence[Dataset], paths: Sequence[str]) -> Dataset:
    """
    Raises:
        ValueError: a column is of types that are not one; names it and two of the files.
    """
    features = Features()
    for column in tables[0].column_names:
        features[column] = tables[0].features[column]
        for path, table in zip(paths[1:], tables[1:], strict=True):
            common = _common(features[column], table.features[column])
            if common is None:
                raise ValueError(
                    f"{path}, column {column!r}: {table.features[column]}, and {features[column]} in {paths[0]}; make "
                    "them one type, such as strings"
                )
            features[column] = common
    try:
        return concatenate_datasets([table.select_columns(list(features)).cast(features) for table in tables])
    except (ValueError, ArrowException) as error:
        raise ValueError(f"the files {list(paths)} are no one table: {error}") from None


def _common(one: Any, other: Any) -> Any:
    """The feature that values of both have; `None` where there is none."""
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
    fields = [pa.schema({"": each.pa_type}) for each in (one, other)]
    try:
        schema = pa.unify_schemas(fields, promote_options="permissive")
    except ArrowException:
        return None
    return Features.from_arrow_schema(schema)[""]


def _read(path: str, delimiter: str | None) -> Dataset | pd.DataFrame:
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix in _CSV:
            return _read_csv(path, delimiter or ("\t" if suffix == ".tsv" else ","))
        if suffix in _JSON:
            return _read_json(path)
        if suffix == ".parquet":
            return _not_empty(Dataset.from_parquet(path), path)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not in UTF-8 ({error.reason} at byte {error.start:,}): save it as UTF-8, or pass a data frame, "
            f"pandas.read_csv({path!r}, encoding='latin-1')"
        ) from None
    except (OSError, ArrowInvalid, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except DatasetGenerationError as error:
        cause = error.__cause__ or error
        raise ValueError(f"{path} cannot be read: {str(cause).strip() or type(cause).__name__}") from None
    raise ValueError(f"{path}: files of rows end in {', '.join(SUFFIXES)}")


def _read_json(path: str) -> Dataset:
    with open(path, "rb") as file:
        has_rows = False
        for number, line in enumerate(file, start=1):
            try:
                has_rows |= line.decode("utf-8-sig").strip(" \t\r\n[]{},") not in ("", "null")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path} is not in UTF-8 (line {number}: {error.reason}): save it as UTF-8, or pass a data frame, "
                    f"pandas.read_json({path!r}, lines=True, encoding='latin-1')"
                ) from None
        if not has_rows:
            raise ValueError(f"{path} holds no row")
        # in one piece: types that are settled on the first piece would be forced on the others
        table = _not_empty(Dataset.from_json(path, chunksize=max(file.tell(), 1)), path)
    for column, feature in table.features.items():
        inner = feature.feature if isinstance(feature, List) else feature
        if type(inner).__name__ == "Json":  # what newer versions of datasets make of mixed values
            _check_one_type(pd.Series(list(table[column]), dtype=object), column, path)
    return table


def _not_empty(table: Dataset, path: str) -> Dataset:
    if not len(table):
        raise ValueError(f"{path} holds no row")
    return table


def _read_csv(path: str, delimiter: str) -> pd.DataFrame:
    header = pd.read_csv(path, sep=delimiter, header=None, nrows=1, dtype=str, keep_default_na=False, index_col=False)
    columns = [str(column) for column in header.iloc[0]]
    _check_names(columns, path)
    others = [other for other in DELIMITERS if other != delimiter and any(other in column for column in columns)]
    if len(columns) == 1 and others:
        raise ValueError(
            f"{path}: with the delimiter {delimiter!r} it has one column, {columns[0]!r}. If that is several, "
            f"pass read_dataset({path!r}, delimiter={others[0]!r})"
        )
    options = {"dtype": str, "keep_default_na": False, "na_values": [""], "index_col": False}
    with warnings.catch_warnings():
        # rows with more fields than the header: of what is left over nothing may be lost
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(path, sep=delimiter, **options)
        except pd.errors.ParserWarning:
            _check_fields(path, delimiter, columns)
            warnings.simplefilter("ignore", pd.errors.ParserWarning)
            frame = pd.read_csv(path, sep=delimiter, **options)
    if not len(frame):
        raise ValueError(f"{path} holds no row below its header {columns}")
    if frame[frame.columns[-1]].isna().any():
        _check_fields(path, delimiter, columns)
    return frame


def _check_fields(path: str, delimiter: str, columns: list[str]) -> None:
    """Warn of rows with fewer fields than the header.

    Raises:
        ValueError: a row has more, and not for empty ones at its end; names its line.
    """
    short = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        for row in reader:
            if any(row[len(columns) :]):
                raise ValueError(
                    f"{path}, line {reader.line_num}: {len(row)} fields, and the header has {len(columns)}, {columns}; "
                    f"put quotes around texts that hold {delimiter!r}"
                )
            if 0 < len(row) < len(columns):
                short.append(reader.line_num)
    if short:
        logger.warning(
            f"{path}: {len(short):,} rows have fewer fields than the header {columns}, and the others count as empty; "
            f"the first is line {short[0]}"
        )


def _as_dataset(table: Dataset | pd.DataFrame, what: str, strings: Collection[str]) -> Dataset:
    """A table that was read; of a CSV file, whose cells are strings as they are written, with the types they have."""
    if isinstance(table, Dataset):
        return table
    return _from_frame(table.apply(lambda own: own.fillna("") if own.name in strings else _typed(own)), what)


def _typed(written: pd.Series) -> pd.Series:
    """The booleans, integers, numbers or strings of a column; of no type where all cells are empty."""
    known = written.dropna()
    if not len(known):
        return pd.Series([None] * len(written), dtype=object)
    if known.isin(_BOOLEANS.keys()).all():
        return written.map(_BOOLEANS).astype("boolean")
    if known.str.fullmatch(_INTEGER).all():
        return pd.Series([None if pd.isna(cell) else int(cell) for cell in written], dtype="Int64")
    whole = known.str.fullmatch(r"[-+]?\d+").all()
    if not whole and known.str.fullmatch(_NUMBER).all() and not known.str.fullmatch(_NAME_OF_DIGITS).any():
        return written.astype("float64")
    return written.fillna("")


def table_of(rows: Sequence[Mapping[str, Any]], what: str) -> Dataset:
    """Rows as a table, also where some lack a column.

    Raises:
        ValueError: there is none, or a column holds values of several types; names the row.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        raise ValueError(f"{what} holds no row, or no such column")
    return _from_frame(
        pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in columns}), what
    )


# what datasets and Arrow say of values that they do not know
_NO_COLUMN = (ArrowException, TypeError, ValueError, OverflowError, NotImplementedError)


def _check_names(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what} has two columns called {twice[0]!r}")


def _from_frame(frame: pd.DataFrame, what: str) -> Dataset:
    if not len(frame):
        raise ValueError(f"{what} holds no row; its columns are {list(frame.columns)}")
    _check_names([str(column) for column in frame.columns], what)
    for column in frame.columns:
        _check_one_type(frame[column], str(column), what)
    frame = frame.rename(columns=str).reset_index(drop=True)
    try:
        return Dataset.from_pandas(frame, preserve_index=False)
    except _NO_COLUMN:
        for column in frame.columns:
            try:
                Dataset.from_pandas(frame[[column]], preserve_index=False)
            except _NO_COLUMN as error:
                raise ValueError(
                    f"{what}, column {column!r} cannot be read: {str(error).splitlines()[0]}. Make its values strings, "
                    "numbers or lists of them, or leave the column out"
                ) from None
        raise


def _from_polars(frame: Any) -> Dataset:
    try:
        rows = Dataset.from_polars(frame)
    except _NO_COLUMN as error:
        raise ValueError(
            f"the data frame cannot be read: {str(error).splitlines()[0]}. Make the values strings, numbers or lists "
            "of them, or leave the column out"
        ) from None
    if not len(rows):
        raise ValueError(f"the data frame holds no row; its columns are {rows.column_names}")
    return rows


def _check_one_type(values: pd.Series, column: str, what: str) -> None:
    """
    Raises:
        ValueError: a column holds values of several types; names the first row whose type differs.
    """
    if values.dtype != object:
        return
    # of the values themselves (False), and of those in lists
    first: dict[bool, tuple[int, Any]] = {}
    known: dict[bool, set[type]] = {False: {type(None)}, True: {type(None)}}
    for row, value in enumerate(values):
        for in_list, own in ((False, [value]), (True, value if _kind(value) == "list" else [])):
            if known[in_list].issuperset(map(type, own)):  # millions of cells are of types that were looked at
                continue
            for each in own:
                if pd.api.types.is_scalar(each) and pd.isna(each):
                    continue
                at, one = first.setdefault(in_list, (row, each))
                if _kind(each) != _kind(one):
                    raise ValueError(
                        f"{what}, column {column!r}: mixed types{' in its lists' * in_list}, {one!r} in row {at} is a "
                        f"{_kind(one)} and {each!r} in row {row} a {_kind(each)}; make all of them one type, such as "
                        "strings"
                    )
                known[in_list].add(type(each))


def _kind(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, Real):
        return "number"
    if isinstance(value, str):
        return "str"
    return "list" if isinstance(value, (list, tuple, np.ndarray)) else type(value).__name__

"""Data frames and rows as `datasets` tables, whose columns each hold values of one type."""

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from datasets import Dataset
from pyarrow import ArrowException

from .readers_text import check_names

if TYPE_CHECKING:
    import polars as pl

# CSV spellings of values that are not text; a number must be written back with the same characters, so that codes
# ("007"), versions ("1.10") and long ids remain strings
_BOOLEANS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_INTEGER = r"0|-?[1-9][0-9]{0,17}"
_NUMBER = r"-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?(e[-+]?[0-9]+)?"
_SHARE = r"0(\.[0-9]{1,15})?|1(\.0+)?"  # a number from 0 to 1, such as "0.50"


def typed(written: pd.Series) -> pd.Series:
    """Return a column as booleans, integers, numbers or strings; it has no type if all cells are empty."""
    known = written.dropna()
    if not len(known):
        return pd.Series([None] * len(written), dtype=object)
    if known.isin(_BOOLEANS.keys()).all():
        return written.map(_BOOLEANS).astype("boolean")
    if known.str.fullmatch(_INTEGER).all():
        return pd.Series([None if pd.isna(cell) else int(cell) for cell in written], dtype="Int64")
    if known.str.fullmatch(_NUMBER).all() and _are_numbers(known):
        return written.astype("float64")
    return written.fillna("")


def _are_numbers(known: pd.Series) -> bool:
    """Return whether cells that look like numbers can be converted without merging two spellings into one value."""
    cells = pd.Series(known.unique())
    if cells.astype("float64").nunique() < len(cells):
        return False  # "1" and "1.0", or "0.5" and "0.50", are one number but may be two labels
    round_trip = cells.map(_keeps_its_characters).all() or cells.map(lambda cell: str(float(cell)) == cell).all()
    return bool(round_trip or _are_shares(cells))


def _are_shares(cells: pd.Series) -> bool:
    """Return whether cells are numbers from 0 to 1 with one number of decimals; "0.9" and "0.10" may be versions."""
    decimals = cells[cells.str.contains(".", regex=False)].str.len()
    return bool(cells.str.fullmatch(_SHARE).all() and decimals.nunique() == 1)


def _keeps_its_characters(cell: str) -> bool:
    """Return whether a cell, converted to a number and back, is written as before."""
    value = float(cell)
    return (str(int(value)) if value.is_integer() else str(value)) == cell


def table_of(rows: Sequence[Mapping[str, Any]], what: str, strings: Collection[str] = ()) -> Dataset:
    """Return rows as a table, also where some rows lack a column.

    Args:
        rows: rows, column → value.
        what: name of the rows in errors.
        strings: columns of strings, in which a number among strings is one, as in a sheet with the cells `1` and `1|2`.

    Raises:
        ValueError: If there is no row, or a column holds values of several types; the message contains the row.
    """
    columns = list(dict.fromkeys(column for row in rows for column in row))
    if not columns:
        raise ValueError(f"{what} has no rows, or no such column")
    cells = {name: [row.get(name) for row in rows] for name in columns}
    for name in cells.keys() & set(strings):
        if any(isinstance(cell, str) for cell in cells[name]):
            cells[name] = [str(cell) if _is_written_so(cell) else cell for cell in cells[name]]
    return from_frame(pd.DataFrame({name: pd.Series(cells[name], dtype=object) for name in columns}), what)


def _is_written_so(cell: object) -> bool:
    """Return whether a cell is a number that has one spelling; 1.0 may have been 1."""
    if isinstance(cell, float):
        return math.isfinite(cell) and not cell.is_integer()
    return isinstance(cell, int) and not isinstance(cell, bool)


# errors of datasets and Arrow for values that they do not support
_NO_COLUMN = (ArrowException, TypeError, ValueError, OverflowError, NotImplementedError)


def from_frame(frame: pd.DataFrame, what: str) -> Dataset:
    """Return a pandas data frame as a dataset.

    Raises:
        ValueError: If the frame has no row, two columns of one name, or a column that cannot be read.
    """
    if not len(frame):
        raise ValueError(f"{what} has no rows; its columns are {list(frame.columns)}")
    check_names([str(column) for column in frame.columns], what)
    for column in frame.columns:
        _check_one_type(frame[column], str(column), what)
    frame = frame.rename(columns=str).reset_index(drop=True)
    return _converted(functools.partial(Dataset.from_pandas, preserve_index=False), frame, what)


def _converted(convert: Callable[[Any], Dataset], frame: "pd.DataFrame | pl.DataFrame", what: str) -> Dataset:
    """Return a frame as a dataset, or name the first column that cannot be converted."""
    try:
        return convert(frame)
    except _NO_COLUMN:
        for column in frame.columns:
            try:
                convert(frame[[column]])
            except _NO_COLUMN as error:
                raise _unread(what, column, error) from None
        raise


def _unread(what: str, column: object, reason: object) -> ValueError:
    """Return the error for a column of a data frame that cannot be read."""
    return ValueError(
        f"{what}, column {column!r} cannot be read: {str(reason).splitlines()[0]}. Make its values strings, numbers or "
        "lists of them, or leave the column out"
    )


def from_polars(frame: "pl.DataFrame | pl.LazyFrame") -> Dataset:
    """Return a polars data frame as a dataset.

    Raises:
        ValueError: If the frame has no row or cannot be read.
    """
    frame = frame.collect() if hasattr(frame, "collect") else frame
    # Arrow has no such integers; as text they are those of a CSV file
    long = [name for name, kind in frame.schema.items() if str(kind) in ("Int128", "UInt128")]
    frame = frame.with_columns(*(frame[name].cast(str) for name in long))
    unread = [(name, f"its type is {kind}") for name, kind in frame.schema.items() if str(kind) == "Object"]
    if unread:  # otherwise its values would become memory addresses
        raise _unread("the data frame", *unread[0])
    rows = _converted(Dataset.from_polars, frame, "the data frame")
    if not len(rows):
        raise ValueError(f"the data frame has no rows; its columns are {rows.column_names}")
    return rows


def _check_one_type(values: pd.Series, column: str, what: str) -> None:
    """Check that all values of a column are of one type.

    Raises:
        ValueError: If they are of several types; the message contains the first row whose type differs.
    """
    if values.dtype != object:
        return
    # types of the values themselves (False) and of values in lists (True)
    first: dict[bool, tuple[int, Any]] = {}
    known: dict[bool, set[type]] = {False: {type(None)}, True: {type(None)}}
    for row, value in enumerate(values):
        for in_list, items in ((False, [value]), (True, value if _kind(value) == "list" else [])):
            if known[in_list].issuperset(map(type, items)):  # fast path: all types were seen before
                continue
            for item in items:
                if pd.api.types.is_scalar(item) and pd.isna(item):
                    continue
                at, one = first.setdefault(in_list, (row, item))
                if _kind(item) != _kind(one):
                    raise ValueError(
                        f"{what}, column {column!r}: mixed types{' in its lists' * in_list}, {one!r} in row {at} is "
                        f"a {_kind(one)} and {item!r} in row {row} is a {_kind(item)}; make all of them one type, "
                        "such as strings"
                    )
                known[in_list].add(type(item))


def _kind(value: object) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, Real):
        return "number"
    if isinstance(value, str):
        return "str"
    return "list" if isinstance(value, (list, tuple, np.ndarray)) else type(value).__name__

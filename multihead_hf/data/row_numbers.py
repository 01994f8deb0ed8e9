"""Numbers of a table's rows, which splits of the table keep."""

from collections.abc import Mapping

from datasets import Dataset

from .rows_like import RowsLike

_NUMBER = "_number_of_row"


def with_numbers(rows: RowsLike) -> RowsLike:
    """Return a table with a column of its rows' numbers, for `without_numbers`; anything else as it is."""
    return rows.add_column(_NUMBER, list(range(len(rows)))) if isinstance(rows, Dataset) else rows


def without_numbers(splits: Mapping[str, Dataset]) -> tuple[dict[str, Dataset], dict[str, list[int]]]:
    """Return the splits of `with_numbers` without that column, and split → number of each row in the table."""
    numbers = {name: rows.with_format(None)[_NUMBER][:] for name, rows in splits.items()}
    return {name: rows.remove_columns(_NUMBER) for name, rows in splits.items()}, numbers

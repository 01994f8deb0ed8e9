"""Counts of the cells of a column for each label, and the question what their empty cells mean."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from datasets import Dataset, IterableDataset
from transformers.utils import logging

from .reading import ask_about_empty_cells, empty_cells
from .sources import FIRST_ROWS, column_batches

logger = logging.get_logger(__name__)
_SHOWN = 5


class LabelColumns:
    """Counts of cells of columns that each hold whether one label applies.

    Args:
        columns: names of the columns.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self.columns = list(columns)
        self.rows = self.missing_rows = 0  # rows, and rows in which all cells are empty
        self.positive: Counter[str] = Counter()
        self.not_one: Counter[str] = Counter()  # 0, or a share
        self.empty: Counter[str] = Counter()
        self.has_shares = False  # whether a cell is between 0 and 1
        self._first_empty: int | None = None

    def add_rows(self, dataset: Dataset | IterableDataset) -> "LabelColumns":
        """Count the cells of some rows, and return self."""
        for batch in column_batches(dataset, self.columns):
            values = np.array(
                [batch[column] for column in self.columns], dtype=np.float64
            )  # (columns, rows), NaN: empty
            empty = np.isnan(values)
            self.has_shares = self.has_shares or bool(((values > 0) & (values < 1)).any())
            for column, cells, gaps in zip(self.columns, values, empty, strict=True):
                self.positive[column] += int((cells > 0).sum())
                self.not_one[column] += int(((cells != 1) & ~gaps).sum())
                self.empty[column] += int(gaps.sum())
            if self._first_empty is None and empty.any():
                self._first_empty = self.rows + int(empty.any(0).argmax())
            self.rows += values.shape[1]
            self.missing_rows += int(empty.all(0).sum())
        return self

    def add_first_rows(self, dataset: Dataset | IterableDataset) -> "LabelColumns":
        """Count the cells of all rows, or of the first ones of a stream, and return self."""
        if isinstance(dataset, Dataset):
            return self.add_rows(dataset)
        # (row by row: datasets 4.0 cannot join batches of a stream in which a column is empty)
        rows = dataset.with_format(None).take(FIRST_ROWS)
        return self.add_rows(Dataset.from_list([{name: row.get(name) for name in self.columns} for row in rows]))

    @property
    def only_positive(self) -> list[str]:
        """Return the columns that hold 1 and empty cells, and nothing else."""
        return [name for name in self.columns if self.positive[name] and self.empty[name] and not self.not_one[name]]

    def check(self, what: str) -> None:
        """Check that the cells can be read in one way only; warn of single columns without a 0.

        Args:
            what: the head, for messages.

        Raises:
            ValueError: If there are empty cells and no cell of any column is 0: an empty cell may be a 0.
        """
        if not self.only_positive:
            return
        if not any(self.not_one.values()):
            cells = empty_cells(sum(self.empty.values()), self.rows * len(self.columns), self._first_empty or 0)
            raise ask_about_empty_cells(
                f"{what}, one column for each label", f"no cell says that a label does not apply (0), and {cells}"
            )
        shown = ", ".join(map(repr, self.only_positive[:_SHOWN])) + (", …" if len(self.only_positive) > _SHOWN else "")
        logger.warning(
            f"{what}: no cell of the columns {shown} is 0, and some are empty, which counts as unknown. If an empty "
            'cell means that the label does not apply, set empty="none" (--empty none)'
        )

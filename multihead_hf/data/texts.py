"""Texts of raw and of prepared rows."""

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase


def texts_of(dataset: Dataset, columns: str | list[str], tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
    """Return the texts of raw rows, those of a pair joined by " | "; for prepared rows the decoded tokens."""
    if "input_ids" in dataset.column_names:
        return [_decoded(ids, tokenizer) for ids in dataset["input_ids"]]
    names = [columns] if isinstance(columns, str) else columns
    return [" | ".join(str(text) for text in row) for row in zip(*(dataset[name] for name in names), strict=True)]


class RowTexts(Sequence[str]):
    """Texts of a dataset, as `texts_of` returns them, each read on access."""

    def __init__(self, dataset: Dataset, columns: list[str], tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._is_prepared = "input_ids" in dataset.column_names
        self._columns = ["input_ids"] if self._is_prepared else columns
        self._rows = dataset.select_columns(self._columns).with_format(None)
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int | slice) -> str:
        values = self._rows[row]
        if self._is_prepared:
            return _decoded(values["input_ids"], self._tokenizer)
        return " | ".join(str(values[name]) for name in self._columns)


def _decoded(ids: list[Any], tokenizer: PreTrainedTokenizerBase | None) -> str:
    """Return the decoded tokens of a text, those of several windows joined by " … "."""
    if tokenizer is None:
        raise ValueError("prepared rows have no texts: pass the tokenizer")
    windows = ids if ids and isinstance(ids[0], list) else [ids]
    return " … ".join(tokenizer.batch_decode(windows, skip_special_tokens=True))

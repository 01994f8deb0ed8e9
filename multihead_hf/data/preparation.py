"""Conversion of rows in any form, raw or prepared, to prepared rows."""

import contextlib
from collections.abc import Iterable, Mapping, Sized
from contextlib import AbstractContextManager
from typing import Any

from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from transformers import PreTrainedTokenizerBase

from ..model.configuration_multihead import MultiHeadConfig
from .columns import features_of, is_list
from .encoding import prepare_dataset
from .reading import column_names, said_readings, string_columns
from .record import check_record
from .rows_like import PreparedRows, RowsLike
from .sources import is_read, read_dataset


def read_and_prepare(
    dataset: RowsLike,
    config: MultiHeadConfig,
    reading: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase | None,
    what: str,
    require_labels: bool = True,
    with_column: set[str] | None = None,
    first: AbstractContextManager[Any] | None = None,
) -> PreparedRows:
    """Return rows with tokens and targets, also from a file or data frame; prepared rows are returned unchanged.

    Args:
        dataset: raw or prepared rows.
        config: configuration of the model.
        reading: how labels are read, as the options of `prepare_dataset`.
        tokenizer: tokenizer of the encoder; not needed for prepared rows.
        what: name of the rows in errors.
        require_labels: whether rows without labels are refused.
        with_column: a set to which the heads whose column is in the rows are added (all heads for prepared rows).
            With it, one of several datasets may lack columns that `label_columns` names.
        first: a context in which raw rows are prepared, such as one in which the first process runs before the others.

    Raises:
        ValueError: If the rows cannot be prepared; the message contains their name.
    """
    options = dict(reading)
    if is_read(dataset):
        try:
            dataset = read_dataset(dataset, strings=string_columns(config.heads, options))
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from None
        # a folder, or a dataset on the Hub
        dataset = part_of(dataset, "train" if what.startswith("train_dataset") else "validation")
    if isinstance(dataset, dict):
        raise ValueError(f"{what} must be one dataset, but it is a dict of {list(dataset)}: pass one of them")
    if isinstance(dataset, Sized) and not len(dataset):
        raise ValueError(f"{what} is empty")
    if not isinstance(dataset, (Dataset, IterableDataset)):
        _check_prepared_rows(dataset, what)
        check_record(dataset, config, tokenizer, what)
        return dataset
    columns = list(features_of(dataset))
    if "input_ids" in columns:
        if require_labels and "labels" not in columns:
            raise ValueError(
                f"{what} holds tokens but no `labels`: pass the raw rows with their text, or the output of "
                f"prepare_dataset, or rename the column input_ids if it holds no tokens. Columns: {columns}"
            )
        _check_windows(features_of(dataset)["input_ids"], config, what)
        check_record(dataset, config, tokenizer, what)
        if with_column is not None:
            with_column.update(config.heads)
        return dataset
    if tokenizer is None:
        raise ValueError(f"{what} holds raw texts: pass the encoder's tokenizer as processing_class")
    if with_column is not None:
        label_columns = {
            head: head_reading.column for head, head_reading in said_readings(config.heads, options).items()
        }
        named = {
            head: column for head, column in label_columns.items() if column and {*column_names(column)} & {*columns}
        }
        with_column.update(named)
        options["label_columns"] = named
    try:
        with first or contextlib.nullcontext():
            return prepare_dataset(dataset, tokenizer, config, require_labels=require_labels, name=what, **options)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None


def part_of(dataset: RowsLike, part: str) -> RowsLike:
    """Return the split `part` of a `DatasetDict` if it exists; return anything else unchanged."""
    if isinstance(dataset, (DatasetDict, IterableDatasetDict)) and part in dataset:
        return dataset[part]
    return dataset


def _check_windows(tokens: object, config: MultiHeadConfig, what: str) -> None:
    """Check that prepared rows have windows exactly where the model reads windows.

    Raises:
        ValueError: If rows were prepared with windows and the model reads none, or the other way round.
    """
    has_windows = is_list(tokens) and is_list(getattr(tokens, "feature", None))
    if has_windows != (config.truncation == "windows"):
        raise ValueError(
            f"{what} was prepared {'with' if has_windows else 'without'} windows, but the model has "
            f"truncation={config.truncation!r}: pass the raw rows, or prepare them for this model"
        )


def _check_prepared_rows(rows: PreparedRows | None, what: str) -> None:
    """Check that a list, torch dataset or stream holds prepared rows.

    Raises:
        ValueError: If it holds raw rows, which would not be tokenised.
    """
    if rows is None:
        return
    first = next(iter(rows), None) if isinstance(rows, Iterable) else rows[0]
    if not isinstance(first, Mapping) or "input_ids" not in first:
        keys = list(first) if isinstance(first, Mapping) else type(first).__name__
        raise ValueError(
            f"{what} is a {type(rows).__name__} of raw rows ({keys}); pass a dataset, a data frame or files, which "
            "are prepared for you: Dataset.from_list(rows), Dataset.from_pandas(frame), or the output of "
            "prepare_dataset"
        )

"""The training rows and the evaluation rows of a report's linear baseline."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from ..data.rows_like import AnyDataset, RowsLike
from ..data.sources import one_part, read_dataset
from ..data.texts import RowTexts
from .baseline import BaselineReport, linear_baseline
from .predictions import ModelOrTrainer, Predictions, is_trainer, prepared_rows, targets_of

if TYPE_CHECKING:
    from transformers import Trainer

# maximum number of rows prepared only for their labels; of more rows, a random sample is prepared
_PREPARED_ROWS = 50_000
_TRAINED_ON = "the report is on the training rows themselves"
_NOT_KNOWN = "the training rows are not known; name them with train_dataset= (on the command line --train-data FILES)"


class TrainingRows(NamedTuple):
    """Rows to train a baseline on.

    Args:
        prepared: the rows with their tokens and targets.
        raw: the same rows with their texts, where these exist.
        is_sample: whether the rows are a sample.
    """

    prepared: Dataset
    raw: Dataset | None
    is_sample: bool = False

    def has_texts(self, columns: list[str]) -> bool:
        """Return whether the raw rows exist and have these text columns."""
        return self.raw is not None and {*columns} <= {*self.raw.column_names}


def training_rows(
    model: ModelOrTrainer,
    data: AnyDataset,
    rows: Dataset,
    train_dataset: RowsLike | None,
    tokenizer: PreTrainedTokenizerBase | None,
    reading: Mapping[str, Any],
    seed: int,
    strings: Collection[str] = (),
) -> TrainingRows | str:
    """Return the rows to train a baseline on, or the reason why none can be used.

    Args:
        model: a trainer or a model.
        data: the dataset of the report, perhaps in splits.
        rows: the rows of the report.
        train_dataset: rows to train a baseline on; by default the trainer's rows, else the split `train`.
        tokenizer: as for `predicted`.
        reading: as for `predicted`.
        seed: seed of a sample.
        strings: columns whose cells are strings whatever they look like, as for `read_dataset`.

    Raises:
        ValueError: If `train_dataset` cannot be read.
    """
    if train_dataset is None and is_trainer(model) and model.train_dataset is not None:
        train_datasets = (model.train_dataset, getattr(model, "raw_train_dataset", None))
        if any(train_rows is rows or train_rows is data for train_rows in train_datasets):
            return _TRAINED_ON
        return _rows_of_trainer(model)
    if train_dataset is not None:
        dataset = read_dataset(train_dataset, strings=strings)
        if isinstance(dataset, Mapping) and "train" not in dataset:
            raise ValueError(
                f"train_dataset: the splits are {list(dataset)}, without one named 'train': pass one of them"
            )
        return _prepared(model, one_part(dataset, None, ("train",)), tokenizer, reading, seed)
    if not isinstance(data, Mapping) or "train" not in data:
        return _NOT_KNOWN
    if data["train"] is rows:
        return _TRAINED_ON
    try:
        return _prepared(model, data["train"], tokenizer, reading, seed)
    except ValueError as error:  # these rows are optional for the report
        return f"the split 'train' cannot be read: {error}"


def baseline_of(
    predictions: Predictions,
    training: TrainingRows,
    rows: Dataset,
    columns: list[str],
    tokenizer: PreTrainedTokenizerBase | None,
    seed: int,
) -> BaselineReport:
    """Train the linear baselines, and evaluate them on the rows of the predictions.

    Args:
        predictions: predictions for the rows.
        training: the rows to train on.
        rows: the rows to evaluate on, raw only if the training rows also have their texts (`has_texts`).
        columns: their text columns.
        tokenizer: tokenizer that decodes the texts of prepared rows.
        seed: as for `linear_baseline`.
    """
    # either both have their raw texts, or the tokens of both are decoded
    source = training.prepared if "input_ids" in rows.column_names or training.raw is None else training.raw
    report = linear_baseline(
        predictions.heads,
        RowTexts(source, columns, tokenizer),
        targets_of(training.prepared, predictions.heads),
        list(RowTexts(rows, columns, tokenizer)),
        predictions.references,
        seed=seed,
    )
    if training.is_sample:
        for baseline in report.heads.values():
            baseline.labelled_rows = None
    return report


def _rows_of_trainer(trainer: "Trainer") -> TrainingRows | str:
    train, raw_dataset = trainer.train_dataset, trainer.raw_train_dataset
    if not isinstance(train, Dataset):
        return _not_read_again(train)
    raw = read_dataset(raw_dataset) if isinstance(raw_dataset, (Dataset, pd.DataFrame)) else None
    return TrainingRows(train, raw if raw is not None and len(raw) == len(train) else None)


def _prepared(
    model: ModelOrTrainer,
    rows: Dataset | IterableDataset,
    tokenizer: PreTrainedTokenizerBase | None,
    reading: Mapping[str, Any],
    seed: int,
) -> TrainingRows | str:
    if not isinstance(rows, Dataset):
        return _not_read_again(rows)
    is_sample = len(rows) > _PREPARED_ROWS
    if is_sample:
        rows = rows.shuffle(seed=seed).select(range(_PREPARED_ROWS))
    return TrainingRows(prepared_rows(model, rows, tokenizer, "train_dataset", reading), rows, is_sample)


def _not_read_again(rows: object) -> str:
    return f"it needs training rows that can be read more than once, but these are of the type {type(rows).__name__}"

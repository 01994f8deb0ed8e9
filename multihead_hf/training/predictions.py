"""What a trainer, or a model with its tokenizer, says of a data set: for tuning, comparing and reports."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer

from ..data.reading import spelled_out
from ..evaluation.metrics import MISSING
from ..evaluation.streaming import StreamingMetrics
from ..model.decoding_multihead import decide, probabilities
from ..model.head_multihead import HeadConfig, near_names
from ..model.modeling_multihead import MultiHeadModel
from .arguments import MultiHeadTrainingArguments
from .preparation import multi_head_model, prepared
from .trainer import MultiHeadTrainer

# what `apply_text_settings` may change
TEXT_SETTINGS = ("text_columns", "max_length", "truncation", "max_windows", "stride", "window_pooling")


class Predictions(NamedTuple):
    """Of all rows of a data set, in their order.

    Args:
        model: the model that made them.
        logits: head → (rows, labels).
        references: head → label ids (rows,), or cells (rows, labels); −100 where they are not known.
        is_first: whether this process is the first one, which writes.
    """

    model: MultiHeadModel
    logits: Mapping[str, np.ndarray]
    references: Mapping[str, np.ndarray]
    is_first: bool = True

    @property
    def heads(self) -> Mapping[str, HeadConfig]:
        """The model's heads."""
        return self.model.config.heads

    def labelled(self) -> list[str]:
        """Heads with labelled rows."""
        return [name for name, own in self.references.items() if (np.asarray(own) != MISSING).any()]

    def scores(self, name: str) -> np.ndarray:
        """Calibrated probabilities (rows, labels) of a head."""
        return probabilities(self.heads[name], torch.from_numpy(self.logits[name])).numpy()

    def decisions(self, name: str) -> np.ndarray:
        """Predicted labels of a head, bool (rows, labels)."""
        return decide(self.heads[name], torch.from_numpy(self.scores(name))).numpy()


def predicted(
    model: Any, dataset: Any, tokenizer: PreTrainedTokenizerBase | None = None, **reading: Any
) -> Predictions:
    """
    Args:
        model: a trainer, or a `MultiHeadModel` (then with its tokenizer).
        dataset: raw or prepared rows; or what this function has returned for them, which is given back.
        reading: for a model, `MultiHeadTrainingArguments` that say how rows are read; a trainer has its own.

    Raises:
        ValueError: no multi-head model, one without a tokenizer, or rows that cannot be read.
    """
    if isinstance(dataset, Predictions):
        return dataset
    if isinstance(model, Trainer):
        found = model.predict(dataset)
        return Predictions(
            multi_head_model(model.model), found.predictions, found.label_ids, model.is_world_process_zero()
        )
    with _reader(model, tokenizer, reading) as trainer:
        found = trainer.predict(dataset)
        first = trainer.is_world_process_zero()
        return Predictions(multi_head_model(model), found.predictions, found.label_ids, first)


def evaluated(
    model: Any, dataset: Any, tokenizer: PreTrainedTokenizerBase | None = None, **reading: Any
) -> tuple[dict[str, float], StreamingMetrics]:
    """The figures of `MultiHeadTrainer.evaluate`, without a prefix and times; predictions are not kept.

    Args:
        model, dataset, tokenizer, reading: as for `predicted`; no trainer.

    Returns:
        `<head>_<metric>`, `f1`, `<head>_loss` and `loss`; and what they were computed from, which prints as a table.

    Raises:
        ValueError: as for `predicted`, or no labelled row.
    """
    with _reader(model, tokenizer, reading) as trainer:
        trainer.remove_callback(PrinterCallback)
        found = trainer.evaluate(dataset)
    if trainer.last_evaluation is None or "eval_f1" not in found:
        raise ValueError(
            f"no row of the dataset is labelled; the heads are {list(multi_head_model(model).config.heads)}"
        )
    times = ("runtime", "per_second", "preparation_time")
    figures = {key.removeprefix("eval_"): value for key, value in found.items() if not key.endswith(times)}
    return figures, trainer.last_evaluation


def prepared_rows(
    model: Any, dataset: Any, tokenizer: PreTrainedTokenizerBase | None, what: str, reading: Mapping[str, Any]
) -> Any:
    """Return the rows with tokens and targets, as the model or trainer reads them.

    Args:
        model, dataset, tokenizer, reading: as for `predicted`.
        what: name of the rows in errors.

    Raises:
        ValueError: as for `predicted`.
    """
    if isinstance(model, MultiHeadTrainer):
        return prepared(dataset, model.config, model.args, model.processing_class, what, require_labels=False)
    with _reader(model, tokenizer, reading) as trainer:
        return prepared_rows(trainer, dataset, tokenizer, what, reading)


def targets_of(dataset: Any, heads: Mapping[str, HeadConfig]) -> dict[str, np.ndarray]:
    """Return the targets of prepared rows: head → label ids (rows,), or cells (rows, labels); −100 where not known."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in heads}
    for batch in dataset.select_columns(["labels"]).with_format(None).iter(1000):
        for name, head in heads.items():
            unknown = [MISSING] * head.num_labels if head.multi_label else MISSING
            values = [unknown if row.get(name) is None else row[name] for row in batch["labels"]]
            cells = np.array(values, np.float32 if head.multi_label else np.int64)
            parts[name].append(np.nan_to_num(cells, nan=MISSING) if head.multi_label else cells)
    return {name: np.concatenate(own) for name, own in parts.items()}


@contextlib.contextmanager
def _reader(
    model: Any, tokenizer: PreTrainedTokenizerBase | None, reading: Mapping[str, Any]
) -> Iterator[MultiHeadTrainer]:
    """A trainer that only reads rows, and leaves the model as it is."""
    base = multi_head_model(model)
    if tokenizer is None:
        raise ValueError("a model alone cannot read texts: pass its tokenizer=, or a trainer")
    known = [each.name for each in fields(MultiHeadTrainingArguments)]
    for name in reading:
        if name not in (*known, "reading"):
            raise ValueError(f"Unexpected keyword argument {name!r}.{near_names(name, [*known, 'reading'], 0.5)}")
    quiet = {
        "report_to": "none",
        "disable_tqdm": True,
        "per_device_eval_batch_size": 32,
        "bf16": False,  # decisions are those of the weights as they are
    }
    with tempfile.TemporaryDirectory() as folder, _kept_as_it_is(base):
        args = MultiHeadTrainingArguments(folder, **{**quiet, **spelled_out(base.config.heads, reading)})
        yield MultiHeadTrainer(model=model, args=args, processing_class=tokenizer)


@contextlib.contextmanager
def _kept_as_it_is(model: MultiHeadModel) -> Iterator[None]:
    """A Trainer makes a model ready for training: its text settings, how its labels are read, what is frozen and in
    which precision, and the learned weights of its losses. Whoever only asks for predictions finds it as it was."""
    settings = {name: getattr(model.config, name) for name in TEXT_SETTINGS}
    readings = {name: head.reading for name, head in model.config.heads.items()}
    frozen, log_variances, training = model._frozen_by_arguments, model.log_variances, model.training
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model._frozen_by_arguments = []
    for parameter in trained:
        parameter.requires_grad_(False)  # what is not trained stays in half precision
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        model._frozen_by_arguments, model.log_variances = frozen, log_variances
        model.train(training)
        for name, value in settings.items():
            setattr(model.config, name, value)
        for name, own in readings.items():
            model.config.heads[name].reading = own


def texts_of(dataset: Any, columns: str | list[str], tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
    """The texts of raw rows, the two of a pair joined by " | "; of prepared rows what their tokens say."""
    if "input_ids" in dataset.column_names:
        return [_decoded(ids, tokenizer) for ids in dataset["input_ids"]]
    names = [columns] if isinstance(columns, str) else columns
    return [" | ".join(str(text) for text in row) for row in zip(*(dataset[name] for name in names), strict=True)]


class RowTexts(Sequence[str]):
    """The texts of a dataset, as `texts_of` gives them, each read when it is asked for."""

    def __init__(self, dataset: Any, columns: list[str], tokenizer: PreTrainedTokenizerBase | None) -> None:
        self._is_prepared = "input_ids" in dataset.column_names
        self._columns = ["input_ids"] if self._is_prepared else columns
        self._rows = dataset.select_columns(self._columns).with_format(None)
        self._tokenizer = tokenizer

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: Any) -> Any:
        values = self._rows[row]
        if self._is_prepared:
            return _decoded(values["input_ids"], self._tokenizer)
        return " | ".join(str(values[name]) for name in self._columns)


def _decoded(ids: list[Any], tokenizer: PreTrainedTokenizerBase | None) -> str:
    """What the tokens of a text say, those of several windows joined by " … "."""
    if tokenizer is None:
        raise ValueError("prepared rows have no texts: pass the tokenizer")
    windows = ids if ids and isinstance(ids[0], list) else [ids]
    return " … ".join(tokenizer.batch_decode(windows, skip_special_tokens=True))

"""Logits and references of the rows of a dataset, from a model with its tokenizer or from a trainer."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from datasets import Dataset
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ..data.collator import MultiHeadDataCollator
from ..data.counting import target_chunks
from ..data.preparation import read_and_prepare
from ..data.reading import OPTIONS
from ..data.rows_like import PreparedRows, RowsLike
from ..model.decoding_multihead import calibrated, check_finite, decide, probabilities
from ..model.head_multihead import HeadConfig, near_names
from ..model.modeling_multihead import MultiHeadModel
from ..model.modes_multihead import evaluating
from ..model.objective_multihead import in_float32
from ..model.unwrapping import multi_head_model
from .metric_names import metric_keys
from .metrics import MISSING

if TYPE_CHECKING:
    from transformers import Trainer

TEXT_SETTINGS = ("text_columns", "max_length", "truncation", "max_windows", "stride", "window_pooling")
BATCH_SIZE = "per_device_eval_batch_size"
_WINDOW_ROWS = 2048  # number of rows that another backend sorts by length at a time
_KNOWN = (*OPTIONS, "reading", *TEXT_SETTINGS, BATCH_SIZE)

Compute = Callable[[list[Any]], Mapping[str, npt.NDArray[np.float32]]]
"""Prepared rows → head → logits (rows, labels)."""
ModelOrTrainer: TypeAlias = "nn.Module | Trainer"
"""A `MultiHeadModel`, perhaps in a wrapper such as PEFT's, or a trainer with one."""


class Predictions(NamedTuple):
    """Logits and references of all rows of a dataset, in their order.

    Args:
        model: the model that made the predictions.
        logits: head → (rows, labels).
        references: head → label ids (rows,), or cells (rows, labels); −100 where unlabelled.
        is_first: whether this process is the first one, which writes files.
    """

    model: MultiHeadModel
    logits: Mapping[str, np.ndarray]
    references: Mapping[str, np.ndarray]
    is_first: bool = True

    @property
    def heads(self) -> Mapping[str, HeadConfig]:
        """Return the model's heads."""
        return self.model.config.heads

    def labelled(self) -> list[str]:
        """Return the heads with labelled rows."""
        return [name for name, targets in self.references.items() if (np.asarray(targets) != MISSING).any()]

    def scores(self, name: str) -> np.ndarray:
        """Return the calibrated probabilities (rows, labels) of a head."""
        return probabilities(self.heads[name], torch.from_numpy(self.logits[name])).numpy()

    def decisions(self, name: str) -> np.ndarray:
        """Return the predicted labels of a head, bool (rows, labels)."""
        head, logits = self.heads[name], calibrated(self.heads[name], torch.from_numpy(self.logits[name]))
        return decide(head, torch.from_numpy(self.scores(name)), logits=logits).numpy()

    def checked(self) -> "Predictions":
        """Return the predictions after a check that all logits are finite.

        Raises:
            ValueError: If logits are not finite.
        """
        for name, logits in self.logits.items():
            check_finite(name, torch.from_numpy(np.asarray(logits)))
        return self


@dataclass
class ModelReader:
    """A model in evaluation mode, and how rows are read for it.

    Args:
        model: the model, perhaps in a wrapper such as PEFT's.
        tokenizer: its tokenizer.
        labels: how labels are read, as the options of `prepare_dataset`.
        batch_size: rows of a batch.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    labels: Mapping[str, Any]
    batch_size: int

    def prepared(self, dataset: RowsLike, what: str, require_labels: bool = True) -> PreparedRows:
        """Return the rows with tokens and targets; `what` is their name in errors."""
        config = multi_head_model(self.model).config
        first = PartialState().main_process_first()
        return read_and_prepare(
            dataset, config, self.labels, self.tokenizer, what, require_labels=require_labels, first=first
        )


def is_trainer(model: object) -> "TypeGuard[Trainer]":
    """Return whether this is a trainer with a model, instead of a model."""
    return not isinstance(model, nn.Module) and callable(getattr(model, "predict", None)) and hasattr(model, "args")


def predicted(
    model: ModelOrTrainer,
    dataset: RowsLike,
    tokenizer: PreTrainedTokenizerBase | None = None,
    compute: Compute | None = None,
    **reading: Any,
) -> Predictions:
    """Return the logits and references of the rows of a dataset.

    Args:
        model: a trainer, or a `MultiHeadModel` (then with its tokenizer).
        dataset: raw or prepared rows; or a result of this function, which is returned unchanged.
        tokenizer: tokenizer of the model; a trainer has one already.
        compute: another backend that computes the logits of a model.
        **reading: for a model, how rows are read, where it differs from what the model remembers: `label_columns`,
            `sep`, `empty`, `multi_hot` and `reading` as for `prepare_dataset`, `text_columns`, `max_length`,
            `truncation`, `max_windows`, `stride` and `window_pooling` as in `MultiHeadConfig`, and
            `per_device_eval_batch_size`.

    Raises:
        ValueError: If the model is not a multi-head model or has no tokenizer, rows cannot be read, or logits are not
            finite.
    """
    check_keywords(model, reading)
    if isinstance(dataset, Predictions):
        return dataset
    if is_trainer(model):
        preprocess = model.preprocess_logits_for_metrics  # (of the user, for `compute_metrics`)
        model.preprocess_logits_for_metrics = None
        try:
            output = model.predict(dataset)
        finally:
            model.preprocess_logits_for_metrics = preprocess
        base = multi_head_model(model.model)
        return Predictions(base, output.predictions, output.label_ids, model.is_world_process_zero()).checked()
    base = multi_head_model(model)
    metric_keys(base.config.heads)
    logits: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in base.config.heads}
    references: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in base.config.heads}
    with model_reader(model, tokenizer, reading) as reader:
        rows = reader.prepared(dataset, "dataset", require_labels=False)
        for batch, batch_logits in batches_with_logits(reader, rows, compute=compute):
            for name in base.config.heads:
                logits[name].append(batch_logits[name].cpu().numpy())
                references[name].append(batch["labels"][name].cpu().numpy())
    return Predictions(base, _joined(logits), _joined(references), PartialState().is_main_process).checked()


def prepared_rows(
    model: ModelOrTrainer,
    dataset: RowsLike,
    tokenizer: PreTrainedTokenizerBase | None,
    what: str,
    reading: Mapping[str, Any],
) -> PreparedRows:
    """Return the rows with tokens and targets, as the model or trainer reads them.

    Args:
        model: as for `predicted`.
        dataset: as for `predicted`.
        tokenizer: as for `predicted`.
        what: name of the rows in errors.
        reading: as for `predicted`.

    Raises:
        ValueError: If the rows cannot be read, as for `predicted`.
    """
    check_keywords(model, reading)
    if is_trainer(model):
        config, tokenizer = multi_head_model(model.model).config, model.processing_class
        first = model.args.main_process_first(desc=f"preparing {what}")
        return read_and_prepare(dataset, config, model.args.reading, tokenizer, what, require_labels=False, first=first)
    with model_reader(model, tokenizer, reading) as reader:
        return reader.prepared(dataset, what, require_labels=False)


def targets_of(dataset: PreparedRows, heads: Mapping[str, HeadConfig]) -> dict[str, np.ndarray]:
    """Return the targets of prepared rows: head → label ids (rows,), or cells (rows, labels); −100 where unlabelled."""
    chunks = [chunk.heads for chunk in target_chunks(dataset, heads)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in heads}


def check_keywords(model: ModelOrTrainer, reading: Mapping[str, Any]) -> None:
    """Check the keyword arguments that state how rows are read.

    Raises:
        ValueError: If one is unknown, or they are given with a trainer, which reads rows by its own arguments.
    """
    for name in reading:
        if name not in _KNOWN:
            near = near_names(name, _KNOWN, 0.5)
            raise ValueError(f"Unexpected keyword argument {name!r}.{near} Known: {', '.join(_KNOWN)}")
    if is_trainer(model) and (given := [name for name, value in reading.items() if value is not None]):
        raise ValueError(
            f"{', '.join(given)}: a trainer reads rows as its arguments say. Set this in MultiHeadTrainingArguments, "
            "or pass the model and its tokenizer instead of the trainer: (trainer.model, ..., "
            "tokenizer=trainer.processing_class)"
        )


@contextlib.contextmanager
def model_reader(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase | None, reading: Mapping[str, Any]
) -> Iterator[ModelReader]:
    """Context manager: the model in evaluation mode, which reads texts with the settings in `reading`.

    It is on an accelerator where one exists. The model is restored on exit, except that its configuration then holds
    learned thresholds.

    Args:
        model: as for `predicted`, but not a trainer.
        tokenizer: as for `predicted`.
        reading: as for `predicted`.

    Raises:
        ValueError: If the tokenizer is missing or a setting is invalid, as for `predicted`.
    """
    base = multi_head_model(model)
    if tokenizer is None:
        raise ValueError("a model alone cannot read texts: pass its tokenizer=, or a trainer")
    check_keywords(model, reading)
    size = reading.get(BATCH_SIZE)
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(f"{BATCH_SIZE} {size!r}: give a whole number of 1 or more")
    labels = {name: value for name, value in reading.items() if name in (*OPTIONS, "reading")}
    if base.device.type != "meta":  # (an exported graph has no weights, and its thresholds are in the configuration)
        base.sync_thresholds()
    with evaluating(model), _text_settings(base, reading), _on_accelerator(model, base.device):
        yield ModelReader(model, tokenizer, labels, size or 32)


@contextlib.contextmanager
def _text_settings(model: MultiHeadModel, reading: Mapping[str, Any]) -> Iterator[None]:
    """Context manager: text settings in the model's configuration, restored on exit."""
    settings = {name: reading[name] for name in TEXT_SETTINGS if reading.get(name) is not None}
    if isinstance(settings.get("text_columns"), str):
        settings["text_columns"] = [settings["text_columns"]]
    config = model.config
    type(config)(**{**config.to_dict(), **settings})  # raises an error for invalid settings
    before = {name: getattr(config, name) for name in settings}
    try:
        for name, value in settings.items():
            setattr(config, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


@contextlib.contextmanager
def _on_accelerator(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Context manager: a model on the CPU is moved to the accelerator of this process, and back on exit.

    Quantized weights, and those that are spread over devices, cannot be moved.
    """
    fixed = getattr(model, "is_quantized", False) or getattr(model, "hf_device_map", None) is not None
    moves = device.type == "cpu" and PartialState().device.type != "cpu" and not fixed
    if moves:
        model.to(PartialState().device)
    try:
        yield
    finally:
        if moves:
            model.to(device)


@torch.no_grad()
def batches_with_logits(
    reader: ModelReader, rows: PreparedRows, by_length: bool = False, compute: Compute | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, Tensor]]]:
    """Yield batches of prepared rows with their logits.

    Args:
        reader: the model.
        rows: prepared rows.
        by_length: whether rows of similar lengths may share a batch, which takes less time than the order of the rows.
        compute: another backend, which computes the logits instead of the model.

    Yields:
        The batch, on the model's device unless another backend computes, and head → logits (batch, labels) in float32
        or better.
    """
    base = multi_head_model(reader.model)
    collate = MultiHeadDataCollator(reader.tokenizer, base.config)
    size = reader.batch_size if compute is None else _WINDOW_ROWS
    for batch_rows in _batches(rows, size, by_length and compute is None):
        batch = collate(batch_rows)
        if compute is not None:
            yield batch, {name: torch.from_numpy(values) for name, values in compute(batch_rows).items()}
            continue
        batch = _moved(batch, base.device)
        inputs = {name: value for name, value in batch.items() if name not in ("labels", "sample_weight")}
        logits = reader.model(**inputs, return_dict=True).logits
        yield batch, {name: in_float32(values) for name, values in logits.items()}


def _batches(rows: PreparedRows, size: int, by_length: bool) -> Iterator[list[Any]]:
    if by_length and isinstance(rows, Dataset) and "length" in rows.column_names:
        order = np.argsort(-np.asarray(rows.with_format("numpy")["length"]), kind="stable")  # longest first
        for start in range(0, len(order), size):
            yield rows.__getitems__(order[start : start + size].tolist())
        return
    in_order = iter(rows if isinstance(rows, Iterable) else (rows[index] for index in range(len(rows))))
    while batch_rows := list(islice(in_order, size)):
        yield batch_rows


def _joined(batches: Mapping[str, list[npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    return {name: np.concatenate(arrays) for name, arrays in batches.items()}


def _moved(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch with its tensors, also those in dicts, on a device."""
    tensors = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
    return {name: _moved(value, device) if isinstance(value, Mapping) else value for name, value in tensors.items()}

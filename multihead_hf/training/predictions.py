"""What a trainer, or a model with its tokenizer, says of a data set: for tuning, comparing and reports."""

import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase, Trainer

from ..evaluation.metrics import MISSING
from ..model.configuration_multihead import MultiHeadConfig
from ..model.decoding_multihead import decide, probabilities
from ..model.head_multihead import HeadConfig
from ..model.modeling_multihead import MultiHeadModel
from .arguments import MultiHeadTrainingArguments
from .preparation import multi_head_model
from .trainer import MultiHeadTrainer


class Predictions(NamedTuple):
    """Of all rows of a data set, in their order.

    Args:
        model: the model that made them.
        logits: head → (rows, labels).
        references: head → label ids (rows,), or cells (rows, labels); −100 where they are not known.
    """

    model: MultiHeadModel
    logits: Mapping[str, np.ndarray]
    references: Mapping[str, np.ndarray]

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
        dataset: raw or prepared rows.
        reading: for a model, `MultiHeadTrainingArguments` that say how rows are read; a trainer has its own.

    Raises:
        ValueError: a model without a tokenizer, or rows that cannot be read.
    """
    if isinstance(model, Trainer):
        found = model.predict(dataset)
    else:
        if tokenizer is None:
            raise ValueError("a model alone cannot read texts: pass its tokenizer=, or a trainer")
        quiet = {
            "report_to": "none",
            "disable_tqdm": True,
            "per_device_eval_batch_size": 32,
            "dataloader_pin_memory": torch.cuda.is_available(),  # else torch warns
        }
        with tempfile.TemporaryDirectory() as folder:
            args = MultiHeadTrainingArguments(folder, **{**quiet, **reading})
            found = MultiHeadTrainer(model=model, args=args, processing_class=tokenizer).predict(dataset)
    base = multi_head_model(model.model if isinstance(model, Trainer) else model)
    return Predictions(base, found.predictions, found.label_ids)


def texts_of(dataset: Any, config: MultiHeadConfig, tokenizer: PreTrainedTokenizerBase | None) -> list[str]:
    """The texts of raw rows, the two of a pair joined by " | "; of prepared rows what their tokens say."""
    if "input_ids" in dataset.column_names:
        if tokenizer is None:
            raise ValueError("prepared rows have no texts: pass the tokenizer")
        rows = [ids[0] if ids and isinstance(ids[0], list) else ids for ids in dataset["input_ids"]]
        return tokenizer.batch_decode(rows, skip_special_tokens=True)
    columns = config.text_columns or ["text"]
    return [" | ".join(str(text) for text in row) for row in zip(*(dataset[name] for name in columns), strict=True)]

"""Prepared rows to one padded batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..model.configuration_multihead import HeadsLike, MultiHeadConfig
from ..model.head_multihead import HeadConfig, near_names
from ..model.losses_multihead import MISSING
from ..model.modeling_multihead import MultiHeadModel, heads_of


@dataclass
class MultiHeadDataCollator:
    """Pads prepared rows to the longest of the batch and stacks their labels, one tensor for every head.

    Args:
        tokenizer: pads; its `padding_side` is respected.
        heads: the model, its configuration, or its heads by name.
        pad_to_multiple_of: pad lengths to a multiple of this number.

    Example:
        ```python
        rows = [
            {"input_ids": [1, 5, 2], "attention_mask": [1, 1, 1], "labels": {"topic": [1, 0], "mood": None}},
            {"input_ids": [1, 2], "attention_mask": [1, 1], "labels": {"topic": None, "mood": 2}},
        ]
        MultiHeadDataCollator(tokenizer, heads)(rows)
        # {"input_ids": [[1, 5, 2], [1, 2, 0]], "attention_mask": [[1, 1, 1], [1, 1, 0]],
        #  "labels": {"topic": [[1., 0.], [-100., -100.]],  float32 (batch, labels), −100 where not known
        #             "mood": [-100, 2]}}                   int64 (batch,), −100 where missing
        ```
    """

    tokenizer: PreTrainedTokenizerBase
    heads: MultiHeadModel | MultiHeadConfig | HeadsLike
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        self._heads = heads_of(self.heads)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """
        Raises:
            ValueError: labels of a head that the model does not have, or of a wrong kind, range or length.
        """
        inputs = [{key: row[key] for key in self.tokenizer.model_input_names if key in row} for row in rows]
        batch = dict(self.tokenizer.pad(inputs, pad_to_multiple_of=self.pad_to_multiple_of, return_tensors="pt"))
        labels = [row.get("labels") or {} for row in rows]
        for given in labels:
            for name in given:
                if name not in self._heads:
                    known = list(self._heads)
                    raise ValueError(
                        f"labels for {name!r}: the model has no such head.{near_names(name, known)} Heads: {known}"
                    )
        # every head, labelled here or not, so that all processes have the same tensors
        batch["labels"] = {
            name: _stack(name, head, [given.get(name) for given in labels]) for name, head in self._heads.items()
        }
        return batch


def _stack(name: str, head: HeadConfig, targets: list[Any]) -> Tensor:
    """Targets of one head: int64 (batch,) or float32 (batch, labels), −100 where not known."""
    if not head.multi_label:
        ids = torch.tensor([MISSING if target is None else _one_id(name, target) for target in targets])  # (batch,)
        bad = (ids != MISSING) & ((ids < 0) | (ids >= head.num_labels))
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"head {name!r}, row {row} of the batch: label id {ids[row]} is not 0 to {head.num_labels - 1}"
            )
        return ids
    rows = []
    for row, target in enumerate(targets):
        cells = [MISSING] * head.num_labels if target is None else [MISSING if c is None else c for c in target]
        if len(cells) != head.num_labels:
            raise ValueError(
                f"head {name!r}, row {row} of the batch: {len(cells)} cells, and the head has {head.num_labels} labels"
            )
        rows.append(cells)
    return torch.tensor(rows, dtype=torch.float32)  # (batch, labels)


def _one_id(name: str, target: Any) -> int:
    if not isinstance(target, int):
        raise ValueError(f"head {name!r}: the label of a prepared row is an id, not {target!r}; see prepare_dataset")
    return target

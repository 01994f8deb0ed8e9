"""Batches of prepared rows: padding and stacking of tokens, features and targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ..model.configuration_multihead import HeadsLike, MultiHeadConfig
from ..model.head_multihead import HeadConfig, near_names
from ..model.losses_multihead import MISSING
from ..model.modeling_multihead import MultiHeadModel, heads_of
from ..model.values_multihead import relative_weight


@dataclass
class MultiHeadDataCollator:
    """Pad prepared rows to the longest of the batch and stack their labels, one tensor for every head.

    Rows of several windows (`truncation="windows"`) become tensors (batch, windows, length) with a `window_mask`. Rows
    may hold the `features` of their texts, as `MultiHeadModel.encode` returns them, instead of tokens.

    Args:
        tokenizer: tokenizer of the encoder, which pads the rows; its `padding_side` is respected.
        heads: the model, its configuration, or its heads by name.
        pad_to_multiple_of: number of which padded lengths are made a multiple; `None` for no such limit.

    Example:
        >>> from multihead_hf import MultiHeadDataCollator, MultiHeadModel, prepare_dataset
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> rows = prepare_dataset("complaints.csv", tokenizer, model)
        >>> batch = MultiHeadDataCollator(tokenizer, model)([rows[0], rows[1]])
        >>> sorted(batch["labels"]), batch["input_ids"].shape[0]
        (['mood', 'topics'], 2)
    """

    tokenizer: PreTrainedTokenizerBase
    heads: MultiHeadModel | MultiHeadConfig | HeadsLike
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        self._heads = heads_of(self.heads)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return one batch of prepared rows.

        Args:
            rows: prepared rows, each with tokens or `features`, and `labels` (head → target) and `sample_weight` if
                present.

        Returns:
            A dict with the tokens, int64 (batch, length), or `features`, float32 (batch, hidden); `labels`: a dict with
            a tensor for every head, int64 (batch,) for single-label and float32 (batch, labels) for multi-label heads,
            −100 where unlabelled; and `sample_weight`, float32 (batch,), where a row has one.

        Raises:
            ValueError: If a label belongs to a head that the model does not have, or has a wrong type, range or length.
        """
        if not rows:
            raise ValueError("there are no rows to make a batch of")
        if "features" in rows[0]:
            batch = _stack_features([row["features"] for row in rows])
        else:
            inputs = [{key: row[key] for key in self.tokenizer.model_input_names if key in row} for row in rows]
            batch = pad_tokens(self.tokenizer, inputs, self.pad_to_multiple_of)
        labels = [row.get("labels") or {} for row in rows]
        for row, row_targets in enumerate(labels):
            if not isinstance(row_targets, Mapping):
                raise ValueError(f"row {row} of the batch: labels must be a dict head → target, not {row_targets!r}")
            for name in row_targets:
                if name not in self._heads:
                    near = near_names(name, self._heads)
                    raise ValueError(
                        f"row {row} of the batch: the model has no head {name!r}.{near} Its heads: {list(self._heads)}"
                    )
        # every head, even if unlabelled here, so that all processes have the same tensors
        batch["labels"] = {
            name: stack_targets(name, head, [targets.get(name) for targets in labels])
            for name, head in self._heads.items()
        }
        if any("sample_weight" in row for row in rows):
            weights = [1.0 if row.get("sample_weight") is None else row["sample_weight"] for row in rows]
            for row, weight in enumerate(weights):
                relative_weight(f"row {row} of the batch: sample_weight", weight)
            batch["sample_weight"] = torch.tensor(weights, dtype=torch.float32)  # (batch,)
        return batch


def pad_tokens(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Mapping[str, Any]], multiple: int | None = None
) -> dict[str, Any]:
    """Return the tokens of rows as padded tensors (batch, length).

    Rows in windows become tensors (batch, windows, length), and the batch has a `window_mask` (batch, windows), 1 for
    windows and 0 for padding.

    Args:
        tokenizer: tokenizer that pads the rows; its `padding_side` is respected.
        rows: what the tokenizer returned for each text, as lists; for texts in windows a list for each window.
        multiple: number of which padded lengths are made a multiple.
    """
    if not _has_windows(rows):
        return dict(tokenizer.pad(rows, pad_to_multiple_of=multiple, return_tensors="pt"))
    counts = torch.tensor([len(row["input_ids"]) for row in rows])
    windows = [{key: row[key][i] for key in row} for row in rows for i in range(len(row["input_ids"]))]
    mask = torch.arange(int(counts.max())) < counts[:, None]
    batch: dict[str, Any] = {"window_mask": mask.long()}
    for key, values in pad_tokens(tokenizer, windows, multiple).items():
        padding = tokenizer.pad_token_id if key == "input_ids" else 0
        batch[key] = values.new_full((*mask.shape, values.shape[1]), padding or 0)
        batch[key][mask] = values
    return batch


def _stack_features(features: list[Tensor]) -> dict[str, Any]:
    """Stack features to (batch, hidden), or those of windows to (batch, windows, hidden) with a `window_mask`."""
    if features[0].dim() == 1:
        return {"features": torch.stack(features)}
    mask = nn.utils.rnn.pad_sequence(
        [torch.ones(len(windows), dtype=torch.long) for windows in features], batch_first=True
    )
    return {"features": nn.utils.rnn.pad_sequence(features, batch_first=True), "window_mask": mask}


def _has_windows(inputs: Sequence[Mapping[str, Any]]) -> bool:
    first = next(iter(inputs[0]["input_ids"]), None) if inputs else None
    return isinstance(first, (list, tuple, np.ndarray)) or (isinstance(first, Tensor) and first.dim() > 0)


def stack_targets(name: str, head: HeadConfig, targets: list[Any]) -> Tensor:
    """Stack the targets of one head: int64 (batch,) or float32 (batch, labels), −100 where unlabelled."""
    # formatted datasets return numpy or torch targets, which are converted to plain values
    plain = [target.tolist() if isinstance(target, (Tensor, np.ndarray, np.generic)) else target for target in targets]
    if head.multi_label:
        return torch.from_numpy(_cells(name, head, plain))
    return torch.tensor([_label_id(name, head, *row) for row in enumerate(plain)], dtype=torch.int64)


def _label_id(name: str, head: HeadConfig, row: int, target: object) -> int:
    if target is None:
        return MISSING
    if not isinstance(target, int):
        raise ValueError(
            f"head {name!r}, row {row} of the batch: the label of a prepared row is an id, not {target!r}; see "
            "prepare_dataset"
        )
    if target != MISSING and not 0 <= target < head.num_labels:
        raise ValueError(f"head {name!r}, row {row} of the batch: label id {target} is not 0 to {head.num_labels - 1}")
    return target


def _cells(name: str, head: HeadConfig, targets: list[Any]) -> npt.NDArray[np.float32]:
    for row, target in enumerate(targets):
        if target is not None and (not isinstance(target, (list, tuple)) or len(target) != head.num_labels):
            raise ValueError(
                f"head {name!r}, row {row} of the batch: the target of a prepared row is a list of {head.num_labels} "
                f"cells, one for each label, not {target!r}; see prepare_dataset"
            )
    unknown = [MISSING] * head.num_labels
    cells = np.array([unknown if target is None else target for target in targets], dtype=np.float32)
    cells[np.isnan(cells)] = MISSING  # None became NaN
    wrong = (cells != MISSING) & ((cells < 0) | (cells > 1))
    if wrong.any():
        row, label = np.argwhere(wrong)[0]
        raise ValueError(
            f"head {name!r}, row {row} of the batch: cell {head.labels[label]!r} is {cells[row, label]:g}, not between "
            "0 and 1"
        )
    return cells

"""Methods of a model on its heads by name: targets, decisions, thresholds.

This file travels with every saved model.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.utils import logging

from .decoding_multihead import HeadPrediction, check_finite, predict
from .head_multihead import near_names
from .layers_multihead import ClassificationHead, module_key
from .losses_multihead import MISSING
from .values_multihead import Thresholds, ThresholdsOfHeads, whole_number

logger = logging.get_logger(__name__)


class HeadInterface:
    """Methods of `MultiHeadModel` that name heads, check their targets and decide."""

    config: Any
    heads: Any

    def _head_names(self, heads: Iterable[str] | None) -> list[str]:
        if heads is None:
            return list(self.config.heads)
        if not isinstance(heads, Iterable):
            raise ValueError(f"heads {heads!r}: give a name, or a list of names")
        names = [heads] if isinstance(heads, str) else list(heads)
        if not names:
            raise ValueError(f"heads is empty: name some of {list(self.config.heads)}, or leave it out for all")
        for name in names:
            self.check_head(name, "heads")
        return names

    def check_head(self, name: str, argument: str) -> None:
        """Check that the model has a head.

        Args:
            name: Name of the head.
            argument: Name of the argument that the head was given in, for the message.

        Raises:
            ValueError: The model has no such head; the message gives `argument` and near names.
        """
        if not isinstance(name, str) or name not in self.config.heads:
            known = list(self.config.heads)
            raise ValueError(f"{argument}: the model has no head {name!r}.{near_names(name, known)} Its heads: {known}")

    def _check_labels(self, labels: object) -> None:
        if labels is None:
            return
        if not isinstance(labels, Mapping):
            raise ValueError(
                f"labels must be a dict head → tensor with some of the heads {list(self.config.heads)}, not a "
                f"{type(labels).__name__}"
            )
        for name, targets in labels.items():
            self.check_head(name, "labels")
            head = self.config.heads[name]
            dims = 2 if head.multi_label else 1
            if targets is None:
                continue
            if not isinstance(targets, Tensor):
                raise ValueError(f"head {name!r}: labels must be a tensor, not a {type(targets).__name__}")
            if targets.dim() != dims or (dims == 2 and targets.shape[1] != head.num_labels):
                expected = f"(batch, {head.num_labels})" if dims == 2 else "(batch,)"
                raise ValueError(
                    f"head {name!r}: labels have shape {tuple(targets.shape)}, but this {head.problem_type} head "
                    f"expects {expected}"
                )
            if dims == 2 and targets.device.type == "cpu":
                wrong = ~((targets >= 0) & (targets <= 1)) & (targets != MISSING)
                if wrong.any():
                    row, label = wrong.nonzero()[0].tolist()
                    raise ValueError(
                        f"head {name!r}, row {row} of the batch: cell {head.labels[label]!r} is "
                        f"{targets[row, label]:g}, not between 0 and 1, or {MISSING} for an unknown one"
                    )
            if dims == 1 and targets.dtype != torch.int64:
                raise ValueError(f"head {name!r}: label ids must be int64, not {targets.dtype}")
            # on an accelerator this would synchronise with the device; prepare_dataset and the collator check there
            if dims == 1 and targets.device.type == "cpu":
                wrong = ((targets < 0) & (targets != MISSING)) | (targets >= head.num_labels)
                if wrong.any():
                    row = int(wrong.nonzero()[0])
                    raise ValueError(
                        f"head {name!r}, row {row} of the batch: label id {targets[row]} is not 0 to "
                        f"{head.num_labels - 1}, or {MISSING} for a missing label"
                    )

    def decode(
        self, logits: Mapping[str, Tensor], top_k: int | None = None, threshold: ThresholdsOfHeads | None = None
    ) -> dict[str, HeadPrediction]:
        """Turn logits into probabilities, decisions, and label names with scores.

        Args:
            logits: Head → tensor of shape (batch, labels), as `model(...).logits`.
            top_k: Return the `top_k` best labels of each head instead of the predicted ones.
            threshold: Minimum probability of a predicted label, instead of the saved thresholds: a number for all
                multi-label heads, or a dict head → number, list in label order or dict by label name.

        Returns:
            Head → `HeadPrediction`.

        Raises:
            ValueError: A head or label does not exist, a threshold is outside (0, 1), `top_k` is below 1, or logits
                are not finite.
        """
        top_k = None if top_k is None else whole_number("top_k", top_k, 1)
        if isinstance(threshold, Mapping):
            for name in threshold:
                self.check_head(name, "threshold")
        self.sync_thresholds()
        predictions = {}
        for name, head_logits in logits.items():
            self.check_head(name, "logits")
            if not isinstance(head_logits, Tensor) or head_logits.dim() != 2:
                raise ValueError(f"head {name!r}: logits must be a tensor (rows, labels), as model(...).logits has it")
            check_finite(name, head_logits)
            head = self.config.heads[name]
            head_threshold = (
                threshold.get(name) if isinstance(threshold, Mapping) else threshold if head.multi_label else None
            )
            try:
                predictions[name] = predict(head, head_logits.detach(), top_k, head_threshold)
            except ValueError as error:
                raise ValueError(f"head {name!r}: {error}") from None
        return predictions

    @torch.no_grad()
    def sync_thresholds(self) -> None:
        """Write learned thresholds into `config.heads[…].thresholds`, from which decisions are made.

        Raises:
            ValueError: Learned thresholds are not finite, as after a training that diverged.
        """
        by_key = {
            f"{module_key(name)}.threshold_logits": (name, head)
            for name, head in self.config.heads.items()
            if head.learn_thresholds is not None
        }
        if not by_key:
            return
        for key, threshold_logits in self.heads.named_parameters():
            name, head = by_key.get(".".join(key.split(".")[-2:]), (None, None))
            # PEFT keeps a frozen original beside the copy that trains
            if name is None or head is None or "original_module" in key or threshold_logits.is_meta:
                continue
            values = torch.sigmoid(threshold_logits.double().cpu()).clamp(1e-6, 1 - 1e-6)
            if not values.isfinite().all():
                raise ValueError(
                    f"head {name!r}: its learned thresholds are not finite (NaN), so the model is broken: train again, "
                    "with a lower threshold_learning_rate or learning_rate"
                )
            # (the head is kept in the record, so that its id is that of no other; extended heads have further labels)
            record = self.__dict__.setdefault("_written_thresholds", {})
            _, written = record.get(id(head), (head, head.thresholds))
            same_size = head.thresholds is not None and len(head.thresholds) == len(written or ())
            if same_size and head.thresholds != written:
                logger.warning(
                    f"head {name!r}: the thresholds in the configuration were changed, but the head has learned ones, "
                    f"which stay: set_thresholds({name!r}, ...) replaces them"
                )
            head.thresholds = values.tolist()
            record[id(head)] = head, list(head.thresholds)

    def forget_written_thresholds(self) -> None:
        """Forget what `sync_thresholds` wrote, after the thresholds in the configuration were put back."""
        self.__dict__.pop("_written_thresholds", None)

    def set_thresholds(self, name: str, thresholds: Thresholds) -> None:
        """Set a head's thresholds; learned thresholds are removed.

        Args:
            name: Name of the head.
            thresholds: A number, a list in label order, or a dict by label name.

        Raises:
            ValueError: The head does not exist or is not multi-label, or a value is outside (0, 1).
        """
        self.check_head(name, "set_thresholds")
        head = self.config.heads[name]
        try:
            head.thresholds = head.per_label_thresholds(thresholds)
        except ValueError as error:
            raise ValueError(f"head {name!r}: {error}") from None
        head.learn_thresholds = None
        for key, module in self.heads.named_modules():
            if key.split(".")[-1] == module_key(name) and isinstance(module, ClassificationHead):
                module.threshold_logits = None

"""Losses and metrics of an evaluation, counted batch by batch."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ..data.rows_like import RowsLike
from ..model.head_multihead import HeadConfig
from ..model.unwrapping import multi_head_model
from .losses import EvaluationLoss
from .metric_names import metric_keys
from .predictions import Compute, batches_with_logits, model_reader
from .streaming import StreamingMetrics


class Evaluation:
    """Exact losses and metrics of the rows added; logits are not kept.

    Args:
        heads: the model's heads.
        with_metrics: whether metrics are computed besides losses.
        gather: tensors of this process → tensors of all processes, without duplicate rows.
    """

    def __init__(
        self, heads: Mapping[str, HeadConfig], with_metrics: bool = True, gather: Callable[[Any], Any] | None = None
    ) -> None:
        self._gather = gather
        self._loss = EvaluationLoss(heads)
        self.metrics = StreamingMetrics(heads) if with_metrics else None

    def add(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], sample_weight: Tensor | None) -> None:
        """Add a batch of this process: head → logits (batch, labels), and targets of some or all of the heads."""
        rows = {"logits": dict(logits), "labels": dict(labels)}
        if sample_weight is not None:
            rows["weight"] = {"weight": sample_weight}
        if self._gather is not None:
            rows = self._gather(rows)
        self._loss.add(rows["logits"], rows["labels"], rows.get("weight", {}).get("weight"))
        if self.metrics is not None:
            self.metrics.add(rows["logits"], rows["labels"])

    def figures(self, combine: Callable[[Mapping[str, Tensor]], Tensor], trained: Collection[str]) -> dict[str, float]:
        """Return the metrics of every head, `<head>_loss` of the labelled heads, and the combined `loss`.

        The combined loss is that of the trained heads with a labelled row; it is left out if there is none, or if the
        loss of a trained head is not known.
        """
        by_head, labelled = self._loss.losses()
        losses = {f"{name}_loss": float(by_head[name]) for name in by_head if name in labelled}
        counted = [name for name in trained if name in labelled]
        if counted and by_head.keys() >= set(trained):
            losses["loss"] = float(combine({name: by_head[name] for name in counted}))
        if self.metrics is None:
            return losses
        self.metrics.losses = losses
        return self.metrics.figures() | losses


def evaluated(
    model: nn.Module,
    dataset: RowsLike,
    tokenizer: PreTrainedTokenizerBase | None = None,
    compute: Compute | None = None,
    **reading: Any,
) -> tuple[dict[str, float], StreamingMetrics]:
    """Return the metrics of `MultiHeadTrainer.evaluate`, without a prefix and times; predictions are not kept.

    Args:
        model: a `MultiHeadModel`, not a trainer.
        dataset: rows, as for `predicted`.
        tokenizer: tokenizer of the model.
        compute: another backend, which computes the logits instead of the model.
        **reading: how rows are read, as for `predicted`.

    Returns:
        A dict with `<head>_<metric>`, `f1`, `<head>_loss` and `loss`; and the `StreamingMetrics` behind it, which print
        as a table.

    Raises:
        ValueError: If `predicted` raises it, or no row is labelled.
    """
    base = multi_head_model(model)
    metric_keys(base.config.heads)
    with model_reader(model, tokenizer, reading) as reader:
        evaluation = Evaluation(base.config.heads)
        rows = reader.prepared(dataset, "dataset")
        for batch, logits in batches_with_logits(reader, rows, by_length=True, compute=compute):
            evaluation.add(logits, batch["labels"], batch.get("sample_weight"))
        metrics = evaluation.figures(base.combine, base.config.heads)
    if evaluation.metrics is None or "f1" not in metrics:
        raise ValueError(f"no row of the dataset is labelled; the heads are {list(base.config.heads)}")
    # not in the table: that of a training has another one there, divided by the losses of the best constants
    evaluation.metrics.losses.pop("loss", None)
    return metrics, evaluation.metrics

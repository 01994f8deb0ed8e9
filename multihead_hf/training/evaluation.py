"""Losses and metrics of an evaluation, counted batch by batch over all processes."""

from collections.abc import Callable, Collection, Mapping

from accelerate import Accelerator
from torch import Tensor

from ..evaluation.streaming import StreamingMetrics
from ..model.head_multihead import HeadConfig
from .evaluation_loss import EvaluationLoss


class Evaluation:
    """Rows that a distributed sampler pads in are not counted.

    Args:
        heads: the model's heads.
        accelerator: gathers the rows of all processes.
        with_metrics: whether metrics are counted, and not losses only.
    """

    def __init__(self, heads: Mapping[str, HeadConfig], accelerator: Accelerator, with_metrics: bool) -> None:
        self._accelerator = accelerator
        self._loss = EvaluationLoss(heads)
        self.metrics = StreamingMetrics(heads) if with_metrics else None

    def add(self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], sample_weight: Tensor | None) -> None:
        """Add a batch of this process: head → logits (batch, labels), and targets of some or all of the heads."""
        rows = {"logits": dict(logits), "labels": dict(labels)}
        if sample_weight is not None:
            rows["weight"] = {"weight": sample_weight}
        rows = self._accelerator.gather_for_metrics(rows)
        self._loss.add(rows["logits"], rows["labels"], rows.get("weight", {}).get("weight"))
        if self.metrics is not None:
            self.metrics.add(rows["logits"], rows["labels"])

    def figures(self, combine: Callable[[Mapping[str, Tensor]], Tensor], trained: Collection[str]) -> dict[str, float]:
        """Every head's metrics, `<head>_loss` of the labelled ones and, where those of all trained heads are known,
        their combined `loss`."""
        by_head, labelled = self._loss.losses()
        losses = {f"{name}_loss": float(by_head[name]) for name in by_head if name in labelled}
        if labelled and by_head.keys() >= set(trained):
            losses["loss"] = float(combine({name: by_head[name] for name in trained}))
        if self.metrics is None:
            return losses
        self.metrics.losses = losses
        return self.metrics.figures() | losses

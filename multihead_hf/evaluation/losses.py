"""Exact loss of every head over a whole evaluation dataset, from sums over its rows."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..model.head_multihead import HeadConfig
from ..model.losses_multihead import AdditiveTerm, Term, is_known, loss_terms, no_targets
from ..model.objective_multihead import in_float32


def wide_dtype(device: torch.device) -> torch.dtype:
    """Return the precision in which sums over many rows are kept."""
    return torch.float64 if device.type in ("cpu", "cuda") else torch.float32


class EvaluationLoss:
    """Sums of the terms' numerators, denominators and statistics over the rows of an evaluation.

    The loss of a dataset is not a mean over its batches: its last batch is smaller, rows lack labels, and an F1 is not
    a sum.

    Args:
        heads: the model's heads; learned thresholds are read from their `thresholds`. Heads whose loss is not known
            here are left out.
    """

    def __init__(self, heads: Mapping[str, HeadConfig]) -> None:
        self._heads = {name: head for name, head in heads.items() if is_known(head) and head.unresolved is None}
        self._terms: list[tuple[str, Term]] = []
        for name, head in self._heads.items():
            learned = torch.logit(torch.tensor(head.thresholds)) if head.learn_thresholds is not None else None
            self._terms += [(name, term) for term in loss_terms(name, head, learned)]
        self._shapes: list[torch.Size] = []
        self._sums: Tensor | None = None  # (columns,): for each term its denominator and its numerator or statistics

    def add(
        self, logits: Mapping[str, Tensor], labels: Mapping[str, Tensor], sample_weight: Tensor | None = None
    ) -> None:
        """Add a batch: head → logits (batch, labels), and targets of some or all of the heads."""
        if not self._terms:
            return
        columns: list[Tensor] = []  # (batch, …)
        for name, term in self._terms:
            wide = in_float32(logits[name])
            targets = labels.get(name)
            if targets is None:
                targets = no_targets(self._heads[name], wide)
            targets = targets.to(wide.device, wide.dtype if targets.is_floating_point() else targets.dtype)
            statistics = term.numerator if isinstance(term, AdditiveTerm) else term.statistics
            columns += [term.denominator(targets), statistics(wide, targets)]
        self._shapes = [values.shape[1:] for values in columns]
        rows = torch.cat([values.to(wide_dtype(values.device)).reshape(len(values), -1) for values in columns], dim=1)
        if sample_weight is not None:
            rows = rows * sample_weight.to(rows).unsqueeze(1)
        sums = rows.sum(0)
        self._sums = sums if self._sums is None else self._sums + sums

    def losses(self) -> tuple[dict[str, Tensor], set[str]]:
        """Return head → loss over all rows added, an exact 0 without labels; and the heads that have a label."""
        losses: dict[str, Tensor] = {}
        labelled: set[str] = set()
        if self._sums is None:
            return losses, labelled
        pieces = self._sums.split([shape.numel() for shape in self._shapes])
        values = [piece.view(shape) for piece, shape in zip(pieces, self._shapes, strict=True)]
        for (name, term), units, statistics in zip(self._terms, values[::2], values[1::2], strict=True):
            value = torch.zeros_like(units)
            if units > 0:
                labelled.add(name)
                value = statistics / units if isinstance(term, AdditiveTerm) else term.value(statistics)
            losses[name] = losses.get(name, 0.0) + term.weight * value
        return losses, labelled

"""Losses as weighted sums of named terms.

This file travels with every saved model. Each term is additive over rows: `numerator(logits, targets)` divided by
`denominator(targets)`. The denominator needs the targets alone, so it can be summed over all micro-batches and
processes of an optimiser step before the first forward pass; the step is then the same however its batch is split.

Shapes: single-label heads have logits (batch, labels) and targets int64 (batch,), −100 for a missing label; multi-label
heads have targets float32 (batch, labels) in [0, 1], −100 in cells that are not known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .head_multihead import HeadConfig, near_names

MISSING = -100


@dataclass(frozen=True)
class LossTerm:
    """One additive term of a head's loss.

    Args:
        name: key in the logs, beside the head's name.
        weight: coefficient in the head's loss.
        numerator: (logits, targets) → scalar, a sum over the units of this term.
        denominator: targets → scalar, the number (or weight) of those units.
    """

    name: str
    weight: float
    numerator: Callable[[Tensor, Tensor], Tensor]
    denominator: Callable[[Tensor], Tensor]


def cross_entropy(head: HeadConfig, threshold_logits: Tensor | None = None) -> list[LossTerm]:
    """`−w[y]·log softmax(z)[y]` over the labelled rows, divided by the sum of their weights `w[y]`."""

    def numerator(logits: Tensor, targets: Tensor) -> Tensor:
        weights = _label_weights(head, logits)
        return F.cross_entropy(logits, targets, weight=weights, ignore_index=MISSING, reduction="sum")

    def denominator(targets: Tensor) -> Tensor:
        labelled = targets != MISSING
        weights = _label_weights(head, torch.empty(0, device=targets.device))
        return labelled.sum() if weights is None else (weights[torch.where(labelled, targets, 0)] * labelled).sum()

    return [LossTerm("cross_entropy", 1.0, numerator, denominator)]


def bce(head: HeadConfig, threshold_logits: Tensor | None = None) -> list[LossTerm]:
    """`−w·(pos_weight·y·log p + (1−y)·log(1−p))` with `p = sigmoid(z)`, over the known cells, divided by `Σ w`."""

    def numerator(logits: Tensor, targets: Tensor) -> Tensor:
        known, targets = _known(targets)
        weights = _label_weights(head, logits)
        known = known.to(logits) if weights is None else known * weights  # (batch, labels)
        pos_weight = _numbers(head, "pos_weight", logits)
        cells = F.binary_cross_entropy_with_logits(logits, targets.to(logits), pos_weight=pos_weight, reduction="none")
        return (cells * known).sum()

    def denominator(targets: Tensor) -> Tensor:
        known, targets = _known(targets)
        weights = _label_weights(head, targets)
        return known.sum() if weights is None else (known * weights).sum()

    return [LossTerm("bce", 1.0, numerator, denominator)]


def soft_f1(
    head: HeadConfig, threshold_logits: Tensor | None = None, *, temperature: float = 1.0, epsilon: float = 1e-8
) -> list[LossTerm]:
    """`1 − F1` of each row over its labels, with `p = sigmoid(temperature·(z − τ))`, mean over the labelled rows.

    `TP = Σ p·y`, `FP = Σ p·(1−y)`, `FN = Σ (1−p)·y`; `P = TP/(TP+FP+ε)`, `R = TP/(TP+FN+ε)`,
    `F1 = 2PR/(P+R+ε)`. τ is `threshold_logits` (labels,) where thresholds are learned and 0 elsewhere.
    A row without positives has loss 1 and gradient 0, whatever is predicted.
    """

    def numerator(logits: Tensor, targets: Tensor) -> Tensor:
        known, targets = _known(targets)
        shifted = logits if threshold_logits is None else logits - threshold_logits.to(logits)
        p = torch.sigmoid(temperature * shifted) * known
        y = targets.to(p) * known
        tp = (p * y).sum(-1)  # (batch,)
        fp = (p * (1 - y)).sum(-1)
        fn = ((1 - p) * y).sum(-1)
        precision = tp / (tp + fp + epsilon)
        recall = tp / (tp + fn + epsilon)
        f1 = 2 * precision * recall / (precision + recall + epsilon)
        return ((1 - f1) * known.any(-1)).sum()

    def denominator(targets: Tensor) -> Tensor:
        return _known(targets)[0].any(-1).sum()

    return [LossTerm("soft_f1", 1.0, numerator, denominator)]


def soft_f1_bce(
    head: HeadConfig,
    threshold_logits: Tensor | None = None,
    *,
    alpha: float = 0.15,
    temperature: float = 2.0,
    epsilon: float = 1e-8,
) -> list[LossTerm]:
    """`α·soft_f1 + (1−α)·bce`, each part by its own unit; BCE on the raw logits (no τ, no temperature).

    Soft-F1 alone gives confident misses almost no gradient (9e-5 at logit −10, against 6e-2 for BCE): hence the mix.
    The defaults are those of the published WimBERT v0 model.
    """
    (f1_term,) = soft_f1(head, threshold_logits, temperature=temperature, epsilon=epsilon)
    (bce_term,) = bce(head)
    return [
        LossTerm("soft_f1", alpha, f1_term.numerator, f1_term.denominator),
        LossTerm("bce", 1 - alpha, bce_term.numerator, bce_term.denominator),
    ]


LOSSES: dict[str, Callable[..., list[LossTerm]]] = {
    "cross_entropy": cross_entropy,
    "bce": bce,
    "soft_f1": soft_f1,
    "soft_f1_bce": soft_f1_bce,
}


def loss_terms(name: str, head: HeadConfig, threshold_logits: Tensor | None = None) -> list[LossTerm]:
    """The terms of the loss of head `name`.

    Raises:
        ValueError: the loss is not known here, or needs weights that are not computed yet; names the head.
    """
    if head.loss not in LOSSES:
        raise ValueError(
            f"head {name!r}: its loss {head.loss!r} is not known to this installation, so it can predict but not "
            f"train.{near_names(head.loss, LOSSES)} Known: {', '.join(LOSSES)}"
        )
    for setting in ("label_weights", "pos_weight"):
        if getattr(head, setting) == "balanced":
            raise ValueError(
                f"head {name!r}: {setting}='balanced' is not computed yet; MultiHeadTrainer computes it from the "
                "training data before the first step. Outside of it, give the weights as numbers"
            )
    return LOSSES[head.loss](head, threshold_logits, **head.loss_kwargs)


def head_loss(
    terms: list[LossTerm], logits: Tensor, targets: Tensor, denominators: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one head and its parts.

    Args:
        terms: from `loss_terms`.
        logits: (batch, labels); half precision is computed in float32.
        targets: (batch,) or (batch, labels), see the top of this file.
        denominators: term → number of units of the whole optimiser step; `None` takes those of `targets`.

    Returns:
        the head's loss (scalar; an exact 0 that stays in the graph when nothing is labelled) and term → its
        unweighted value. With denominators of a whole step these are this batch's shares: their sum over the step's
        batches is the step's loss.
    """
    if logits.dtype in (torch.float16, torch.bfloat16):
        logits = logits.float()
    total = logits.sum() * 0.0
    parts: dict[str, Tensor] = {}
    for term in terms:
        units = term.denominator(targets) if denominators is None else denominators[term.name]
        units = units.to(logits)
        part = term.numerator(logits, targets) / torch.where(units > 0, units, torch.ones_like(units))
        parts[term.name] = part
        total = total + term.weight * part
    return total, parts


def step_denominators(heads: Mapping[str, HeadConfig], labels: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Head → term → number of units in `labels`, for the heads that have labels in it."""
    return {
        name: {term.name: term.denominator(labels[name]) for term in loss_terms(name, head)}
        for name, head in heads.items()
        if name in labels
    }


def _known(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mask of the known cells, and the targets with 0 in the others; both (batch, labels)."""
    known = targets != MISSING
    return known, torch.where(known, targets, torch.zeros_like(targets))


def _label_weights(head: HeadConfig, like: Tensor) -> Tensor | None:
    return _numbers(head, "label_weights", like)


def _numbers(head: HeadConfig, setting: str, like: Tensor) -> Tensor | None:
    values = getattr(head, setting)
    return None if values is None else torch.tensor(values, dtype=like.dtype, device=like.device)

"""Losses as weighted sums of named terms.

This file travels with every saved model. A loss is a function `(head, threshold_logits=None, **settings)` that gives
its terms. There are two kinds, which are also used by custom losses (`register_loss`):

- an `AdditiveTerm` is a sum over rows divided by a sum over rows. The divisor needs the targets alone, so it is known
  for a whole optimizer step (all micro-batches, all processes) before the first forward pass.
- a `RatioTerm` is a function of sums over rows, such as an F1 of labels from their TP, FP and FN. The sums are taken
  over each micro-batch, or over the whole step, which then takes a second forward pass.

Shapes: single-label heads have logits (batch, labels) and targets int64 (batch,), −100 for a missing label; multi-label
heads have targets float32 (batch, labels) in [0, 1], −100 in unknown cells. The values of a term are per row;
objective_multihead.py weights (`sample_weight`) and sums the rows.

| name | unit loss | divided by |
|---|---|---|
| `cross_entropy` | `−w[y]·log softmax(z)[y]` | `Σ w[y]` over labelled rows |
| `bce` | `−w·(pos_weight·y·log p + (1−y)·log(1−p))` | `Σ w` over known cells |
| `focal`, `asymmetric` | as published, per cell | known cells |
| `soft_f1` `average="samples"` | `1 − F1` of a row over its labels | labelled rows |
| `soft_f1` `average="macro"`, `"micro"` | `1 − F1` of a label over the rows, of all cells | a ratio of sums over rows |
| `soft_f1_bce` | `α·soft_f1 + (1−α)·bce` | each part by its own unit |
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .head_multihead import BUILT_IN_LOSSES, LOSS_SETTINGS, PROBLEM_TYPES, HeadConfig, near_names, one_of

MISSING = -100


@dataclass(frozen=True)
class AdditiveTerm:
    """A term `Σ numerator / Σ denominator` over rows.

    Args:
        name: Key in the logs, after the head's name.
        weight: Coefficient in the head's loss.
        numerator: Function (logits, targets) → (batch,), 0 in unlabelled rows.
        denominator: Function targets → (batch,), the units of each row, 0 in unlabelled rows.

    Example:
        >>> import torch
        >>> from multihead_hf import AdditiveTerm
        >>> term = AdditiveTerm("absolute", 1.0, lambda z, y: (z - y).abs().sum(-1), lambda y: torch.ones(len(y)))
        >>> term.numerator(torch.zeros(2, 3), torch.ones(2, 3))
        tensor([3., 3.])
    """

    name: str
    weight: float
    numerator: Callable[[Tensor, Tensor], Tensor]
    denominator: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class RatioTerm:
    """A term `value(Σ statistics)` of sums over rows.

    Args:
        name: Key in the logs, after the head's name.
        weight: Coefficient in the head's loss.
        statistics: Function (logits, targets) → (batch, …), zeros in unlabelled rows.
        value: Function of the sums of the statistics (…) → scalar; only called if there are labelled rows.
        denominator: Function targets → (batch,), 1 in labelled rows and 0 elsewhere.
        scope: The rows that are summed. `"step"`: all rows of the optimizer step, exact, at the cost of a second
            forward pass if the step is split. `"micro_batch"`: the rows of each micro-batch, then the mean over the
            micro-batches with labels: an approximation, which changes if the batch is split in another way.

    Example:
        >>> import torch
        >>> from multihead_hf import RatioTerm
        >>> term = RatioTerm("share", 1.0, lambda z, y: z * y, lambda s: s[0] / s.sum(), lambda y: torch.ones(len(y)))
        >>> term.value(term.statistics(torch.ones(3, 2), torch.ones(3, 2)).sum(0))
        tensor(0.5000)
    """

    name: str
    weight: float
    statistics: Callable[[Tensor, Tensor], Tensor]
    value: Callable[[Tensor], Tensor]
    denominator: Callable[[Tensor], Tensor]
    scope: str = "micro_batch"


Term = AdditiveTerm | RatioTerm
Loss = Callable[..., list[Term]]


# ---- the losses ----


def cross_entropy(
    head: HeadConfig, threshold_logits: Tensor | None = None, *, label_smoothing: float = 0.0
) -> list[Term]:
    """Weighted cross-entropy, as `torch.nn.CrossEntropyLoss` with `reduction="mean"`, also with label smoothing."""

    def numerator(logits: Tensor, targets: Tensor) -> Tensor:
        weights = _numbers(head, "label_weights", logits)
        smoothing = label_smoothing
        return F.cross_entropy(
            logits, targets, weight=weights, ignore_index=MISSING, reduction="none", label_smoothing=smoothing
        )

    def denominator(targets: Tensor) -> Tensor:
        labelled = targets != MISSING
        weights = _numbers(head, "label_weights", torch.empty(0, device=targets.device))
        return labelled.float() if weights is None else weights[torch.where(labelled, targets, 0)] * labelled

    return [AdditiveTerm("cross_entropy", 1.0, numerator, denominator)]


def bce(head: HeadConfig, threshold_logits: Tensor | None = None) -> list[Term]:
    """Binary cross-entropy of each known cell, with the head's `pos_weight` and `label_weights`."""

    def cells(logits: Tensor, targets: Tensor) -> Tensor:
        pos_weight = _numbers(head, "pos_weight", logits)
        return F.binary_cross_entropy_with_logits(logits, targets, pos_weight=pos_weight, reduction="none")

    return [_cell_term(head, "bce", cells)]


def focal(
    head: HeadConfig, threshold_logits: Tensor | None = None, *, gamma: float = 2.0, alpha: float = 0.25
) -> list[Term]:
    """Focal loss `−α_t·(1 − p_t)^γ·log p_t` of each known cell; α is the weight of positives, 1 − α of negatives.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, with its γ = 2 and α = 0.25.
    """

    def cells(logits: Tensor, targets: Tensor) -> Tensor:
        log_p, log_not = F.logsigmoid(logits), F.logsigmoid(-logits)
        positive = alpha * torch.exp(gamma * log_not) * log_p  # as exponentials: finite gradients at p = 0 and 1
        negative = (1 - alpha) * torch.exp(gamma * log_p) * log_not
        return -(targets * positive + (1 - targets) * negative)

    return [_cell_term(head, "focal", cells)]


def asymmetric(
    head: HeadConfig,
    threshold_logits: Tensor | None = None,
    *,
    gamma_positive: float = 1.0,
    gamma_negative: float = 4.0,
    margin: float = 0.05,
) -> list[Term]:
    """Asymmetric loss: `−(1 − p)^γ₊·log p` of positives, `−p_m^γ₋·log(1 − p_m)` of negatives, `p_m = max(p − m, 0)`.

    Ridnik et al., "Asymmetric Loss for Multi-Label Classification", ICCV 2021, with the defaults of its code. That code
    sums over the batch and so changes with its size; here known cells are averaged, as in every other loss.
    """

    def cells(logits: Tensor, targets: Tensor) -> Tensor:
        log_p, log_not = F.logsigmoid(logits), F.logsigmoid(-logits)
        positive = torch.exp(gamma_positive * log_not) * log_p
        if margin == 0:
            negative = torch.exp(gamma_negative * log_p) * log_not
        else:
            shifted = torch.sigmoid(logits) - margin
            shifted = torch.where(shifted > 0, shifted, 0.5)  # not 0: its powers have no finite gradient
            easy = torch.sigmoid(logits) <= margin
            negative = (shifted**gamma_negative * torch.log1p(-shifted)).masked_fill(easy, 0.0)
        return -(targets * positive + (1 - targets) * negative)

    return [_cell_term(head, "asymmetric", cells)]


def soft_f1(
    head: HeadConfig,
    threshold_logits: Tensor | None = None,
    *,
    average: str = "samples",
    scope: str = "micro_batch",
    temperature: float = 1.0,
    absent_labels: str = "skip",
    epsilon: float = 1e-8,
) -> list[Term]:
    """`1 − F1` with probabilities `p = sigmoid(temperature·(z − τ))` in place of decisions.

    `TP = Σ p·y`, `FP = Σ p·(1−y)`, `FN = Σ (1−p)·y`; `P = TP/(TP+FP+ε)`, `R = TP/(TP+FN+ε)`, `F1 = 2PR/(P+R+ε)`, with
    sums over a row's labels (`average="samples"`, then the mean over rows), over the rows for each label (`"macro"`,
    then the mean over labels) or over all cells (`"micro"`). τ is `threshold_logits` (labels,) where thresholds are
    learned and 0 elsewhere. `"macro"` and `"micro"` are taken over the rows of the `scope` (see `RatioTerm`): the mean
    of micro-batches is not the value of the batch (64 rows, 20 labels: 0.930 for the batch, 0.943 for 8 micro-batches
    of 8). `"samples"` is a sum over rows and needs no `scope` to be exact.

    Under `"macro"` a label without a positive among the summed rows has loss exactly 1 and gradient exactly 0. With 96
    labels, 1.75 per row, and batches of 16 rows that is 75 % of the labels, so `absent_labels="skip"` leaves them
    out of the mean; `"count"` keeps them in. The same holds under `"samples"` for a row without positives.
    """

    def statistics(logits: Tensor, targets: Tensor) -> Tensor:
        known, targets = _known(targets, logits)
        shifted = logits if threshold_logits is None else logits - threshold_logits.to(logits)
        p = torch.sigmoid(temperature * shifted) * known
        y = targets * known
        return torch.stack([p * y, p * (1 - y), (known - p) * y], dim=1)  # (batch, 3, labels)

    def f1(sums: Tensor) -> Tensor:  # (…, 3) → (…)
        tp, fp, fn = sums.unbind(-1)
        precision = tp / (tp + fp + epsilon)
        recall = tp / (tp + fn + epsilon)
        return 2 * precision * recall / (precision + recall + epsilon)

    def labelled(targets: Tensor) -> Tensor:
        return (targets != MISSING).any(-1).float()

    def rows(logits: Tensor, targets: Tensor) -> Tensor:
        return (1 - f1(statistics(logits, targets).sum(-1))) * labelled(targets)

    def macro(sums: Tensor) -> Tensor:  # (3, labels) → scalar
        losses = 1 - f1(sums.transpose(0, 1))
        if absent_labels == "count":
            return losses.mean()
        present = (sums[0] + sums[2] > 0).to(losses)
        return (losses * present).sum() / present.sum().clamp(min=1)

    if average == "samples":
        return [AdditiveTerm("soft_f1", 1.0, rows, labelled)]
    if average == "macro":
        return [RatioTerm("soft_f1", 1.0, statistics, macro, labelled, scope)]

    def all_cells(logits: Tensor, targets: Tensor) -> Tensor:
        return statistics(logits, targets).sum(-1)  # (batch, 3)

    return [RatioTerm("soft_f1", 1.0, all_cells, lambda sums: 1 - f1(sums), labelled, scope)]


def soft_f1_bce(
    head: HeadConfig,
    threshold_logits: Tensor | None = None,
    *,
    alpha: float = 0.15,
    average: str = "samples",
    scope: str = "micro_batch",
    temperature: float = 2.0,
    absent_labels: str = "skip",
    epsilon: float = 1e-8,
) -> list[Term]:
    """`α·soft_f1 + (1−α)·bce`; BCE on the raw logits (no τ, no temperature).

    Soft-F1 alone gives confident misses almost no gradient (9e-5 at logit −10, against 6e-2 for BCE): hence the mix.
    The defaults are those of the published WimBERT v0 model.
    """
    (f1_term,) = soft_f1(
        head,
        threshold_logits,
        average=average,
        scope=scope,
        temperature=temperature,
        absent_labels=absent_labels,
        epsilon=epsilon,
    )
    (bce_term,) = bce(head)
    return [replace(f1_term, weight=alpha), replace(bce_term, weight=1 - alpha)]


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "bce": bce,
    "focal": focal,
    "asymmetric": asymmetric,
    "soft_f1": soft_f1,
    "soft_f1_bce": soft_f1_bce,
}


def register_loss(name: str, loss: Loss, problem_type: str) -> None:
    """Register a custom loss under a name, for `HeadConfig(loss=name)`.

    Args:
        name: The name; a built-in loss cannot be replaced, a custom one can, for all models in use.
        loss: Function `(head, threshold_logits=None, **settings)` → terms with unique names. It is also called without
            `threshold_logits`, for its denominators. Its keyword-only arguments are the keys allowed in `loss_kwargs`.
        problem_type: `"single_label_classification"` or `"multi_label_classification"`, the kind of head it is for.

    Raises:
        ValueError: The name belongs to a built-in loss, or the problem type is unknown.

    Example:
        >>> import torch
        >>> from multihead_hf import AdditiveTerm, HeadConfig, register_loss
        >>> def squared_error(head, threshold_logits=None, *, scale=1.0):
        ...     def numerator(logits, targets):
        ...         return scale * ((torch.sigmoid(logits) - targets) ** 2 * (targets != -100)).sum(-1)
        ...
        ...     return [AdditiveTerm("squared_error", 1.0, numerator, lambda targets: (targets != -100).sum(-1))]
        >>> register_loss("squared_error", squared_error, "multi_label_classification")
        >>> head = HeadConfig(["roads", "noise"], "multi_label_classification", "squared_error", {"scale": 2.0})
        >>> head.loss
        'squared_error'
    """
    if name in BUILT_IN_LOSSES:
        raise ValueError(f"{name!r} is a built-in loss; give yours another name")
    one_of("problem_type", problem_type, PROBLEM_TYPES)
    LOSSES[name] = loss
    LOSS_SETTINGS[name] = (problem_type, loss_settings(loss))


def loss_settings(loss: Loss) -> tuple[str, ...]:
    """Return the keys that `loss_kwargs` may have for a loss: its keyword-only arguments."""
    parameters = inspect.signature(loss).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


def no_targets(head: HeadConfig, logits: Tensor) -> Tensor:
    """Return targets of rows (batch, labels) that are unlabelled for a head."""
    return torch.full_like(logits if head.multi_label else logits[:, 0].long(), MISSING)


def is_known(head: HeadConfig) -> bool:
    """Return whether a head's loss is known to this installation."""
    return head.loss_function is not None or head.loss in LOSSES


def loss_terms(name: str, head: HeadConfig, threshold_logits: Tensor | None = None) -> list[Term]:
    """Return the terms of the loss of head `name`.

    Raises:
        ValueError: The loss is not registered, needs weights that are not computed yet, or has two terms of the same
            name; the message names the head.
    """
    loss = head.loss_function or LOSSES.get(head.loss)
    if loss is None:
        raise ValueError(
            f"head {name!r}: its loss {head.loss!r} is unknown in this installation, so the head can predict but not "
            f"train.{near_names(head.loss, LOSSES)} Known: {', '.join(LOSSES)}; register yours with register_loss, "
            f"or pass it to MultiHeadTrainer(losses={{{name!r}: ...}})"
        )
    if (setting := head.unresolved) is not None:
        raise ValueError(
            f"head {name!r}: {setting}='balanced' is not computed yet; MultiHeadTrainer computes it from the "
            "training data before the first step. Outside of it, give the weights as numbers"
        )
    terms = loss(head, threshold_logits, **head.loss_kwargs)
    if len({term.name for term in terms}) < len(terms):
        raise ValueError(f"head {name!r}: two terms of its loss {head.loss!r} have the same name; names must be unique")
    return terms


def _cell_term(head: HeadConfig, name: str, cells: Callable[[Tensor, Tensor], Tensor]) -> AdditiveTerm:
    """Return a term over the known cells of a multi-label head, from the loss of each cell (batch, labels)."""

    def numerator(logits: Tensor, targets: Tensor) -> Tensor:
        known, targets = _known(targets, logits)
        weights = _numbers(head, "label_weights", logits)
        losses = cells(logits, targets) * known
        return (losses if weights is None else losses * weights).sum(-1)

    def denominator(targets: Tensor) -> Tensor:
        known = (targets != MISSING).float()
        weights = _numbers(head, "label_weights", known)
        return (known if weights is None else known * weights).sum(-1)

    return AdditiveTerm(name, 1.0, numerator, denominator)


def _known(targets: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return 1 in known cells and 0 elsewhere, and the targets with 0 elsewhere; (batch, labels) like `logits`."""
    known = targets != MISSING
    return known.to(logits), torch.where(known, targets, torch.zeros_like(targets)).to(logits)


def _numbers(head: HeadConfig, setting: str, like: Tensor) -> Tensor | None:
    values = getattr(head, setting)
    return None if values is None else torch.tensor(values, dtype=like.dtype, device=like.device)

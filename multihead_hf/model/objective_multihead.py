"""Losses of heads and the combined loss of an optimizer step, from the terms of the heads' losses.

This file travels with every saved model.

An optimizer step covers the rows of its micro-batches on all processes. A term's value is computed over all these rows,
and each micro-batch contributes a share of it: shares sum to the value, their gradients to its gradient, however the
rows are split. `StepTotals` holds what a micro-batch needs from the others.

Heads that differ only in their weights and targets are computed together: (heads, batch, …).
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .head_multihead import BUILT_IN_LOSSES, HeadConfig
from .losses_multihead import AdditiveTerm, RatioTerm, Term, loss_terms


class StepRatio(NamedTuple):
    """A ratio term over a whole step: its value, and the gradient with respect to the sums (…) of its statistics."""

    value: Tensor
    gradient: Tensor


class StepTotals(NamedTuple):
    """Totals of an optimizer step that each of its batches needs.

    Args:
        units: head → term → scalar, `batch_units` summed over the step's batches.
        batches: scalar, the number of batches.
        ratios: head → term → `StepRatio`, for the ratio terms over the step; empty in the pass that gathers their sums.
    """

    units: dict[str, dict[str, Tensor]]
    batches: Tensor
    ratios: dict[str, dict[str, StepRatio]]


@dataclass
class HeadLosses:
    """Losses of a batch; with `StepTotals` the batch's shares of the step's losses.

    Args:
        losses: head → scalar; an exact 0 that stays in the graph when nothing is labelled.
        terms: head → term → scalar, not weighted; empty for a head without targets.
        statistics: head → term → sums (…) over the batch's rows, of ratio terms over the step.
    """

    losses: dict[str, Tensor] = field(default_factory=dict)
    terms: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    statistics: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def head_losses(
    heads: Mapping[str, HeadConfig],
    logits: Mapping[str, Tensor],
    labels: Mapping[str, Tensor | None],
    thresholds: Mapping[str, Tensor | None] | None = None,
    step: StepTotals | None = None,
    sample_weight: Tensor | None = None,
) -> HeadLosses:
    """Return the losses of the heads in `logits`.

    Args:
        heads: At least the heads of `logits`.
        logits: Head → (batch, labels); losses of half-precision logits are computed in float32.
        labels: Head → targets, see losses_multihead.py; a head may be missing.
        thresholds: Head → learned thresholds (labels,) in logit space.
        step: Totals of the optimizer step; `None` if the step has this batch only.
        sample_weight: (batch,), multiplies each row's units in numerator and denominator.
    """
    result = HeadLosses()
    thresholds = thresholds or {}
    with_labels = [name for name in logits if labels.get(name) is not None]
    for names in _alike(heads, with_labels, thresholds):
        terms = loss_terms(names[0], heads[names[0]], thresholds.get(names[0]))
        stacked = torch.stack([in_float32(logits[name]) for name in names])  # (heads, batch, labels)
        targets = torch.stack([labels[name] for name in names]).to(stacked.device)  # type: ignore[misc]
        _add_group(result, names, terms, stacked, targets, step, sample_weight)
    for name in logits:
        if name not in result.losses:
            result.losses[name], result.terms[name] = in_float32(logits[name]).sum() * 0.0, {}
    # in the order of the heads, not of the groups
    result.losses = {name: result.losses[name] for name in logits}
    result.terms = {name: result.terms[name] for name in logits}
    return result


def batch_units(
    heads: Mapping[str, HeadConfig], labels: Mapping[str, Tensor | None], sample_weight: Tensor | None = None
) -> dict[str, dict[str, Tensor]]:
    """Return the units of one batch, as head → term → units, for the heads that have targets in it.

    The units are the (weighted) sum of the denominators; for a ratio term they are 1, or 0 in an unlabelled batch.
    """
    units: dict[str, dict[str, Tensor]] = {}
    for names in _alike(heads, [name for name in heads if labels.get(name) is not None], {}):
        targets = torch.stack([labels[name] for name in names])  # type: ignore[misc]
        group_units = {
            term.name: _units(term, targets, sample_weight) for term in loss_terms(names[0], heads[names[0]])
        }
        for index, name in enumerate(names):
            units[name] = {term: values[index] for term, values in group_units.items()}
    return units


def step_ratio(term: RatioTerm, sums: Tensor, units: Tensor) -> StepRatio:
    """Return a ratio term over the step from the sums (…) of its statistics; 0 when nothing is labelled."""
    with torch.enable_grad():
        sums = sums.detach().requires_grad_()
        value = _value(term, sums, units > 0)
        (gradient,) = torch.autograd.grad(value, sums)
    return StepRatio(value.detach(), gradient)


def combined_loss(heads: Mapping[str, HeadConfig], losses: Mapping[str, Tensor]) -> Tensor:
    """Return `Σ λ·L / Σ λ` over the given heads, labelled in this step or not."""
    weights = [heads[name].loss_weight for name in losses]
    total = sum(weights) or 1.0
    values = torch.stack(list(losses.values()))  # (heads,)
    return (values * values.new_tensor([weight / total for weight in weights])).sum()


# ---- heads computed together ----


def _alike(
    heads: Mapping[str, HeadConfig], names: Iterable[str], thresholds: Mapping[str, Tensor | None]
) -> list[list[str]]:
    """Group heads that have the same loss and number of labels.

    A head with learned thresholds or a custom loss stays alone, because its loss may depend on more than that.
    """
    groups: dict[Hashable, list[str]] = {}
    for name in names:
        head = heads[name]
        key: Hashable = (name,)
        if head.loss in BUILT_IN_LOSSES and thresholds.get(name) is None:
            weights = [None if values is None else tuple(values) for values in (head.label_weights, head.pos_weight)]
            key = (head.loss, *sorted(head.loss_kwargs.items()), *weights, head.num_labels)
        groups.setdefault(key, []).append(name)
    return list(groups.values())


def _add_group(
    result: HeadLosses,
    names: list[str],
    terms: list[Term],
    logits: Tensor,
    targets: Tensor,
    step: StepTotals | None,
    sample_weight: Tensor | None,
) -> None:
    """Add the losses of heads with the same terms: logits (heads, batch, labels), targets (heads, batch[, labels])."""
    if targets.is_floating_point():
        targets = targets.to(logits)
    rows, row_targets = logits.flatten(0, 1), targets.flatten(0, 1)
    totals = logits.flatten(1).sum(1) * 0.0  # (heads,)
    parts: dict[str, Tensor] = {}
    for term in terms:
        if step is None:
            units = _units(term, targets, sample_weight).to(logits)
        else:
            units = torch.stack([step.units[name][term.name] for name in names]).to(logits)
        divisor = torch.where(units > 0, units, torch.ones_like(units))
        if isinstance(term, AdditiveTerm):
            part = _sum_rows(term.numerator(rows, row_targets), len(names), sample_weight) * (units > 0) / divisor
        else:
            sums = _sum_rows(term.statistics(rows, row_targets), len(names), sample_weight)  # (heads, …)
            if step is not None and term.scope == "step":
                for name, head_sums in zip(names, sums, strict=True):
                    result.statistics.setdefault(name, {})[term.name] = head_sums.detach()
                part = _shares_of_ratios(sums, names, term.name, step)
            else:
                present = _units(term, targets, sample_weight) > 0
                part = torch.stack([_value(term, *pair) for pair in zip(sums, present, strict=True)]) / divisor
        parts[term.name] = part
        totals = totals + term.weight * part
    for index, name in enumerate(names):
        result.losses[name] = totals[index]
        result.terms[name] = {term: values[index] for term, values in parts.items()}


def _shares_of_ratios(sums: Tensor, names: list[str], term: str, step: StepTotals) -> Tensor:
    """Return values of shape (heads,) whose sum over the step's batches is the ratio.

    Their gradients sum to the gradient of the ratio: ∂value/∂z = Σ_k ∂value/∂S_k · ∂S_k/∂z, with the S_k of the whole
    step.
    """
    if not step.ratios:
        return sums.flatten(1).sum(1) * 0.0
    ratios = [step.ratios[name][term] for name in names]
    gradients = torch.stack([ratio.gradient for ratio in ratios]).to(sums)  # (heads, …)
    shares = torch.stack([ratio.value for ratio in ratios]).to(sums) / step.batches.to(sums)
    linear = (sums * gradients).flatten(1).sum(1)
    return linear - linear.detach() + shares


def _value(term: RatioTerm, sums: Tensor, present: Tensor) -> Tensor:
    """Return the value of a ratio, or 0 without a gradient if nothing is labelled (it could be 0/0)."""
    return torch.where(present, term.value(torch.where(present, sums, torch.ones_like(sums))), 0.0)


def _units(term: Term, targets: Tensor, sample_weight: Tensor | None) -> Tensor:
    """Return the divisors (heads,) of a term's sums, from the targets (heads, batch[, labels])."""
    units = _sum_rows(term.denominator(targets.flatten(0, 1)), len(targets), sample_weight)
    return units if isinstance(term, AdditiveTerm) else (units > 0).float()


def _sum_rows(values: Tensor, heads: int, sample_weight: Tensor | None) -> Tensor:
    """Sum (heads · batch, …) to (heads, …), weighted by row."""
    values = values.unflatten(0, (heads, -1))
    if sample_weight is not None:
        values = values * sample_weight.to(values.device).view(-1, *[1] * (values.dim() - 2))
    return values.sum(1)


def in_float32(logits: Tensor) -> Tensor:
    """Return tensors in float32, or in a wider type if they have one."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))

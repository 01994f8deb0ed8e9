"""Loss normalisation across the micro-batches and processes of one optimizer step."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from accelerate import Accelerator
from accelerate.utils import find_batch_size, find_device
from torch import Tensor

from ..evaluation.losses import wide_dtype
from ..model.head_multihead import HeadConfig
from ..model.losses_multihead import RatioTerm, loss_terms, no_targets
from ..model.modeling_multihead import MultiHeadOutput
from ..model.objective_multihead import StepRatio, StepTotals, batch_units, step_ratio

FirstPass: TypeAlias = Callable[[Mapping[str, Any], StepTotals], MultiHeadOutput]
"""Reads a micro-batch without gradients, with the totals of its step."""


def step_totals(
    heads: Mapping[str, HeadConfig], batches: list[Mapping[str, Any]], accelerator: Accelerator
) -> StepTotals:
    """Return every term's units and the number of batches of a step, summed over all processes in one reduction.

    Args:
        heads: the heads being trained.
        batches: this process's micro-batches, with `labels` and perhaps `sample_weight`; may be empty.
        accelerator: the accelerator that sums over the processes; the totals are on its device.
    """
    keys = [(name, term.name) for name, head in heads.items() for term in loss_terms(name, head)]
    totals = torch.zeros(len(keys) + 1, dtype=torch.float64)
    totals[-1] = len(batches)
    for batch in batches:
        units = batch_units(heads, batch.get("labels") or {}, batch.get("sample_weight"))
        # a custom collator may leave out heads
        indices = [index for index, (name, term) in enumerate(keys) if name in units]
        if indices:
            values = torch.stack([units[keys[index][0]][keys[index][1]] for index in indices])
            totals[indices] += values.cpu().double()
    totals = summed_over_processes(totals, accelerator)
    by_head: dict[str, dict[str, Tensor]] = {name: {} for name in heads}
    for (name, term), value in zip(keys, totals[:-1], strict=True):
        by_head[name][term] = value
    return StepTotals(by_head, totals[-1], {})


def summed_over_processes(values: Tensor, accelerator: Accelerator) -> Tensor:
    """Return sums over processes on the accelerator's device, in float64 if the device supports it."""
    values = values.to(accelerator.device, wide_dtype(accelerator.device))
    return accelerator.reduce(values, reduction="sum") if accelerator.num_processes > 1 else values


def leave_out_repeated_rows(batches: list[dict[str, Any]], accelerator: Accelerator) -> None:
    """Give weight 0 to the repeated rows that fill the last batches of an epoch.

    They give every process the same number of rows and were already trained on in this epoch.
    """
    state = accelerator.gradient_state
    if accelerator.num_processes == 1 or not batches or not state.end_of_dataloader or state.remainder <= 0:
        return
    last = batches[-1]
    rows = find_batch_size(last)
    positions = accelerator.process_index * rows + torch.arange(rows, device=find_device(last))
    weights = last.get("sample_weight")
    weights = torch.ones(rows, device=positions.device) if weights is None else weights
    last["sample_weight"] = weights * (positions < state.remainder).to(weights)


class OptimizerStep:
    """Totals of an optimizer step for each of its micro-batches."""

    def __init__(self) -> None:
        self._two_passes: TwoPasses | None = None
        self._heads: Mapping[str, HeadConfig] = {}

    def begin(self, heads: Mapping[str, HeadConfig], batches: list[Any], accelerator: Accelerator) -> StepTotals | None:
        """Return the totals of a new step, without ratios; `None` if the step has only one batch.

        Args:
            heads: the heads being trained.
            batches: the step's micro-batches on this process; all processes have the same number of them.
            accelerator: the accelerator that sums over the processes.
        """
        self._two_passes, self._heads = None, heads
        if not batches or (accelerator.num_processes == 1 and len(batches) == 1):
            return None
        totals = step_totals(heads, batches, accelerator)
        if TwoPasses.needed(heads):
            self._two_passes = TwoPasses(batches, totals)
        return totals

    @property
    def has_two_passes(self) -> bool:
        """Whether all micro-batches need a first pass before the first backward pass."""
        return self._two_passes is not None

    def of_next_batch(self, forward: FirstPass, accelerator: Accelerator) -> StepTotals:
        """Return the totals with ratios for the next micro-batch of a step with two passes.

        Args:
            forward: (batch, totals) → the model's output, without gradients.
            accelerator: as for `begin`.
        """
        assert self._two_passes is not None
        return self._two_passes.totals_of_next_batch(self._heads, forward, accelerator)


class TwoPasses:
    """Two passes over the batches of an optimizer step, for ratio terms with step scope.

    Such terms need the statistics of all batches before the first backward pass: a first pass without gradients
    collects them, and the second pass draws the same random numbers (dropout) as the first.

    Args:
        batches: Micro-batches of the step on this process.
        totals: Totals of the step, without ratios.
    """

    def __init__(self, batches: list[Mapping[str, Any]], totals: StepTotals) -> None:
        self._batches = batches
        self._totals = totals
        self._states: list[list[Tensor]] = []
        self._next = 0

    @staticmethod
    def needed(heads: Mapping[str, HeadConfig]) -> bool:
        """Return whether a head has a ratio term with step scope."""
        return any(_step_terms(name, head) for name, head in heads.items())

    def totals_of_next_batch(
        self, heads: Mapping[str, HeadConfig], forward: FirstPass, accelerator: Accelerator
    ) -> StepTotals:
        """Return the step's totals with ratios, and restore the random state for the next batch.

        This is the random state before the first pass over the same batch.
        """
        if self._next == 0:
            self._run_first_pass(heads, forward, accelerator)
        _set_random_state(self._states[self._next], accelerator.device)
        self._next += 1
        return self._totals

    def _run_first_pass(self, heads: Mapping[str, HeadConfig], forward: FirstPass, accelerator: Accelerator) -> None:
        terms = {(name, term.name): term for name, head in heads.items() for term in _step_terms(name, head)}
        device = accelerator.device
        sums = {
            (name, key): torch.zeros(_shape(heads[name], term), dtype=wide_dtype(device), device=device)
            for (name, key), term in terms.items()
        }
        for batch in self._batches:
            self._states.append(_random_state(device))
            for name, statistics in (forward(batch, self._totals).loss_statistics or {}).items():
                for key, value in statistics.items():
                    sums[name, key] += value
        flat = summed_over_processes(torch.cat([value.flatten() for value in sums.values()]), accelerator)
        pieces = flat.split([value.numel() for value in sums.values()])
        ratios: dict[str, dict[str, StepRatio]] = {}
        for ((name, key), term), piece in zip(terms.items(), pieces, strict=True):
            units = self._totals.units[name][key]
            ratios.setdefault(name, {})[key] = step_ratio(term, piece.view(sums[name, key].shape), units)
        self._totals = self._totals._replace(ratios=ratios)


def _step_terms(name: str, head: HeadConfig) -> list[RatioTerm]:
    return [term for term in loss_terms(name, head) if isinstance(term, RatioTerm) and term.scope == "step"]


def _shape(head: HeadConfig, term: RatioTerm) -> torch.Size:
    """Return the shape of a term's statistics, from a row without labels."""
    logits = torch.zeros(1, head.num_labels)
    return term.statistics(logits, no_targets(head, logits)).shape[1:]


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return states if device.type == "cpu" else [*states, torch.get_device_module(device).get_rng_state()]


def _set_random_state(states: list[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.get_device_module(device).set_rng_state(states[1])

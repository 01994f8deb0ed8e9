"""Learned weights of the heads' losses (`head_weighting="uncertainty"`)."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..model.modeling_multihead import MultiHeadModel, MultiHeadOutput
from ..model.objective_multihead import StepTotals, batch_units, combined_loss
from ..model.unwrapping import multi_head_model
from .checkpoints import load_head_weighting

if TYPE_CHECKING:
    from .trainer import MultiHeadTrainer

NAME = "log_variances"


class HeadWeights:
    """One log-variance per head, learned with the model.

    A trained parameter must belong to the model: the gradients of other parameters are not reduced over processes, not
    clipped and not set to zero. So it is registered on the model while `on_model` lasts, and a forward hook replaces
    the model's loss by the weighted loss; saved models and their code contain neither.

    Args:
        model: The model that will be trained.
        start: Head → initial log-variance, 0 for a head that is not named.
    """

    def __init__(self, model: MultiHeadModel, start: Mapping[str, float]) -> None:
        self._make(model, start)

    def _make(self, model: MultiHeadModel, values: Mapping[str, float]) -> None:
        weight = next(model.heads.parameters())
        # (float32: their gradient starts near 0 and would vanish in half precision)
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.heads = list(model.config.heads)
        initial = [values.get(name, 0.0) for name in self.heads]
        self.log_variances = nn.Parameter(torch.tensor(initial, device=weight.device, dtype=dtype))

    def values(self) -> dict[str, float]:
        """Return head → log-variance."""
        return dict(zip(self.heads, self.log_variances.tolist(), strict=True))

    @contextlib.contextmanager
    def on_model(self, model: nn.Module) -> Iterator[None]:
        """Register the parameter on a model, which PEFT may wrap, until exit.

        Heads that were added to the model since then start from 0.
        """
        base = multi_head_model(model)
        if self.heads != list(base.config.heads):
            self._make(base, self.values())
        self.log_variances.data = self.log_variances.data.to(next(base.heads.parameters()).device)
        model.register_parameter(NAME, self.log_variances)
        # neither saved with the weights nor reported as missing on loading
        ignored = base._keys_to_ignore_on_save
        base._keys_to_ignore_on_save = {*(ignored or ()), NAME}
        hook = model.register_forward_hook(self._weigh, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()
            base._keys_to_ignore_on_save = ignored
            delattr(model, NAME)

    def _weigh(
        self, model: nn.Module, args: tuple[Any, ...], inputs: Mapping[str, Any], output: MultiHeadOutput
    ) -> None:
        if output.losses is None:
            return
        heads = multi_head_model(model).config.heads
        step: StepTotals | None = inputs.get("num_items_in_batch")
        units = batch_units(heads, inputs["labels"], inputs.get("sample_weight")) if step is None else step.units
        labelled = {name: torch.stack(list(terms.values())).any() for name, terms in units.items()}
        weights = dict(zip(self.heads, getattr(model, NAME), strict=True))
        batches = 1.0 if step is None else step.batches
        output.loss = combined_loss(heads, uncertain_losses(output.losses, weights, labelled, batches))


class HeadWeightsCallback(TrainerCallback):
    """Reads the learned head weights of a checkpoint when a run resumes, and those of the best one when it ends.

    Args:
        trainer: A `MultiHeadTrainer`.
    """

    def __init__(self, trainer: "MultiHeadTrainer") -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Load the head weights of the checkpoint that the run is resumed from."""
        self._load(self._trainer.resumed_from)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Copy learned thresholds into the configuration, and load the head weights of the best checkpoint."""
        multi_head_model(self._trainer.model).sync_thresholds()
        self._load(state.best_model_checkpoint if args.load_best_model_at_end else None)

    def _load(self, folder: str | None) -> None:
        weights: HeadWeights | None = self._trainer.head_weights
        if weights is not None and folder is not None:
            load_head_weighting(folder, weights.log_variances)


def uncertain_losses(
    losses: Mapping[str, Tensor],
    log_variances: Mapping[str, Tensor],
    labelled: Mapping[str, Tensor],
    batches: Tensor | float = 1.0,
) -> dict[str, Tensor]:
    """Return `exp(−s)·L + s/2` for each loss `L` and its log-variance s = log σ².

    This is the uncertainty weighting of Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh
    Losses", CVPR 2018, for classification.

    Args:
        losses: Head → scalar; its share of the step's loss if a step has several batches.
        log_variances: Head → scalar.
        labelled: Head → whether the step has a label of the head; a head that is missing or has none adds no `s/2`.
        batches: Number of batches of the step; every batch adds an equal share of `s/2`.

    Returns:
        Head → scalar.
    """
    values = torch.stack(list(losses.values()))  # (heads,)
    s = torch.stack([log_variances[name] for name in losses]).to(values)
    present = torch.stack([labelled.get(name, torch.zeros((), dtype=torch.bool)).to(values) for name in losses])
    weighted = torch.exp(-s) * values + present * s / (2 * batches)
    return dict(zip(losses, weighted, strict=True))

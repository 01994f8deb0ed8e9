"""Additional values of a training log, beside the combined loss."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy
from transformers.utils import logging

from ..data.counting import can_be_counted
from ..model.losses_multihead import loss_terms
from ..model.modeling_multihead import MultiHeadOutput
from ..model.unwrapping import multi_head_model
from .gradients import gradient_norms

if TYPE_CHECKING:
    from .trainer import MultiHeadTrainer

logger = logging.get_logger(__name__)


class StepLog(TrainerCallback):
    """Losses, gradient norms and learning rates for the log.

    The loss of each head and, if it has several terms, each term are averaged from one log to the next; gradient norms
    and learning rates are from the newest step.

    Args:
        trainer: A `MultiHeadTrainer`.
    """

    def __init__(self, trainer: "MultiHeadTrainer") -> None:
        self._trainer = trainer
        self._keys: list[tuple[str, str | None]] = []  # head and term; the term `None` is the whole loss
        self._sums = torch.zeros(0)
        self._steps = 0
        self._rates: dict[str, float] = {}
        self._norms: dict[str, Tensor] = {}
        self._without_loss: set[str] = set()
        self._not_finite: set[str] = set()
        self._has_noted = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start new sums for the heads that are trained."""
        # (also when a run restarts with a smaller batch)
        terms = {name: loss_terms(name, head) for name, head in self._trainer.trained_heads.items()}
        self._keys = [(name, None) for name in terms]
        self._without_loss, self._has_noted = set(terms), False
        self._not_finite = set()
        self._keys += [
            (name, term.name) for name, head_terms in terms.items() for term in head_terms if len(head_terms) > 1
        ]
        self._sums, self._steps, self._norms = torch.zeros(len(self._keys), device=args.device), 0, {}

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Compute the gradient norms if the step may be logged."""
        # FSDP and DeepSpeed shard gradients or do not expose them
        is_unsharded = not self._trainer.is_fsdp_enabled and not self._trainer.is_deepspeed_enabled
        self._norms = {}
        if is_unsharded and _may_be_logged(args, state, state.global_step + 1):
            self._norms = gradient_norms(multi_head_model(self._trainer.model))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Warn about heads without a label in rows that were not counted before training."""
        sums = self._sums.tolist()  # since the last log
        self._strike_off(sums)
        self._check_finite(sums)
        heads = multi_head_model(self._trainer.model).config.heads
        names = sorted(name for name in self._without_loss if heads[name].loss_weight)
        is_counted = can_be_counted(self._trainer.train_dataset)
        if names and self._has_noted and not is_counted and state.is_world_process_zero:
            logger.warning(
                "train_dataset: no row that was read had a label with a weight for the heads "
                f"{names}, so they have learned nothing"
            )

    def _strike_off(self, sums: Sequence[float]) -> None:
        self._without_loss -= {head for (head, term), value in zip(self._keys, sums, strict=True) if not term and value}

    def _check_finite(self, values: Sequence[float]) -> None:
        """Warn once about losses that are not finite."""
        broken = [head for (head, term), value in zip(self._keys, values, strict=True) if not math.isfinite(value)]
        names = sorted({*broken} - self._not_finite)
        self._not_finite.update(names)
        if names and self._trainer.is_world_process_zero():
            logger.warning(
                f"step {self._trainer.state.global_step:,}: the training losses of the heads {names} are not finite "
                "(NaN or infinite), so the model may be broken: start again from finite weights, with a lower "
                "learning_rate or head_learning_rate, and with bf16 or float32 instead of fp16"
            )

    def count_step(self) -> None:
        """Count an optimizer step."""
        self._steps += 1

    def note(self, output: MultiHeadOutput) -> None:
        """Add the losses of a batch, which are its shares of the step's losses."""
        groups = self._trainer.optimizer.param_groups
        self._rates = {f"learning_rate_{group['name']}": float(group["lr"]) for group in groups if "name" in group}
        self._has_noted = True
        losses, terms = output.losses or {}, output.loss_terms or {}
        none = self._sums.new_zeros(())  # a custom collator may leave out heads
        values = [losses.get(head, none) if term is None else terms[head].get(term, none) for head, term in self._keys]
        self._sums = self._sums + torch.stack(values).detach().float()

    def take(self, logs: Mapping[str, float]) -> dict[str, float]:
        """Return the additional values for a log of the loss, and reset the sums."""
        if "loss" not in logs or not self._steps:
            return {}
        trainer = self._trainer
        # the Trainer resets its sum of losses by subtraction, after which one that is not finite would stay so
        trainer._tr_loss.nan_to_num_(0.0, 0.0, 0.0)
        # each process holds its share of the step
        sums = self._sums if trainer.args.world_size == 1 else trainer.accelerator.reduce(self._sums, reduction="sum")
        names = [f"{head}_{'loss' if term is None else term}" for head, term in self._keys]
        means = (sums / self._steps).tolist()
        values = dict(zip(names, means, strict=True))
        self._strike_off(means)
        self._check_finite(means)
        self._sums, self._steps = torch.zeros_like(sums), 0
        weights = {} if trainer.head_weights is None else trainer.head_weights.values()
        return {
            **values,
            **self._rates,
            **self._norms_before_clipping(logs),
            **learned_thresholds(trainer.model),
            **{f"{name}_log_variance": value for name, value in weights.items()},
        }

    def _norms_before_clipping(self, logs: Mapping[str, float]) -> dict[str, float]:
        total, limit = logs.get("grad_norm"), self._trainer.args.max_grad_norm
        scale = 1.0 if total is None or limit <= 0 else max((total + 1e-6) / limit, 1.0)
        return {key: float(norm) * scale for key, norm in self._norms.items()}


def _may_be_logged(args: TrainingArguments, state: TrainerState, step: int) -> bool:
    """Return whether a step may be logged, as far as this is known before the step ends."""
    if args.logging_strategy != IntervalStrategy.STEPS:
        return args.logging_strategy == IntervalStrategy.EPOCH
    return step % state.logging_steps == 0 or (step == 1 and args.logging_first_step)


def learned_thresholds(model: nn.Module) -> dict[str, float]:
    """Return mean, lowest and highest threshold of each head that learns them."""
    base = multi_head_model(model)
    base.sync_thresholds()
    statistics = {}
    for name, head in base.config.heads.items():
        if head.learn_thresholds is not None and head.thresholds is not None:
            values = head.thresholds
            statistics[f"{name}_threshold_mean"] = sum(values) / len(values)
            statistics[f"{name}_threshold_min"] = min(values)
            statistics[f"{name}_threshold_max"] = max(values)
    return statistics

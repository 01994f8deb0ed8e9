"""Automatic choice of settings that the arguments leave open."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..data.rows_like import PreparedRows
from ..model.layers_multihead import module_key
from ..model.modeling_multihead import MultiHeadModel
from ..model.unwrapping import multi_head_model
from .arguments import MultiHeadTrainingArguments
from .constant_loss import Constant, best_constants
from .defaults import (
    RunLength,
    feature_size,
    filled_in,
    fresh_head_rate,
    heads_in,
    is_fresh,
    run_length,
    trains_encoder,
)


class OpenChoices:
    """The best constant predictions, the learning rates of new heads, and messages about these choices.

    Args:
        given: The arguments as the user gave them.
    """

    def __init__(self, given: MultiHeadTrainingArguments) -> None:
        self.given = given
        self._constants: dict[str, Constant] | None = None
        self._rate: float | None = None  # the chosen learning rate
        self.length: RunLength | None = None  # `None` before the epochs are chosen
        self.head_rates: dict[str, float] | None = None  # module key → rate; `None` before they are measured

    def forget_constants(self) -> None:
        """Discard the constants, because the heads' losses or the rows have changed."""
        self._constants = None

    def constants(self, model: MultiHeadModel, rows: PreparedRows | None) -> dict[str, Constant]:
        """Return head → its best constant prediction on the training rows; empty without training rows."""
        if self._constants is None:
            self._constants = {} if rows is None else best_constants(rows, model.config.heads)
        return self._constants

    def measure_head_rates(
        self,
        model: nn.Module,
        rows: PreparedRows | None,
        args: MultiHeadTrainingArguments,
        collate: Callable[[Any], Any],
        adam_like: bool,
    ) -> dict[str, float]:
        """Measure and keep the learning rates of new heads that the arguments leave open.

        If only heads are trained, `learning_rate` is their rate.

        Args:
            model: The model to be trained, perhaps wrapped by PEFT.
            rows: Prepared training rows.
            args: Arguments of the run.
            collate: Function that makes a batch of rows.
            adam_like: As `moves_like_adam`.

        Returns:
            Module key of a head → learning rate.
        """
        base = multi_head_model(model)
        fresh = [name for name, head in heads_in(model, base.config.heads) if is_fresh(head)]
        is_chosen = args.head_learning_rate is not None or (not trains_encoder(base) and not self.chose_rate(args))
        self.head_rates = {}
        if fresh and rows is not None and adam_like and not is_chosen:
            size = feature_size(base, rows, collate)
            rates = {name: fresh_head_rate(base.config.heads[name].architecture, size) for name in fresh}
            self.head_rates = {module_key(name): max(rate, args.learning_rate or 0.0) for name, rate in rates.items()}
        return self.head_rates

    def filled_in(
        self, args: MultiHeadTrainingArguments, model: MultiHeadModel, rows: PreparedRows | None
    ) -> MultiHeadTrainingArguments:
        """Return the arguments, or a copy with the learning rate and the epochs that they leave open."""
        on_cpu = args.use_cpu or not torch.accelerator.is_available()
        if args.bf16 and on_cpu and any(weight.dtype == torch.float16 for weight in model.parameters()):
            # (a frozen encoder, whose layer norms fail on a CPU if weights and inputs are of the two types)
            args = copy.copy(args)
            args.bf16, args.mixed_precision = False, "no"
        names = args.train_heads or list(model.config.heads)
        trained = {name: head for name, head in model.config.heads.items() if name in names}
        self.length = run_length(trained, trains_encoder(model))
        filled = filled_in(args, model, rows, self.length)
        if args.learning_rate is None:
            self._rate = filled.learning_rate
        return filled

    def resume_rate(self, args: MultiHeadTrainingArguments, rate: float | None) -> None:
        """Take the learning rate of a resumed run, which its optimizer and scheduler have, in place of a chosen one."""
        if rate is not None and self.chose_rate(args):
            args.learning_rate = self._rate = rate

    def told(self, model: MultiHeadModel, args: MultiHeadTrainingArguments, adam_like: bool) -> list[str]:
        """Return messages about the chosen settings and how to set them; empty if no setting was left open."""
        choices = []
        if self.chose_rate(args) and self.given.encoder_learning_rate is None and trains_encoder(model):
            choices.append(f"learning_rate {args.learning_rate:g} (by the encoder's width and the number of steps)")
        if self.head_rates:
            rates = ", ".join(f"{rate:g}" for rate in sorted(set(self.head_rates.values())))
            choices.append(f"head_learning_rate {rates} (by the size of the encoder's features)")
        if self.length is not None and self.given.num_train_epochs is None and args.max_steps <= 0:
            choices.append(f"num_train_epochs {args.num_train_epochs:g} ({self.length})")
        notes = [f"chosen automatically: {', '.join(choices)}"] if choices else []
        if args.head_learning_rate is None and not adam_like:
            notes.append(
                "the heads have the learning_rate of the encoder, as no better rate is known for this optimizer "
                f"({args.optim.value}): set head_learning_rate if they learn too slowly"
            )
        return notes

    def chose_rate(self, args: MultiHeadTrainingArguments) -> bool:
        """Return whether `learning_rate` was left open, and still has the value that was chosen."""
        return self._rate is not None and args.learning_rate == self._rate


def moves_like_adam(args: MultiHeadTrainingArguments, optimizer: tuple[Any, Any] | None) -> bool:
    """Return whether the optimizer changes a weight by about the learning rate, whatever the gradient's size.

    Args:
        args: Arguments of the run.
        optimizer: The Trainer's `optimizer_cls_and_kwargs`.
    """
    factory = None if optimizer is None else getattr(optimizer[0], "func", optimizer[0])  # also for a functools.partial
    name = str(args.optim.value) if factory is None else str(getattr(factory, "__name__", factory))
    return any(kind in name.lower() for kind in ("ada", "ademamix", "lion", "rmsprop"))

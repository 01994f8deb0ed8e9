"""Defaults of settings that the arguments leave open: learning rates, epochs, and loss weighting."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..data.rows_like import PreparedRows, has_length
from ..model.head_multihead import HeadConfig, is_a
from ..model.layers_multihead import ClassificationHead, Windows, module_key
from ..model.modeling_multihead import MultiHeadModel
from ..model.modes_multihead import evaluating
from .arguments import MultiHeadTrainingArguments

_STEPS, _STEPS_OF_SINGLE_LABELS, _FEW_STEPS = 1_000, 500, 100
_LEAST_EPOCHS, _MOST_EPOCHS, _MOST_WITH_ENCODER = 3, 20, 10
_RATE_BY_AREA, _HIGHEST_RATE = 44.0, 1e-3
# number of optimizer steps up to which the encoder has its full rate, and from which on it has a third of it
_SHORT_RUN, _LONG_RUN = 500, 1_500
# maximum change of a logit, or of a hidden unit of an mlp head, in one optimizer step
_STEP_OF_A_LOGIT = {"linear": 2.0, "mlp": 0.4}
_ROWS_MEASURED = 16


class RunLength(NamedTuple):
    """Length of a run whose number of epochs is left open.

    Args:
        steps: Optimizer steps that the run has at least, if the number of epochs allows it.
        epochs: Maximum number of epochs for that; up to 20 where they are fewer than 100 steps.
    """

    steps: int
    epochs: int

    def epochs_for(self, rows: int | None, rows_of_a_step: int) -> int:
        """Return the number of epochs, at least 3; 3 for an unknown number of rows."""
        if not rows:
            return _LEAST_EPOCHS
        steps = math.ceil(rows / rows_of_a_step)  # of one epoch
        most = max(self.epochs, min(math.ceil(_FEW_STEPS / steps), _MOST_EPOCHS))
        return min(max(math.ceil(self.steps / steps), _LEAST_EPOCHS), most)

    def __str__(self) -> str:
        few = f", or up to {_MOST_EPOCHS} with few rows" if self.epochs < _MOST_EPOCHS else ""
        return f"for {self.steps:,} steps, in {_LEAST_EPOCHS} to {self.epochs} epochs{few}"


def filled_in(
    args: MultiHeadTrainingArguments, model: MultiHeadModel, rows: PreparedRows | None, length: RunLength
) -> MultiHeadTrainingArguments:
    """Return the arguments, or a copy with the learning rate and the epochs that they leave open.

    Args:
        args: The arguments, which are not changed.
        model: The model to be trained.
        rows: The prepared training rows, or `None`.
        length: Length of the run, as `run_length`.
    """
    if args.learning_rate is not None and args.num_train_epochs is not None:
        return args
    args = copy.copy(args)
    count = len(rows) if has_length(rows) else None
    rows_of_a_step = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
    if args.num_train_epochs is None:
        args.num_train_epochs = float(length.epochs_for(count, rows_of_a_step))
    if args.learning_rate is None:
        steps = args.max_steps if args.max_steps > 0 else args.num_train_epochs * (count or 0) / rows_of_a_step
        args.learning_rate = encoder_rate(model.config.hidden_size, steps)
    return args


def trains_encoder(model: MultiHeadModel) -> bool:
    """Return whether a weight of the encoder is trained."""
    return any(parameter.requires_grad for parameter in model.encoder.parameters())


def run_length(heads: Mapping[str, HeadConfig], encoder_trained: bool) -> RunLength:
    """Return the length of a run: 1,000 steps, or 500 where they are enough, in at most 10 epochs, or 20.

    500 steps are enough where an encoder is trained with single-label heads only (benchmarks/README.md: from 500 to
    1,000 steps no such score rose by more than chance, but the macro F1 of multi-label heads with rare labels did).
    From 150 and from 500 rows an encoder learned as much in 10 and 8 epochs as in 20 (ibid.); a head on a frozen
    encoder needs more.
    """
    if not encoder_trained:
        return RunLength(_STEPS, _MOST_EPOCHS)
    single = not any(head.multi_label for head in heads.values())
    return RunLength(_STEPS_OF_SINGLE_LABELS if single else _STEPS, _MOST_WITH_ENCODER)


def encoder_rate(width: int, steps: float) -> float:
    """Return the peak learning rate of an encoder, to two digits: 44 / width², at most 1e-3, and less in long runs.

    Narrow encoders also have few layers and need far higher rates than wide ones. The rule gives 3e-4 (measured) for 6
    layers of width 384, and the usual rates for 12 layers of width 768 and 24 layers of width 1,024. From 500 steps on
    it is divided by steps / 500, and by 3 from 1,500 steps on (benchmarks/README.md: in some 300 steps every score of
    three heads was 0.02 to 0.06 higher with 3e-4 than with 1e-4, and in 1,700 steps none was).

    Args:
        width: Hidden size of the encoder.
        steps: Number of optimizer steps of the run; 0 if it is unknown.
    """
    long = min(max(steps, _SHORT_RUN), _LONG_RUN) / _SHORT_RUN
    return float(f"{min(_RATE_BY_AREA / width**2 / long, _HIGHEST_RATE):.1e}")


def fresh_head_rate(architecture: str, size: float) -> float:
    """Return the peak learning rate of a new head, to two digits.

    Adam changes each weight by about the learning rate, and so a logit by up to `rate · Σ|x|`. The rate is chosen so
    that this step is the same for features of any width and size.

    Args:
        architecture: `"linear"` or `"mlp"`.
        size: Mean of `Σ|x|` over the features x of some texts.
    """
    return float(f"{min(_STEP_OF_A_LOGIT[architecture] / max(size, 1e-6), 0.1):.1e}")


@torch.no_grad()
def feature_size(
    model: MultiHeadModel, rows: PreparedRows, collate: Callable[[Sequence[Any]], Mapping[str, Any]]
) -> float:
    """Return the mean of `Σ|x|` over the pooled features x of evenly spaced training rows, or a stream's first 16.

    Args:
        model: Model with the encoder; its mode and the random state are not changed.
        rows: Prepared rows.
        collate: Function that makes a batch of rows.
    """
    if has_length(rows):
        count = min(len(rows), _ROWS_MEASURED)
        sample = [rows[index * len(rows) // count] for index in range(count)]
    else:
        sample = list(islice(iter(rows), _ROWS_MEASURED))
    batch = collate(sample)
    if "features" in batch:
        return float(batch["features"].float().abs().sum(-1).mean())
    device = next(model.encoder.parameters()).device
    tokens: dict[str, Tensor | None] = {
        name: batch[name].to(device) for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch
    }
    if batch["input_ids"].dim() == 3:
        windows = Windows.of_tokens(batch["input_ids"], batch.get("attention_mask"), batch.get("window_mask"))
        tokens = {name: windows.flat(values) for name, values in tokens.items()}
    with evaluating(model):
        features = model.encode(**tokens)  # type: ignore[arg-type]
    return float(features.float().abs().sum(-1).mean())


def heads_in(model: nn.Module, heads: Mapping[str, HeadConfig]) -> Iterable[tuple[str, ClassificationHead]]:
    """Return name and module of each head; under PEFT's wrappers, also of the frozen originals."""
    names = {module_key(name): name for name in heads}
    for key, module in model.named_modules():
        if is_a(module, ClassificationHead):
            matches = [names[part] for part in key.split(".") if part in names]
            yield matches[-1], module


def never_trained(head: ClassificationHead) -> bool:
    """Return whether the weights of a head were initialised, and neither loaded nor trained since."""
    # (heads of a model saved by an older version may lack the attribute, and they were loaded)
    return getattr(head, "is_fresh", False)


def is_fresh(head: ClassificationHead) -> bool:
    """Return whether a head is trained now and was neither loaded nor trained before."""
    return never_trained(head) and any(parameter.requires_grad for parameter in head.parameters())


def mark_trained(model: nn.Module, heads: Mapping[str, HeadConfig]) -> None:
    """Mark the heads that have been trained as no longer fresh."""
    for _, head in heads_in(model, heads):
        if is_fresh(head):
            head.is_fresh = False

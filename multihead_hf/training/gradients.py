"""Gradients of the heads: their norms, and their cosines on the shared encoder."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..model.layers_multihead import module_key
from ..model.losses_multihead import MISSING
from ..model.modeling_multihead import MultiHeadModel
from ..model.unwrapping import multi_head_model

if TYPE_CHECKING:
    from .trainer import MultiHeadTrainer


def gradient_norms(model: MultiHeadModel) -> dict[str, Tensor]:
    """Return the gradient norms `grad_norm_encoder`, and `<head>_grad_norm` of each head that has gradients."""
    parts: dict[str, list[Tensor]] = {"grad_norm_encoder": [*_gradients(model.encoder.parameters())]}
    names = {module_key(name): name for name in model.config.heads}
    for path, parameter in model.heads.named_parameters():
        # anywhere in the path, because PEFT or the user may have wrapped the heads
        name = next((names[key] for key in path.split(".") if key in names), None)
        if name is not None:
            parts.setdefault(f"{name}_grad_norm", []).extend(_gradients([parameter]))
    return {key: torch.nn.utils.get_total_norm(gradients) for key, gradients in parts.items() if gradients}


def _gradients(parameters: Iterable[torch.nn.Parameter]) -> Iterable[Tensor]:
    return (parameter.grad for parameter in parameters if parameter.grad is not None)


class GradientCosineCallback(TrainerCallback):
    """Callback that logs the cosine between the encoder gradients of every two heads.

    The keys are `gradient_cosine_<head>_<head>`; below 0 a step for one head undoes a step for the other ([Yu et al.
    2020](https://arxiv.org/abs/2001.06782), "Gradient Surgery"). Training is not changed.

    The gradients are those of the heads' losses on `rows` training rows, drawn anew each time, without dropout; a head
    without a label among them is left out. One measurement takes as long as a batch of so many rows, and as much more
    memory as one copy of the encoder's trained parameters for each head.

    Args:
        trainer: The trainer whose model and training rows are used.
        every: Number of steps from one measurement to the next.
        rows: Number of training rows in one measurement.

    Raises:
        ValueError: A number is below 1, fewer than two heads are trained, or one process does not have all rows or
            parameters (a stream, FSDP, DeepSpeed).

    Example:
        >>> from transformers import AutoTokenizer
        >>> from multihead_hf import GradientCosineCallback, MultiHeadModel, MultiHeadTrainer, read_dataset
        >>> model, tokenizer = MultiHeadModel.from_pretrained("complaints"), AutoTokenizer.from_pretrained("complaints")
        >>> rows = read_dataset("complaints.csv")
        >>> trainer = MultiHeadTrainer(model, processing_class=tokenizer, train_dataset=rows)
        >>> callback = GradientCosineCallback(trainer, every=100, rows=40)
        >>> trainer.add_callback(callback)
        >>> list(callback.cosines(step=0))
        ['gradient_cosine_topics_mood']
    """

    def __init__(self, trainer: "MultiHeadTrainer", every: int = 100, rows: int = 64) -> None:
        for name, value in (("every", every), ("rows", rows)):
            if value < 1:
                raise ValueError(f"{name} is {value}: give a number of at least 1")
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            raise ValueError("gradient cosines need the whole model in each process: leave out FSDP and DeepSpeed")
        if isinstance(trainer.train_dataset, torch.utils.data.IterableDataset):
            raise ValueError(
                "gradient cosines need training rows that can be sampled: pass a dataset with a length, not a stream"
            )
        if trainer.args.cache_features:
            raise ValueError("cache_features freezes the encoder: the heads share no trained parameters")
        self._trainer, self._every, self._rows = trainer, every, rows

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Check that at least two heads train the encoder.

        Args:
            args: Arguments of the run.
            state: State of the Trainer.
            control: Control of the Trainer.
            **kwargs: Not used.

        Raises:
            ValueError: Fewer than two heads are trained, or the encoder is frozen.
        """
        heads = list(self._trainer.trained_heads)
        if len(heads) < 2:
            raise ValueError(f"gradient cosines compare two or more heads, but only {heads} is in training")
        if not self._shared():
            raise ValueError("the encoder is frozen: the heads share no trained parameters")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Log the cosines after every `every` steps.

        Args:
            args: Arguments of the run.
            state: State of the Trainer.
            control: Control of the Trainer.
            **kwargs: Not used.
        """
        if state.global_step % self._every == 0 and state.is_world_process_zero:
            due, cosines = control.should_log, self.cosines(state.global_step)
            if cosines:
                self._trainer.log(cosines)
                control.should_log = due  # `log` resets it

    def _shared(self) -> list[torch.nn.Parameter]:
        base = multi_head_model(self._trainer.model)
        return [parameter for parameter in base.encoder.parameters() if parameter.requires_grad]

    def cosines(self, step: int) -> dict[str, float]:
        """Measure the cosines now, on the rows that belong to a step.

        Args:
            step: The step, with which the rows are drawn.

        Returns:
            `gradient_cosine_<head>_<head>` → cosine, from −1 to 1; empty if fewer than two heads have labels in the
            rows.
        """
        trainer, base = self._trainer, multi_head_model(self._trainer.model)
        order = torch.Generator().manual_seed(trainer.args.seed + step)
        indices = torch.randperm(len(trainer.train_dataset), generator=order)[: self._rows].tolist()
        batch = trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[index] for index in indices]))
        names = [name for name in trainer.trained_heads if labelled(batch["labels"][name])]
        if len(names) < 2:
            return {}
        was_training = base.training
        base.eval()
        try:
            with trainer.compute_loss_context_manager():
                losses = base(**batch, heads=names, return_dict=True).losses
            scaler = trainer.accelerator.scaler  # half-precision gradients could vanish; a cosine has no scale
            gradients = {
                name: torch.autograd.grad(
                    losses[name] if scaler is None else scaler.scale(losses[name]),
                    self._shared(),
                    retain_graph=True,
                    allow_unused=True,
                )
                for name in names
            }
        finally:
            base.train(was_training)
        cosines = {}
        for one, other in combinations(names, 2):
            cosine = _cosine(gradients[one], gradients[other])
            if cosine is not None:
                cosines[f"gradient_cosine_{one}_{other}"] = cosine
        return cosines


def labelled(targets: Tensor) -> bool:
    """Return whether any row or cell has a label."""
    return bool((targets != MISSING).any())


def _cosine(one: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> float | None:
    """Return the cosine of two lists of gradients; `None` if one of them is zero or overflows."""
    pairs = [(a.double(), b.double()) for a, b in zip(one, other, strict=True) if a is not None and b is not None]
    product = sum(float((a * b).sum()) for a, b in pairs)
    squares = [
        sum(float(gradient.double().square().sum()) for gradient in gradients if gradient is not None)
        for gradients in (one, other)
    ]
    size = (squares[0] * squares[1]) ** 0.5
    return product / size if 0 < size < float("inf") else None

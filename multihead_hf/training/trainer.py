"""The Trainer for multi-head models: short hooks of `Trainer`, never its loop."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.trainer_utils import EvalPrediction, TrainOutput, get_last_checkpoint
from transformers.utils import logging

from ..data.collator import MultiHeadDataCollator
from ..data.counting import HeadCounts
from ..data.rows_like import RowsLike, has_length
from ..model.losses_multihead import Loss
from ..model.modeling_multihead import MultiHeadOutput
from ..model.objective_multihead import StepTotals
from ..model.unwrapping import multi_head_model
from ..publishing.card_callback import ModelCardCallback
from ..utils.files import naming_full_disk
from .arguments import MultiHeadTrainingArguments
from .checkpoints import check_same_heads, prepare_resume
from .checks import check_arguments, check_collator, check_extensions, warn_of_frozen_heads
from .choices import OpenChoices, moves_like_adam
from .console_choice import use_console
from .defaults import mark_trained
from .evaluation import EvaluationHooks, RunningEvaluation
from .features import check_frozen
from .freezing import check_trainable, freeze
from .head_weights import HeadWeights, HeadWeightsCallback
from .logs import StepLog
from .optimizer import is_outdated, with_groups
from .preparation import resolve_balanced, upcast_trainable, use_losses
from .publishing import PublishingHooks
from .run_data import RunData
from .search import SearchHooks
from .step import OptimizerStep, leave_out_repeated_rows

logger = logging.get_logger(__name__)


class MultiHeadTrainer(EvaluationHooks, PublishingHooks, SearchHooks):
    """`Trainer` for `MultiHeadModel`.

    It takes raw datasets or prepared ones (`prepare_dataset`), and saves folders that load without `multihead_hf`. The
    loss of an optimizer step does not depend on how its batch is split.

    Args:
        model: A `MultiHeadModel`, also wrapped by PEFT.
        args: `MultiHeadTrainingArguments`.
        data_collator: Default `MultiHeadDataCollator`.
        train_dataset: Raw or prepared rows, files, data frames or a dataset on the Hub (of several splits `train`), or
            a dict of several, each labelled for some heads, which are mixed (`mix_datasets`).
        eval_dataset: As `train_dataset`, of several splits `validation`; a dict of several is evaluated one by one.
        processing_class: The encoder's tokenizer.
        compute_metrics: Further metrics, `EvalPrediction` → dict; its keys override the library's.
        losses: Head → a custom loss (see `register_loss`) instead of the head's; its name is saved.
        callbacks, **kwargs: As for `Trainer`.

    Raises:
        ValueError: Data, labels or arguments cannot be trained on; nothing has been written then.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from multihead_hf import MultiHeadModel, MultiHeadTrainer
        >>> model, tokenizer = MultiHeadModel.from_pretrained("complaints"), AutoTokenizer.from_pretrained("complaints")
        >>> MultiHeadTrainer(model, processing_class=tokenizer, train_dataset="complaints.csv").train_dataset.num_rows
        40
    """

    # `compute_loss` divides by the denominators of the whole accumulated step; the Trainer must not divide again
    loss_is_scaled_for_ga = True
    optimizer: Any
    optimizer_cls_and_kwargs: Any

    def __init__(
        self,
        model: nn.Module | None = None,
        args: MultiHeadTrainingArguments | None = None,
        data_collator: Callable | None = None,
        train_dataset: RowsLike | None = None,
        eval_dataset: RowsLike | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: Callable[[EvalPrediction], dict] | None = None,
        losses: Mapping[str, Loss] | None = None,
        callbacks: list[Any] | None = None,
        **kwargs: Any,
    ) -> None:
        args = args if args is not None else MultiHeadTrainingArguments("tmp_trainer")
        check_arguments(args)
        check_extensions(args, data_collator, **kwargs)
        if processing_class is None and data_collator is None:
            raise ValueError("the default collator pads with the tokenizer: pass it as processing_class")
        self.raw_train_dataset = train_dataset  # as the user gave it: the linear baseline reads its texts
        self._data = RunData(processing_class, train_dataset, eval_dataset, compute_metrics is not None)
        self._losses = dict(losses or {})
        self._choices = OpenChoices(args)
        self._step = OptimizerStep()
        self._evaluation = RunningEvaluation()
        self._step_log = StepLog(self)
        self._card = ModelCardCallback(self, args.model_card)
        self._made_optimizer = False
        self.head_weights: HeadWeights | None = None
        self.resumed_from: str | None = None  # checkpoint that the run was resumed from
        self._while_training: contextlib.ExitStack | None = None
        if model is not None:  # else `Trainer.__init__` calls `model_init`: see `call_model_init`
            args = self._make_ready(model, args)
        ours = [self._step_log, self._card, HeadWeightsCallback(self)]  # before the user's, which may save the model
        super().__init__(
            model,
            args,
            data_collator,
            self._data.train,
            self._data.evaluation,
            processing_class,
            callbacks=[*ours, *(callbacks or [])],
            **kwargs,
        )
        use_console(self)
        self.train_dataset, self.eval_dataset = self._data.train, self._data.evaluation
        if args.cache_features and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ValueError("cache_features needs the whole encoder in each process: leave out FSDP and DeepSpeed")
        if data_collator is None:
            self.data_collator = MultiHeadDataCollator(processing_class, self.config)
        elif self._data.train is not None:
            check_collator(data_collator, self._data.train)
        # without the user's function, the base class keeps no predictions
        self.compute_metrics = None if compute_metrics is None else self._evaluation.noting_keys(compute_metrics)

    # ---- model and data ----

    def _make_ready(self, model: nn.Module, args: MultiHeadTrainingArguments) -> MultiHeadTrainingArguments:
        """Prepare data and model; return the arguments, or a copy with values for the settings left open."""
        base, self.head_weights = multi_head_model(model), None
        self._data.prepare(base.config, args)
        use_losses(base, self._losses)
        if self._data.train is not None:
            counts = self._data.label_counts(self._data.train, base.config.heads)
            resolve_balanced(base.config, self._data.train, counts)
            self._choices.forget_constants()
        freeze(base, args)
        if args.cache_features:
            check_frozen(base)
        upcast_trainable(model)
        warn_of_frozen_heads(model, base.config, args.train_heads or list(base.config.heads))
        if args.head_weighting == "uncertainty":
            # minimum of exp(−s)·L + s/2 for the loss of the best constant prediction
            constants = self._choices.constants(base, self._data.train)
            start = {name: math.log(2 * constant.loss) for name, constant in constants.items()}
            self.head_weights = HeadWeights(base, start)
            if self._while_training is not None:
                self._while_training.enter_context(self.head_weights.on_model(model))
        return self._choices.filled_in(args, base, self._data.train)

    def call_model_init(self, trial: object = None) -> nn.Module:
        """Make the model of a trial, and prepare the data and the arguments for it.

        Args:
            trial: As for `Trainer`.

        Returns:
            The model.
        """
        self._take_trial(trial)
        model = super().call_model_init(trial)
        self._take_arguments(self._make_ready(model, self.args))
        return model

    # ---- settings that the arguments leave open ----

    @property
    def label_counts(self) -> dict[str, HeadCounts] | None:
        """Head → counts of its labels in the training rows; `None` for a stream."""
        return self._data.label_counts(self.train_dataset, self.config.heads)

    @property
    def constant_losses(self) -> dict[str, float]:
        """Head → loss of the best constant prediction of the training rows; loss / this reads like 1 − R²."""
        constants = self._choices.constants(multi_head_model(self.model), self._data.train)
        return {name: constant.loss for name, constant in constants.items()}

    def chosen_settings(self) -> list[str]:
        """Describe the settings that were chosen for this run because the arguments leave them open.

        Returns:
            Sentences, none for an optimizer that was passed.
        """
        if not self._made_optimizer:
            return []  # the optimizer that was passed has its own rates
        adam_like = moves_like_adam(self.args, self.optimizer_cls_and_kwargs)
        return self._choices.told(multi_head_model(self.model), self.args, adam_like)

    def _measure_head_rates(self, model: nn.Module) -> dict[str, float]:
        adam_like = moves_like_adam(self.args, self.optimizer_cls_and_kwargs)
        return self._choices.measure_head_rates(model, self._data.train, self.args, self.data_collator, adam_like)

    # ---- loss ----

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """Draw the micro-batches of one optimizer step.

        Args:
            epoch_iterator: Batches of the epoch.
            num_batches: Number of micro-batches.
            device: Device of the training.

        Returns:
            The micro-batches, and the `StepTotals` of the step.
        """
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        leave_out_repeated_rows(batches, self.accelerator)
        if 0 < len(batches) < num_batches and not has_length(self.train_dataset):
            # the loop takes no step for them, and their gradients would leak into the first step of the next epoch
            logger.warning_once(
                f"the last {len(batches)} batches of the stream do not fill a step of {num_batches} and are left out"
            )
            batches = []
        if batches:
            self._step_log.count_step()
        return batches, self._step.begin(self.trained_heads, batches, self.accelerator)

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: StepTotals | None = None
    ) -> Tensor:
        """Run one micro-batch, as `Trainer.training_step`, after a first pass over the step if a loss needs it.

        Args:
            model: The model, perhaps in a wrapper.
            inputs: The micro-batch.
            num_items_in_batch: `StepTotals` of the step.

        Returns:
            This micro-batch's share of the loss of the step.
        """
        if self._step.has_two_passes:
            # not in `get_batch_samples`, which runs before a resumed run restores the random state, and which finds
            # the model in evaluation mode after an evaluation
            model.train()
            if callable(getattr(self.optimizer, "train", None)):  # schedule-free optimizers swap weights
                self.optimizer.train()
            num_items_in_batch = self._step.of_next_batch(functools.partial(self._first_pass, model), self.accelerator)
        return super().training_step(model, inputs, num_items_in_batch)

    def _first_pass(self, model: nn.Module, inputs: Mapping[str, Any], totals: StepTotals) -> MultiHeadOutput:
        with torch.no_grad(), self.compute_loss_context_manager():
            heads = list(self.trained_heads)
            batch = {**self._prepare_inputs(inputs), "heads": heads, "return_dict": True}
            return model(**batch, num_items_in_batch=totals)

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> None:
        """Count nothing: `get_batch_samples` counts for training, and evaluation batches are counted separately."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: StepTotals | None = None,
    ) -> Tensor | tuple[Tensor, MultiHeadOutput]:
        """Compute the combined loss of a batch, or its share of the loss of the optimizer step.

        Args:
            model: The model, perhaps in a wrapper.
            inputs: The batch.
            return_outputs: Whether to return the model's output too.
            num_items_in_batch: `StepTotals` of the step, for its share.

        Returns:
            The loss, or loss and `MultiHeadOutput`.

        Raises:
            ValueError: The batch has no labels.
        """
        if num_items_in_batch is not None:
            inputs = {**inputs, "num_items_in_batch": num_items_in_batch}
        if model.training:
            inputs = {**inputs, "heads": list(self.trained_heads)}
        outputs: MultiHeadOutput = model(**inputs)
        if outputs.loss is None:
            raise ValueError("the batch has no labels: rows need a `labels` dict, as prepare_dataset makes it")
        prior = self.args.head_weighting == "prior"
        loss = self._combine(outputs.losses or {}) if prior else outputs.loss
        if model.training:
            if self.is_in_train:
                self._step_log.note(outputs)
            if num_items_in_batch is not None:
                # DDP and FSDP average gradients over processes, but these losses are shares of one sum
                loss = loss * self.args.world_size
        return (loss, outputs) if return_outputs else loss

    def _combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Combine the heads' losses by `head_weighting`, except with learned weights."""
        base = multi_head_model(self.model)
        if self.args.head_weighting == "prior":
            constants = self.constant_losses
            losses = {name: loss / constants[name] if name in constants else loss for name, loss in losses.items()}
        return base.combine(losses)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log, as `Trainer.log`, with each head's loss, learning rates by group and learned thresholds.

        Args:
            logs: Values to log.
            start_time: As for `Trainer`.
        """
        super().log({**logs, **self._step_log.take(logs)}, start_time)

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        # a checkpoint stores absolute steps, which the base class compares with the arguments
        shares = {name: getattr(self.args, name) for name in ("logging_steps", "eval_steps", "save_steps")}
        steps = {name: math.ceil(max_steps * part) for name, part in shares.items() if part is not None and part < 1}
        with self._with_arguments(**steps):
            epochs, batches = super()._init_training_state(max_steps, *args, **kwargs)
        if self.state.global_step < max_steps:
            return epochs, batches
        # the base class checks `max_steps` only after a step, and would take one more step of a finished run
        return math.ceil(self.state.num_train_epochs), 0

    # ---- optimizer ----

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """Make the optimizer, with groups for encoder, heads and thresholds.

        Args:
            model: The model; by default the Trainer's.

        Returns:
            The optimizer.

        Raises:
            ValueError: All weights are frozen.
        """
        if self.optimizer is not None:
            return super().create_optimizer(model)
        self._made_optimizer = True
        target = self.model if model is None else model
        check_trainable(target, self.args)
        rates = self._choices.head_rates
        rates = self._measure_head_rates(target) if rates is None else rates
        original = self.optimizer_cls_and_kwargs
        kind = original if original is not None else self.get_optimizer_cls_and_kwargs(self.args, target)
        decayed = self.get_decay_parameter_names(target)
        self.optimizer_cls_and_kwargs = with_groups(kind, target, self.args, decayed, rates)
        try:
            return super().create_optimizer(model)
        finally:
            self.optimizer_cls_and_kwargs = original

    # ---- runs ----

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train the model, as `Trainer.train`.

        Args:
            resume_from_checkpoint: Folder of a checkpoint, or `True` for the newest one of the output folder.
            *args: As for `Trainer`.
            **kwargs: As for `Trainer`.

        Returns:
            The loss and the metrics of the training.

        Raises:
            ValueError: The checkpoint is incomplete or does not fit, or the heads changed; nothing was trained.
            OSError: A checkpoint cannot be written.
        """
        if self.model_init is None:  # otherwise a new model is created
            for rows in (self.train_dataset, self.eval_dataset):
                self._data.check_heads_of(rows, self.config)
        folder = get_last_checkpoint(self.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        self.resumed_from = str(folder) if folder else None
        # FSDP and DeepSpeed write sharded checkpoints, and their wrappers are not removed
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        with naming_full_disk(self.args.output_dir), contextlib.ExitStack() as self._while_training:
            self._while_training.callback(setattr, self, "_while_training", None)
            if self.head_weights is not None and self.model is not None:
                self._while_training.enter_context(self.head_weights.on_model(self.model))
            if self.resumed_from is not None and sharded:
                check_same_heads(self.resumed_from, self)
            elif self.resumed_from is not None:
                prepare_resume(self.resumed_from, self, self._choices)
            # (between the trials of a search there is no model; heads may have changed since an earlier run)
            has_both = self.optimizer is not None and self.model is not None
            if has_both and is_outdated(self.optimizer, self.model, self._made_optimizer):
                self.optimizer = self.lr_scheduler = None
            # before the model is wrapped and a checkpoint is loaded; `model_init` creates the model later
            self._choices.head_rates = None
            if self.model_init is None and self.optimizer is None:
                self._measure_head_rates(self.model)
            result = super().train(resume_from_checkpoint, *args, **kwargs)
            if sharded:
                self._while_training.pop_all()
                self._while_training = None
            else:  # remove autocast, so that the model computes as the saved model will
                self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)
        multi_head_model(self.model).sync_thresholds()
        mark_trained(self.model, self.config.heads)
        return result

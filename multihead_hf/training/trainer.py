"""The Trainer for multi-head models: named hooks of `Trainer`, never its loop."""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from datasets import DatasetDict
from huggingface_hub import HfApi
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase, Trainer, TrainerControl
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_optimizer import is_optimizer_factory
from transformers.trainer_utils import (
    PREFIX_CHECKPOINT_DIR,
    EvalPrediction,
    HubStrategy,
    IntervalStrategy,
    SaveStrategy,
    get_last_checkpoint,
    has_length,
)
from transformers.utils import PushInProgress, logging

from ..data.collator import MultiHeadDataCollator
from ..data.preparation import part_of
from ..evaluation.collapse import collapsed_heads
from ..evaluation.evaluate import Evaluation
from ..evaluation.metric_names import check_set_keys, metric_keys
from ..evaluation.report import Report
from ..evaluation.streaming import StreamingMetrics
from ..model.configuration_multihead import MultiHeadConfig
from ..model.encoder_multihead import without_bars
from ..model.head_multihead import HeadConfig
from ..model.layers_multihead import module_key
from ..model.losses_multihead import Loss, loss_terms
from ..model.modeling_multihead import MultiHeadModel, MultiHeadOutput
from ..model.objective_multihead import StepTotals
from ..model.unwrapping import multi_head_model
from ..publishing.card import (
    CARD,
    CardFacts,
    check_given,
    picture_path,
    report_evaluation,
    report_pictures,
    write_card,
)
from .arguments import MultiHeadTrainingArguments
from .card import (
    Judgement,
    changed_settings,
    decision_settings,
    evaluations_of,
    hub_name,
    label_counts,
    versions,
)
from .checkpoints import (
    check_complete,
    check_same_heads,
    check_same_trained,
    check_same_weighting,
    check_stream,
    copy_published_files,
    is_checkpoint,
    load_head_weighting,
    save_head_weighting,
    save_trained_names,
)
from .console import set_title, use_console
from .constant_loss import Constant, best_constants
from .defaults import EPOCHS_RULE, encoder_rate, feature_size, filled_in, fresh_head_rate, heads_in, is_fresh
from .features import FeatureCache, check_frozen
from .freezing import check_trainable, freeze
from .gradients import gradient_norms
from .optimizer import parameter_groups
from .preparation import (
    apply_text_settings,
    check_arguments,
    check_best_metric,
    check_cacheable,
    check_countable,
    check_extensions,
    check_same_labels,
    check_token,
    labels_of,
    prepared,
    prepared_for_training,
    resolve_balanced,
    search_metric,
    upcast_trainable,
    use_losses,
)
from .step import TwoPasses, leave_out_repeated_rows, step_totals

logger = logging.get_logger(__name__)


class MultiHeadTrainer(Trainer):
    """`Trainer` for `MultiHeadModel`.

    Takes raw datasets (a text column and label columns) or prepared ones (`prepare_dataset`), collates and scores every
    head by default, logs each head's loss, and saves folders that load where `multihead_hf` is not installed.

    The loss of an optimiser step does not depend on how its batch is split: each head's numerators and denominators are
    summed over all micro-batches and processes of the step. Rows without a label for a head count on neither side.

    Args:
        model: a `MultiHeadModel`, also wrapped by PEFT.
        args: `MultiHeadTrainingArguments`.
        data_collator: default `MultiHeadDataCollator`.
        train_dataset, eval_dataset: raw or prepared rows, files, data frames or the name of a data set on the Hub. Each
            may be a dict of several, each labelled for some heads; those for training are mixed (`mix_datasets`). Of a
            folder, Hub data set or `DatasetDict` the part `train`, or `validation`, is taken.
        processing_class: the encoder's tokenizer.
        compute_metrics: further metrics, `EvalPrediction` → dict; its keys win over the library's own.
        losses: head → a loss of your own, in the shape that `register_loss` describes, instead of the head's. The
            saved configuration holds the function's name.
        kwargs: as for `Trainer`.

    Raises:
        ValueError: data, labels or arguments that cannot be trained on; nothing has been written then.
    """

    # `compute_loss` divides by the denominators of the whole accumulated step, so the Trainer must not divide again
    loss_is_scaled_for_ga = True

    args: MultiHeadTrainingArguments
    push_in_progress: PushInProgress | None
    optimizer: Any
    optimizer_cls_and_kwargs: Any
    eval_dataset: Any
    control: TrainerControl
    _signature_columns: list[str] | None

    def __init__(
        self,
        model: nn.Module | None = None,
        args: MultiHeadTrainingArguments | None = None,
        data_collator: Callable | None = None,
        train_dataset: Any = None,
        eval_dataset: Any = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        compute_metrics: Callable[[EvalPrediction], dict] | None = None,
        losses: Mapping[str, Loss] | None = None,
        **kwargs: Any,
    ) -> None:
        args = args if args is not None else MultiHeadTrainingArguments("tmp_trainer")
        check_arguments(args)
        check_extensions(args, data_collator, **kwargs)
        if processing_class is None and data_collator is None:
            raise ValueError("the default collator pads with the tokenizer: pass it as processing_class")
        self.metric_prefix = "eval"  # of the newest evaluation
        self._user_keys: set[str] = set()
        # what the next log reports: each head's loss and, where there are several, its terms, summed over so many steps
        self._noted: list[tuple[str, str | None]] = []
        self._step_losses = torch.zeros(0)
        self._noted_steps = 0
        self._made_optimizer = False
        self._two_passes: TwoPasses | None = None
        self._evaluation: Evaluation | None = None
        self.last_evaluation: StreamingMetrics | None = None
        # evaluation set and head → how it has collapsed, which has been warned about
        self._collapsed: dict[tuple[str, str], str] = {}
        # for the card: what was found of the model, and the training rows' counts
        self._judged: Judgement | None = None
        self._reported: Judgement | None = None
        self._label_counts: dict[str, dict[str, int]] | None = None
        self._card_given: dict[str, Any] = dict(args.model_card) if isinstance(args.model_card, dict) else {}
        self._feature_cache: FeatureCache | None = None
        self._rates: dict[str, float] = {}
        self._gradient_norms: dict[str, Tensor] = {}
        # with `model_init` the model is first made inside `Trainer.__init__`: see `call_model_init`
        self._given = (args, processing_class, train_dataset, eval_dataset)
        self.raw_train_dataset = train_dataset  # as it was given: its texts are read by a linear baseline
        self._has_own_metrics = compute_metrics is not None
        self._own_losses = dict(losses or {})
        self._datasets: tuple[Any, Any] = (None, None)
        self._labels: dict[str, list[str]] = {}  # of the heads that the data was prepared for
        self._is_ready = False
        self._constants: dict[str, Constant] | None = None
        self._head_rates: dict[str, float] | None = None
        self._args_given = args
        if model is not None:
            self._ready(model)
            train_dataset, eval_dataset = self._datasets
            args = filled_in(args, multi_head_model(model), train_dataset)
        super().__init__(model, args, data_collator, train_dataset, eval_dataset, processing_class, **kwargs)
        use_console(self)
        self.train_dataset, self.eval_dataset = self._datasets
        del self._given
        if args.cache_features and (self.is_fsdp_enabled or self.is_deepspeed_enabled):
            raise ValueError("cache_features needs the whole encoder in each process: leave out FSDP and DeepSpeed")
        if data_collator is None:
            self.data_collator = MultiHeadDataCollator(processing_class, self.config)
        # without a function of the user's the base class keeps no predictions
        self.compute_metrics = None if compute_metrics is None else self._noting_keys(compute_metrics)

    @property
    def config(self) -> MultiHeadConfig:
        """Configuration of the model that is trained."""
        return multi_head_model(self.model).config

    @property
    def trained_heads(self) -> dict[str, HeadConfig]:
        """The heads in training, by name: all of them, or those of `train_heads`."""
        names = self.args.train_heads
        return {name: head for name, head in self.config.heads.items() if names is None or name in names}

    # ---- data ----

    def _ready(self, model: Any) -> None:
        """Prepare the data for the model, and the model for training on it; nothing is written before that worked."""
        args, tokenizer, train, evaluation = self._given
        evaluation = part_of(evaluation, "validation")
        config = multi_head_model(model).config
        metric_keys(config.heads)  # two metrics of one name fail now, not after the first epoch
        if isinstance(evaluation, Mapping):
            check_set_keys(config.heads, evaluation)
        if not self._has_own_metrics:
            check_best_metric(args, config, evaluation)
        apply_text_settings(config, args)
        train = prepared_for_training(train, config, args, tokenizer)
        if isinstance(evaluation, (dict, DatasetDict)):
            evaluation = {
                name: prepared(rows, config, args, tokenizer, f"eval_dataset {name!r}")
                for name, rows in evaluation.items()
            }
        else:
            evaluation = prepared(evaluation, config, args, tokenizer, "eval_dataset")
        if args.cache_features:
            sets = evaluation if isinstance(evaluation, dict) else {"eval_dataset": evaluation}
            for what, rows in ({"train_dataset": train} | sets).items():
                if rows is not None:
                    check_cacheable(what, rows)
        self._datasets, self._is_ready = (train, evaluation), True
        self._labels = labels_of(config)
        self._adapt(model, args)

    def _adapt(self, model: nn.Module, args: MultiHeadTrainingArguments) -> None:
        """What training asks of a model, also of each new one that `model_init` makes."""
        base = multi_head_model(model)
        check_same_labels(self._labels, base.config)
        apply_text_settings(base.config, args)
        use_losses(base, self._own_losses)
        train, _ = self._datasets
        if train is not None:
            resolve_balanced(base.config, train)
            self._constants = None
        freeze(base, args)
        if args.cache_features:
            check_frozen(base)
        upcast_trainable(model)
        base.learn_head_weights(self._start_of_weights(base) if args.head_weighting == "uncertainty" else None)

    def call_model_init(self, trial: Any = None) -> nn.Module:
        model = super().call_model_init(trial)
        if not self._is_ready:
            self._ready(model)
            self.args = filled_in(self.args, multi_head_model(model), self._datasets[0])
        else:
            self._adapt(model, self.args)
        return model

    # ---- what the arguments leave open ----

    @property
    def constant_losses(self) -> dict[str, float]:
        """Head → its loss at the best constant prediction of the training rows; a loss of a trained model divided by it
        reads like 1 − R²."""
        found = self._constants_of(multi_head_model(self.model))
        return {name: constant.loss for name, constant in found.items()}

    def chosen_settings(self) -> list[str]:
        """What the arguments leave open and was chosen for this run, in a sentence; empty where nothing was."""
        given, told = self._args_given, []
        if not self._made_optimizer:
            return []  # the rates are those of the optimizer that was passed
        trains_encoder = any(p.requires_grad for p in multi_head_model(self.model).encoder.parameters())
        if self._chose_rate() and given.encoder_learning_rate is None and trains_encoder:
            told.append(f"learning_rate {self.args.learning_rate:g} (by the encoder's width)")
        if self._head_rates:
            rates = ", ".join(f"{rate:g}" for rate in sorted(set(self._head_rates.values())))
            told.append(f"head_learning_rate {rates} (by the size of the encoder's features)")
        if given.num_train_epochs is None and self.args.max_steps <= 0:
            told.append(f"num_train_epochs {self.args.num_train_epochs:g} ({EPOCHS_RULE})")
        notes = [f"not set, and chosen: {', '.join(told)}"] if told else []
        if self.args.head_learning_rate is None and not self._moves_like_adam():
            notes.append(
                f"the heads have the learning_rate of the encoder, as no better one is known for this optimizer "
                f"({self.args.optim.value}): set head_learning_rate if they learn too slowly"
            )
        return notes

    def _constants_of(self, base: MultiHeadModel) -> dict[str, Constant]:
        """The best constant prediction of each head on the training rows; none without such rows."""
        train, _ = self._datasets
        if self._constants is None:
            self._constants = {} if train is None else best_constants(train, base.config.heads)
        return self._constants

    def _start_of_weights(self, base: MultiHeadModel) -> dict[str, float]:
        # where exp(−s)·L + s/2 is lowest for the loss of the best constant prediction
        return {name: math.log(2 * constant.loss) for name, constant in self._constants_of(base).items()}

    def _combine(self, losses: Mapping[str, Tensor]) -> Tensor:
        """What is minimised of the heads' losses, but for learned weights: as `head_weighting` says."""
        base = multi_head_model(self.model)
        if self.args.head_weighting == "prior":
            constants = self._constants_of(base)
            losses = {name: own / constants[name].loss if name in constants else own for name, own in losses.items()}
        return base.combine(losses)

    def _rates_of_fresh_heads(self, model: nn.Module) -> dict[str, float]:
        """Module key → learning rate, of the heads that are freshly made, where the arguments leave it open. Where
        heads are all that is trained, `learning_rate` speaks of them."""
        base, (train, _) = multi_head_model(model), self._datasets
        fresh = [name for name, head in heads_in(model, base.config.heads) if is_fresh(head)]
        alone = not any(parameter.requires_grad for parameter in base.encoder.parameters())
        said = self.args.head_learning_rate is not None or (alone and not self._chose_rate())
        if not fresh or train is None or said or not self._moves_like_adam():
            return {}
        size = feature_size(base, train, self.data_collator)
        rates = {name: fresh_head_rate(base.config.heads[name].architecture, size) for name in fresh}
        return {module_key(name): max(rate, self.args.learning_rate or 0.0) for name, rate in rates.items()}

    def _moves_like_adam(self) -> bool:
        """Whether the optimizer moves a weight by about the learning rate, whatever the gradient's size."""
        given = self.optimizer_cls_and_kwargs
        made = None if given is None else getattr(given[0], "func", given[0])  # also of a functools.partial
        name = str(self.args.optim.value) if made is None else str(getattr(made, "__name__", made))
        return any(kind in name.lower() for kind in ("ada", "ademamix", "lion", "rmsprop"))

    def _chose_rate(self) -> bool:
        """Whether `learning_rate` was left open, and is still the one that was chosen."""
        chosen = encoder_rate(self.config.hidden_size)
        return self._args_given.learning_rate is None and self.args.learning_rate == chosen

    def _check_heads_of(self, dataset: Any) -> None:
        """Raise a ValueError if `dataset` is one that this Trainer prepared, for other heads than the model has now."""
        train, evaluation = self._datasets
        own = [train, evaluation, *(evaluation.values() if isinstance(evaluation, dict) else ())]
        if dataset is not None and any(dataset is each for each in own):
            check_same_labels(self._labels, self.config)

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            super()._set_signature_columns_if_needed()
            # for train_sampling_strategy
            self._signature_columns = [*(self._signature_columns or []), self.args.length_column_name]

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """As `Trainer.evaluate`, for raw or prepared datasets; with a dict of them also `<prefix>_f1`, the mean."""
        multi_head_model(self.model).sync_thresholds()
        is_name = isinstance(eval_dataset, str) and isinstance(self.eval_dataset, dict)  # of one of several
        self._check_heads_of(self.eval_dataset if is_name or eval_dataset is None else eval_dataset)
        if isinstance(eval_dataset, Mapping):
            check_set_keys(self.config.heads, eval_dataset, metric_key_prefix)
        if eval_dataset is not None and not is_name:
            eval_dataset = self._prepared_for_evaluation(eval_dataset)
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        sets: Any = eval_dataset if eval_dataset is not None else self.eval_dataset
        if isinstance(sets, dict):
            scores = [metrics.get(f"{metric_key_prefix}_{name}_f1") for name in sets]
            known = [score for score in scores if score is not None]
            if known:
                mean = {f"{metric_key_prefix}_f1": sum(known) / len(known)}
                metrics.update(mean)
                self.log(dict(mean))
                # the callbacks have seen each set's metrics; early stopping on the mean needs the mean
                self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, mean)
        else:
            self._warn_of_collapsed_heads(metric_key_prefix)
        if metric_key_prefix == "eval":
            self._judge(metrics, list(sets) if isinstance(sets, dict) else None)
        return metrics

    def _warn_of_collapsed_heads(self, prefix: str) -> None:
        """Warn once of a head that predicts almost nothing or everything, and again when that has changed. (Before the
        first step, `eval_on_start`, no head has learned anything.)"""
        if self.last_evaluation is None or (self.is_in_train and not self.state.global_step):
            return
        found = collapsed_heads(self.last_evaluation)
        for name in self.config.heads:
            kind, text = found.get(name, ("", ""))
            if kind and kind != self._collapsed.get((prefix, name)) and self.is_world_process_zero():
                with tqdm.external_write_mode():  # not behind a bar
                    logger.warning(f"{set_title(prefix)}: {text}" if set_title(prefix) else text)
            self._collapsed[prefix, name] = kind

    def _judge(self, metrics: Mapping[str, Any], sets: list[str] | None) -> None:
        found = evaluations_of(metrics, self.config, sets)
        self._judged = Judgement(found, self.state.global_step, decision_settings(self.config))

    def predict(self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test") -> Any:
        """As `Trainer.predict`, of raw or prepared rows; predictions and labels are dicts by head, in row order."""
        multi_head_model(self.model).sync_thresholds()
        self._check_heads_of(test_dataset)
        rows = prepared(test_dataset, self.config, self.args, self.processing_class, "dataset", require_labels=False)
        return super().predict(rows, ignore_keys, metric_key_prefix)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        if self.args.cache_features:
            # a loader that persistent workers keep would not see that the encoder has changed
            self.__dict__.pop("_eval_dataloaders", None)
        with self._reading_all_rows():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        # grouped by length, predictions would come in an order that nobody is told
        with self._reading_all_rows(train_sampling_strategy="sequential"):
            return super().get_test_dataloader(test_dataset)

    def _get_dataloader(
        self, dataset: Any, description: str, batch_size: int, sampler_fn: Any = None, **kwargs: Any
    ) -> Any:
        rows, sampler = dataset, sampler_fn
        if self.args.cache_features and description != "test":  # what is predicted is read once
            check_cacheable(description.lower(), dataset)
            rows = self._features().rows(multi_head_model(self.model), dataset, self._encode)
            if sampler_fn is not None:

                def sampler(_: Any) -> Any:
                    return sampler_fn(dataset)  # which knows the lengths

        return super()._get_dataloader(rows, description, batch_size, sampler, **kwargs)

    def _features(self) -> FeatureCache:
        if self._feature_cache is None:
            args = self.args
            self._feature_cache = FeatureCache(
                args.feature_cache_dir or os.path.join(args.output_dir, "_features"),
                self.processing_class,
                args.feature_dtype,
                batch_size=args.per_device_eval_batch_size,
                precision=self.accelerator.mixed_precision,
                replace=args.feature_cache_dir is None,
                quiet=args.disable_tqdm,
            )
        return self._feature_cache

    def _encode(self, tokens: dict[str, Tensor]) -> Tensor:
        # (the autocast of the Trainer is around `forward` only)
        with torch.no_grad(), self.accelerator.autocast():
            return multi_head_model(self.model).encode(**self._prepare_inputs(tokens))

    def _reading_all_rows(self, **others: Any) -> contextlib.AbstractContextManager[None]:
        """`dataloader_drop_last` is for training, figures are those of all rows; `others` are set for as long, too."""
        return self._with_arguments(dataloader_drop_last=False, **others)

    @contextlib.contextmanager
    def _with_arguments(self, **changes: Any) -> Iterator[None]:
        """Change arguments for a while."""
        before = {name: getattr(self.args, name) for name in changes}
        self.args.__dict__.update(changes)
        try:
            yield
        finally:
            self.args.__dict__.update(before)

    def _prepared_for_evaluation(self, dataset: Any) -> Any:
        if isinstance(dataset, (dict, DatasetDict)):
            return {name: self._prepared_for_evaluation(rows) for name, rows in dataset.items()}
        return prepared(dataset, self.config, self.args, self.processing_class, "dataset")

    # ---- loss ----

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        leave_out_repeated_rows(batches, self.accelerator)
        if 0 < len(batches) < num_batches and not has_length(self.train_dataset):
            # the loop would take no step for them, and their gradient would leak into the next epoch's first one
            logger.warning_once(
                f"the last {len(batches)} batches of the stream do not fill a step of {num_batches} and are left out"
            )
            batches = []
        self._noted_steps += bool(batches)
        # nothing to count or reduce where one batch is the whole step
        self._two_passes = None
        # (all processes have equally many)
        if not batches or (self.args.world_size == 1 and len(batches) == 1):
            return batches, None
        totals = step_totals(self.trained_heads, batches, self.accelerator)
        if TwoPasses.needed(self.trained_heads):
            self._two_passes = TwoPasses(batches, totals)
        return batches, totals

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        if self._two_passes is not None:
            # here and not in `get_batch_samples`, which runs before the random state is restored on resume and, after
            # an evaluation, with the model still in evaluation mode
            model.train()
            if callable(getattr(self.optimizer, "train", None)):  # schedule-free ones have other weights then
                self.optimizer.train()
            forward = functools.partial(self._first_pass, model)
            heads = self.trained_heads
            num_items_in_batch = self._two_passes.totals_of_next_batch(heads, forward, self.accelerator)
        return super().training_step(model, inputs, num_items_in_batch)

    def _first_pass(self, model: nn.Module, inputs: Mapping[str, Any], totals: StepTotals) -> MultiHeadOutput:
        with torch.no_grad(), self.compute_loss_context_manager():
            heads = list(self.trained_heads)
            return model(**{**self._prepare_inputs(inputs), "heads": heads, "num_items_in_batch": totals})

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> None:
        # counted in `get_batch_samples`; this hook also runs for evaluation batches, which count for themselves
        return None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The step's combined loss: this batch's share when `num_items_in_batch` holds the step's `StepTotals`."""
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
                self._note_losses(outputs, loss)
            if num_items_in_batch is not None:
                # DDP and FSDP average gradients over processes, and these are shares of one sum
                loss = loss * self.args.world_size
        return (loss, outputs) if return_outputs else loss

    def _note_losses(self, outputs: MultiHeadOutput, loss: Tensor) -> None:
        """Add each head's loss, and its terms where there are several, to what the next log reports."""
        self._rates = self._learning_rates()
        losses, terms = outputs.losses or {}, outputs.loss_terms or {}
        none = loss.detach() * 0.0  # a collator of one's own may leave out heads
        found = [losses.get(head, none) if term is None else terms[head].get(term, none) for head, term in self._noted]
        self._step_losses = self._step_losses + torch.stack(found).detach().float()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As `Trainer.log`, with each head's loss, learning rates by group and learned thresholds beside `loss`."""
        logs = dict(logs)
        if "loss" in logs and self._noted_steps:
            values = self._step_losses
            if self.args.world_size > 1:
                values = self.accelerator.reduce(values, reduction="sum")  # shares of the step, on each process
            keys = [f"{head}_{'loss' if term is None else term}" for head, term in self._noted]
            logs.update(zip(keys, (values / self._noted_steps).tolist(), strict=True))
            self._step_losses, self._noted_steps = torch.zeros(len(keys), device=values.device), 0
            logs.update(self._rates)
            logs.update({key: float(norm) for key, norm in self._gradient_norms.items()})
            logs.update(self._threshold_figures())
            log_variances = multi_head_model(self.model).log_variances
            if log_variances is not None:
                learned = zip(self.config.heads, log_variances.tolist(), strict=True)
                logs.update({f"{name}_log_variance": value for name, value in learned})
        super().log(logs, start_time)

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> Any:
        # a run starts, or starts again with a smaller batch
        self._noted = [(name, None) for name in self.trained_heads]
        for name, head in self.trained_heads.items():
            terms = loss_terms(name, head)
            self._noted += [(name, term.name) for term in terms if len(terms) > 1]
        self._step_losses = torch.zeros(len(self._noted), device=self.args.device)
        self._noted_steps = 0
        self._judged = self._reported = None
        # a checkpoint holds numbers of steps, which the base class compares with the arguments
        shares = {name: getattr(self.args, name) for name in ("logging_steps", "eval_steps", "save_steps")}
        steps = {
            name: math.ceil(max_steps * share) for name, share in shares.items() if share is not None and share < 1
        }
        with self._with_arguments(**steps):
            return super()._init_training_state(max_steps, *args, **kwargs)

    def _learning_rates(self) -> dict[str, float]:
        rates = {
            f"learning_rate_{group['name']}": group["lr"] for group in self.optimizer.param_groups if "name" in group
        }
        return {key: float(rate) for key, rate in rates.items()}

    def _threshold_figures(self) -> dict[str, float]:
        base = multi_head_model(self.model)
        base.sync_thresholds()
        figures = {}
        for name, head in base.config.heads.items():
            if head.learn_thresholds is not None and head.thresholds is not None:
                values = head.thresholds
                figures[f"{name}_threshold_mean"] = sum(values) / len(values)
                figures[f"{name}_threshold_min"] = min(values)
                figures[f"{name}_threshold_max"] = max(values)
        return figures

    # ---- evaluation ----

    def evaluation_loop(self, dataloader: Any, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.evaluation_loop`, with the heads' metrics and the exact losses over all rows (the base class has
        the mean of batch means). They are counted batch by batch: predictions are kept for `predict` and
        `compute_metrics` only.

        Raises:
            ValueError: a stream that each of several processes reads by itself.
        """
        check_countable(dataloader, self.args.world_size)
        self.metric_prefix = prefix = kwargs.get("metric_key_prefix", "eval")
        self._user_keys = set()
        wanted = not self.args.prediction_loss_only
        self._evaluation = evaluation = Evaluation(self.config.heads, wanted, self.accelerator.gather_for_metrics)
        try:
            output = super().evaluation_loop(dataloader, *args, **kwargs)
        finally:
            self._evaluation = None
        # gloo frees gathered tensors in threads of its own, which wait for the interpreter: a process that ends before
        # they have done so hangs in the destructor of its process group (torch 2.13). While it waits here, they can
        self.accelerator.wait_for_everyone()
        self.last_evaluation = evaluation.metrics
        found = evaluation.figures(self._combine, self.trained_heads)
        # with the prefix here: the Trainer would leave out a prefix that a head's name happens to begin with
        own = {f"{prefix}_{key}": value for key, value in found.items()}
        output.metrics.update({key: value for key, value in own.items() if key not in self._user_keys})
        return output

    def prediction_step(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
    ) -> Any:
        # without labels: a batch's losses would be no part of the exact ones, and a model may lack a loss function
        labels = inputs.get("labels")
        rest = {key: value for key, value in inputs.items() if key != "labels"}
        ignored = [*(ignore_keys or []), *self.config.keys_to_ignore_at_inference]
        _, logits, _ = super().prediction_step(model, rest, False, ignored)
        if labels is not None:
            labels = self._prepare_input(labels)
            if self._evaluation is not None:
                self._evaluation.add(logits, labels, self._prepare_input(inputs.get("sample_weight")))
        return (None, None, None) if prediction_loss_only else (None, logits, labels)

    def _noting_keys(self, compute_metrics: Callable[[EvalPrediction], dict]) -> Callable[[EvalPrediction], dict]:
        """The user's metrics, and which keys they have: they win over the library's."""

        def metrics(prediction: EvalPrediction) -> dict[str, float]:
            own = compute_metrics(prediction)
            prefix = f"{self.metric_prefix}_"
            self._user_keys = {prefix + key.removeprefix(prefix) for key in own}
            return own

        return metrics

    # ---- optimiser ----

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """As the base class's, noting the norms of the parts for the next log, as they were before clipping."""
        total = super()._get_grad_norm(model, grad_norm)
        self._gradient_norms = {}
        # FSDP and DeepSpeed have gradients in pieces, or keep them to themselves
        if self._logs_next_step() and not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
            limit = self.args.max_grad_norm
            clipped_by = torch.clamp((total + 1e-6) / limit, min=1.0) if limit > 0 else 1.0
            norms = gradient_norms(multi_head_model(self.model))
            self._gradient_norms = {key: norm * clipped_by for key, norm in norms.items()}
        return total

    def _logs_next_step(self) -> bool:
        """Whether the step that is being taken may be logged, as far as can be known before it ends."""
        args, step = self.args, self.state.global_step + 1
        if args.logging_strategy != IntervalStrategy.STEPS:
            return args.logging_strategy == IntervalStrategy.EPOCH
        return step % self.state.logging_steps == 0 or (step == 1 and args.logging_first_step)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """As `Trainer.create_optimizer`, with parameter groups for the encoder, the heads and learned thresholds.

        Raises:
            ValueError: all parameters are frozen.
        """
        if self.optimizer is not None:
            return super().create_optimizer(model)
        self._made_optimizer = True
        target = self.model if model is None else model
        check_trainable(target, self.args)
        given = self.optimizer_cls_and_kwargs
        optimizer_class, options = given if given is not None else self.get_optimizer_cls_and_kwargs(self.args, target)
        # some optimisers come with groups of their own; the base class takes ours through the same door
        if not is_optimizer_factory(optimizer_class) and not {"params", "model", "optimizer_dict"} & options.keys():
            if self._head_rates is None:
                self._head_rates = self._rates_of_fresh_heads(target)
            decayed = self.get_decay_parameter_names(target)
            groups = parameter_groups(target, self.args, decayed, self._head_rates)
            options = {**options, "params": groups}
        self.optimizer_cls_and_kwargs = (optimizer_class, options)
        try:
            return super().create_optimizer(model)
        finally:
            self.optimizer_cls_and_kwargs = given

    def _trained_parameters(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def _forget_optimizer_of_other_heads(self) -> None:
        """After an earlier run heads may have come and gone: an optimiser made here is then made anew."""
        # between the trials of a search there is no model
        if self.optimizer is None or self.model is None:
            return
        trained = self._trained_parameters()
        known = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        missing = [name for name, parameter in trained.items() if id(parameter) not in known]
        if self._made_optimizer and (missing or len(known) != len(trained)):
            self.optimizer = self.lr_scheduler = None
        elif missing:
            logger.warning(f"the optimizer that was passed does not hold {missing[:5]}, which will not be trained")

    # ---- saving, resuming, publishing ----

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        self.config.check_saveable()  # before the folder is made
        without_bars(super()._save, output_dir, state_dict)  # they would be inside the bar of the training
        if not self.args.should_save:
            return
        folder = output_dir if output_dir is not None else self.args.output_dir
        pickle = os.path.join(folder, TRAINING_ARGS_NAME)
        if is_checkpoint(folder):
            save_trained_names(folder, self._trained_parameters())
            log_variances = multi_head_model(self.model).log_variances
            if log_variances is not None:
                save_head_weighting(folder, log_variances)
        elif os.path.isfile(pickle):
            # a checkpoint keeps it for the Trainer; the folder that gets published must not hold one
            os.remove(pickle)
        if multi_head_model(self.model) is self.model:  # else PEFT writes that of its adapter
            self._write_card(folder)

    # ---- model card ----

    def card_facts(self) -> CardFacts:
        """What is known for the model card: of the arguments, the training rows, the run and its last evaluation, or
        the report on it (`write_report`)."""
        args, state = self.args, self.state
        if self._label_counts is None:
            self._label_counts = label_counts(self.train_dataset, self.config)
        facts = CardFacts(
            model_id=self.hub_model_id or args.hub_model_id,
            base_model=hub_name(getattr(self.config.encoder, "_name_or_path", "")),
            versions=versions(),
        )
        for key, value in self._card_given.items():
            setattr(facts, key, value)
        if state.global_step:
            facts.training = {"epochs": state.epoch, "steps": state.global_step}
        if self.train_dataset is not None:
            facts.training["hyperparameters"] = changed_settings(args, args.world_size)
            facts.training["labels"] = self._label_counts
            if has_length(self.train_dataset):
                facts.training["rows"] = len(self.train_dataset)
        judgement = self._newest_judgement()
        if judgement is not None:
            facts.evaluations = judgement.for_card(state.global_step, decision_settings(self.config))
            facts.pictures = judgement.pictures
        return facts

    def _newest_judgement(self) -> Judgement | None:
        """Of the model as it is, the report before the evaluation; else what there is of it as it was."""
        settings = decision_settings(self.config)
        known = [each for each in (self._reported, self._judged) if each is not None]
        fresh = [each for each in known if each.settings == settings and each.step == self.state.global_step]
        # (`max` takes the first of equals, the report)
        return fresh[0] if fresh else max(known, key=lambda each: each.step, default=None)

    def note_report(self, report: Report) -> None:
        """Let the model card that is written next tell of a report on the model as it is."""
        saved = report.to_dict()
        self._reported = Judgement(
            [report_evaluation(saved)],
            self.state.global_step,
            decision_settings(self.config),
            report_pictures(saved),
            {picture_path(each.name): each.data for each in report.pictures},
        )

    def _write_card(self, folder: str) -> None:
        facts = self.card_facts()
        if facts.model_id is None:
            facts.model_id = os.path.basename(os.path.abspath(folder)) or None
        judgement = self._newest_judgement()
        if not write_card(folder, self.config, facts, None if judgement is None else judgement.files):
            logger.info(f"{os.path.join(folder, CARD)} is not ours to write, and stays as it is")

    def create_model_card(
        self,
        language: str | None = None,
        license: str | None = None,
        tags: str | list[str] | None = None,
        model_name: str | None = None,
        finetuned_from: str | None = None,
        tasks: str | list[str] | None = None,
        dataset_tags: str | list[str] | None = None,
        dataset: str | list[str] | None = None,
        dataset_args: str | list[str] | None = None,
    ) -> None:
        """Write the model card into `output_dir`, as every save does, with what is said here; `dataset_tags` are names
        on the Hub. Of an adapter PEFT writes the card. The other arguments of `Trainer.create_model_card` say nothing
        that the model does not."""
        if not self.is_world_process_zero():
            return
        if multi_head_model(self.model) is not self.model:
            super().create_model_card(
                language, license, tags, model_name, finetuned_from, tasks, dataset_tags, dataset, dataset_args
            )
            return
        said = {
            "language": language,
            "license": license,
            "tags": tags,
            "base_model": finetuned_from,
            "datasets": dataset_tags,
        }
        self._card_given |= check_given({key: value for key, value in said.items() if value is not None})
        self._write_card(self.args.output_dir)

    # ---- runs ----

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, float]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] | None = None,
        backend: Any = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `Trainer.hyperparameter_search`, by `metric_for_best_model`, else by F1 (`eval_f1`), in its direction
        (higher is better, of losses lower). With `load_best_model_at_end` a trial counts with its best evaluation, of
        which it keeps the model, else with its last. An objective of your own is minimized unless `direction` says
        otherwise, as in the base class. Afterwards the Trainer has no model: make one with the best settings.

        Raises:
            ValueError: the evaluation has not the metric.
        """
        metric, greater = search_metric(self.args)
        if direction is None:
            direction = "maximize" if compute_objective is None and greater else "minimize"
        if compute_objective is None:
            compute_objective = functools.partial(self._search_objective, metric, greater)
        return super().hyperparameter_search(
            hp_space, compute_objective, n_trials, direction, backend, hp_name, **kwargs
        )

    def _search_objective(self, metric: str, greater: bool, metrics: Mapping[str, float]) -> float:
        if metric not in metrics:
            raise ValueError(f"the search goes by {metric!r}, which was not evaluated: {list(metrics)}")
        best = self.state.best_metric if self.args.load_best_model_at_end else None
        known = [metrics[metric], *([] if best is None else [best])]
        return max(known) if greater else min(known)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As `Trainer.train`.

        Raises:
            ValueError: the checkpoint to resume from is not complete, not of this model or of a run with another
                `head_weighting`, or of a later pass over a stream; the model has other heads than the data was prepared
                for; nothing has been trained.
        """
        if self.model_init is None:  # else the model is made anew
            for rows in (self.train_dataset, self.eval_dataset):
                self._check_heads_of(rows)
        folder = get_last_checkpoint(self.args.output_dir) if resume_from_checkpoint is True else resume_from_checkpoint
        # the checkpoints of FSDP and DeepSpeed are folders of shards
        if folder and not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
            check_complete(str(folder), self.args.output_dir, self.args.world_size)
            check_same_heads(str(folder), self.config)
            check_same_weighting(str(folder), self.args.head_weighting)
            check_same_trained(str(folder), self._trained_parameters())
            if not has_length(self.train_dataset):
                check_stream(str(folder))
        self._forget_optimizer_of_other_heads()
        # before anything wraps the model, and before a checkpoint is loaded; `model_init` makes the model later
        measured = self.model_init is None and self.optimizer is None
        self._head_rates = self._rates_of_fresh_heads(self.model) if measured else None
        result = super().train(resume_from_checkpoint, *args, **kwargs)
        multi_head_model(self.model).sync_thresholds()
        for _, head in heads_in(self.model, self.config.heads):
            if is_fresh(head):
                head.is_fresh = False
        return result

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        check_same_heads(resume_from_checkpoint, self.config)
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        log_variances = multi_head_model(self.model).log_variances
        if log_variances is not None:
            load_head_weighting(resume_from_checkpoint, log_variances)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        base = multi_head_model(self.model)
        base.sync_thresholds()
        best = [entry for entry in self.state.log_history if entry.get("step") == self.state.best_global_step]
        logged = {key: value for entry in best for key, value in entry.items()}
        self._judge(logged, list(self.eval_dataset) if isinstance(self.eval_dataset, dict) else None)
        if base.log_variances is not None and self.state.best_model_checkpoint is not None:
            load_head_weighting(self.state.best_model_checkpoint, base.log_variances)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push a checkpoint as the base class does, but with the model's code and without the Trainer's pickles."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        running = [] if self.push_in_progress is None or self.push_in_progress.is_done() else self.push_in_progress.jobs
        if running and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        copy_published_files(checkpoint_folder, self.args.output_dir)
        by_steps = self.args.save_strategy == SaveStrategy.STEPS
        progress = f"step {self.state.global_step}" if by_steps else f"epoch {int(self.state.epoch)}"
        upload = {
            "repo_id": self.hub_model_id,
            "token": self.args.hub_token,
            "revision": self.args.hub_revision,
            "run_as_future": True,
        }
        message = f"Training in progress, {progress}"
        ignored = ["_*", f"{PREFIX_CHECKPOINT_DIR}-*", TRAINING_ARGS_NAME]
        api = HfApi()
        jobs = [
            api.upload_folder(
                folder_path=self.args.output_dir, commit_message=message, ignore_patterns=ignored, **upload
            )
        ]
        if self.args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
            last = self.args.hub_strategy == HubStrategy.CHECKPOINT
            path = "last-checkpoint" if last else os.path.basename(checkpoint_folder)
            jobs.append(
                api.upload_folder(
                    folder_path=checkpoint_folder,
                    path_in_repo=path,
                    commit_message=f"{message}, checkpoint",
                    ignore_patterns=["_*"],
                    **upload,
                )
            )
        self.push_in_progress = PushInProgress([*running, *jobs])

    def push_to_hub(self, *args: Any, token: str | None = None, **kwargs: Any) -> Any:
        """As `Trainer.push_to_hub`.

        Raises:
            ValueError: there is no token to push with.
        """
        check_token(token or self.args.hub_token)
        return super().push_to_hub(*args, token=token, **kwargs)

"""Training arguments: `TrainingArguments` and settings for several heads."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from ..data.mixing import STOPS
from ..data.reading import OPTIONS, check_values
from ..model.configuration_multihead import TRUNCATIONS, WINDOW_POOLINGS
from ..model.values_multihead import number, one_of, whole_number
from ..publishing.card_facts import check_given
from ..utils.hardware import is_faster_in_bf16

FEATURE_DTYPES = ("float32", "bfloat16")
LOGGING_STEPS = 0.05
EVAL_STEPS = 500  # the default of `TrainingArguments`
HEAD_WEIGHTINGS = ("prior", "fixed", "uncertainty")
SAMPLING_STRATEGIES = ("random", "sequential", "group_by_length", "batch_rebalance")


@dataclass
class MultiHeadTrainingArguments(TrainingArguments):
    """Arguments of `MultiHeadTrainer`.

    Some defaults differ from those of `TrainingArguments`, because a model that is trained with default settings should
    be a good one; `benchmarks/README.md` has the measurements. The Trainer works on a copy of the arguments in which
    those that depend on the data and the model are filled in, and prints them when training starts.

    | argument | `TrainingArguments` | here | reason |
    |---|---|---|---|
    | `learning_rate` | 5e-5 | `None`: 44 / hidden size², less in long runs | narrow encoders take higher rates |
    | `num_train_epochs` | 3 | `None`: for 1,000 or 500 steps, from 3 to 10 or 20 | 3 epochs of 1,000 rows are too few |
    | `per_device_train_batch_size` | 8 | 16 | fewer optimizer updates for the same texts |
    | `warmup_steps` | 0 | 0.1 of the steps | the gradients of fresh heads mean nothing to the encoder at first |
    | `train_sampling_strategy` | `"random"` | `"group_by_length"` | less padding: about twice as fast |
    | `logging_steps` | 500 | `None`: 0.05, a twentieth of the run | a short run would never show a loss |
    | `logging_nan_inf_filter` | `True` | `False` | a mean of the other steps would hide that the run is broken |
    | `dataloader_pin_memory` | `True` | `None`: if there is an accelerator | otherwise PyTorch warns of it |
    | `bf16` | `False` | `None`: if the hardware is faster in it | about 1.8 times as fast there |

    `eval_steps`, which follows `logging_steps` by default in `TrainingArguments`, stays 500, as `save_steps` does.
    Arguments of `TrainingArguments` with the same default are not listed here.

    Args:
        logging_steps: Steps from one log entry to the next; below 1 a share of the run. `None` means 0.05.
        dataloader_pin_memory: Whether data loaders pin memory. `None`: if there is an accelerator that supports it.
        text_columns: One column with the text, or two for text pairs; stored in the model's config. `None` means the
            columns stored there, else `"text"`.
        label_columns: Column of the labels, or a dict head → column or list of columns (or its JSON text). `None` means
            the column stored in the head, else its name. A value is stored in the model's config.
        sep: Separator between the labels in a cell, or a dict head → separator; `None` and storage as for
            `label_columns`.
        empty: Meaning of an empty cell of joined labels, `"missing"` or `"none"` (of the labels), or a dict head →
            meaning; `None` and storage as for `label_columns`.
        multi_hot: Whether lists of integers hold 0 or 1 for each label (`True`) or label ids (`False`), or a dict head
            → bool; `None` and storage as for `label_columns`.
        max_length: Maximum number of tokens per text; longer texts are truncated. Stored in the model's config.
        truncation: How longer texts are read, as in `MultiHeadConfig`; stored in the model's config.
        max_windows: Maximum number of windows per text, as in `MultiHeadConfig`; stored in the model's config.
        stride: Number of tokens that a window shares with the one before; stored in the model's config.
        window_pooling: `"mean"` or `"max"` over windows, as in `MultiHeadConfig`; stored in the model's config.
        mixing_probabilities: With a dict of training datasets: name → probability that the next row comes from it, as a
            dict or its JSON text. `None` mixes by `mixing_temperature`.
        mixing_temperature: 1 takes every row once; above 1 favours small datasets (`mix_datasets`).
        mixing_stop: `"all_exhausted"` or `"first_exhausted"`: when drawing rows from several datasets ends.
        learning_rate: Peak learning rate; `None` means 44 / hidden size², divided by steps / 500 in runs of 500 to
            1,500 optimizer steps and by 3 in longer ones, and at most 1e-3.
        num_train_epochs: Number of epochs; `None` means as many as give 1,000 optimizer steps, or 500 if an encoder is
            trained with single-label heads only, from 3 to 10; up to 20 for fewer than 100 steps or a frozen encoder.
        per_device_train_batch_size: Rows of a batch on each device.
        warmup_steps: Steps of linear warm-up; below 1 a share of all steps.
        train_sampling_strategy: `"random"`, `"sequential"`, or `"group_by_length"`, which puts texts of similar lengths
            into a batch.
        bf16: Whether to compute in bfloat16; `None` means if the hardware is faster in it.
        use_cpu: Whether to train on the CPU, also if there is an accelerator.
        freeze_encoder: Train the heads only; the encoder then stays in evaluation mode.
        train_heads: Names of the heads to train; other heads keep their weights and are left out of the loss. `None`
            means all.
        train_top_layers: Train only so many of the encoder's topmost layers (and the modules after them).
        cache_features: Encode every text once and train the heads on its features, with a frozen encoder. The run is
            the same as without, to rounding.
        feature_cache_dir: Folder of the features; `None` means `_features` in `output_dir`, which is never pushed.
        feature_dtype: `"float32"`, or `"bfloat16"` for half the size; the difference is reported.
        layer_learning_rate_decay: Factor by which the learning rate falls with each layer of the encoder, from the top
            down to the embeddings.
        head_weighting: How the heads' losses are combined. `"prior"` divides each by the head's loss at the best
            constant prediction of the training rows (the entropy of its labels, for cross-entropy), so that heads with
            many and with few labels count equally, and a loss of 1 means that a head has learned nothing. `"fixed"`
            takes the losses as they are. Both are weighted by the heads' `loss_weight`: 2 means twice as important.
            `"uncertainty"` also learns one log-variance per head, at the heads' learning rate and without weight decay.
            The weighting is not part of the published model.
        encoder_learning_rate: Peak learning rate of the encoder; `None` means `learning_rate`.
        head_learning_rate: Peak learning rate of the heads. `None`: new heads get a rate that depends on the size of
            the encoder's features (2 / Σ|x|), heads that were trained before get `learning_rate`, and so do
            all heads if only heads are trained and `learning_rate` is given.
        threshold_learning_rate: Peak learning rate of learned thresholds; `None` means five times the encoder's. They
            have no weight decay.
        model_card: Facts for the model card that only the user has, as a dict or its JSON text: `language`, `license`,
            `datasets`, `tags`, `widget_texts` (they are published), `limits`, `base_model`.

    Raises:
        ValueError: `learning_rate` is below 0, another rate or `max_length` is not above 0, or a name is unknown.

    Example:
        >>> from multihead_hf import MultiHeadTrainingArguments
        >>> args = MultiHeadTrainingArguments("complaints-new", sep="|", empty="none")
        >>> args.per_device_train_batch_size, args.logging_steps
        (16, 0.05)
    """

    _VALID_DICT_FIELDS = [
        *TrainingArguments._VALID_DICT_FIELDS,
        *OPTIONS,
        "mixing_probabilities",
        "model_card",
    ]

    # defaults that differ from those of TrainingArguments
    logging_steps: float | None = field(
        default=None,
        metadata={"help": "Steps from one log entry to the next; below 1, a fraction of the run. Default: 0.05."},
    )
    dataloader_pin_memory: bool = field(  # (declared again as a flag without a value)
        default=None,  # type: ignore[assignment]
        metadata={"help": "Whether data loaders pin memory. Default: where an accelerator supports it."},
    )
    logging_nan_inf_filter: bool = field(
        default=False, metadata={"help": "Leave losses that are not finite out of the logged means."}
    )
    # data
    text_columns: list[str] | None = field(
        default=None, metadata={"help": "Column with the text, or two columns for text pairs. Default: 'text'."}
    )
    label_columns: dict[str, str | list[str]] | str | None = field(
        default=None,
        metadata={
            "help": (
                "Column of the labels, or head → column as JSON. Default: the column stored in the head, else the "
                "name of the head."
            )
        },
    )
    sep: dict[str, str] | str | None = field(
        default=None,
        metadata={"help": "Separator between the labels in a cell, such as '|', or head → separator as JSON."},
    )
    empty: dict[str, str] | str | None = field(
        default=None,
        metadata={
            "help": (
                "What an empty cell of joined labels means: 'missing' (the row is unlabelled) or 'none' (no label "
                "applies), or head → one of these as JSON."
            )
        },
    )
    # (HfArgumentParser would make no JSON option from a union with bool)
    multi_hot: dict[str, bool] | str | Literal[True, False] | None = field(
        default=None,
        metadata={"help": "Whether lists of integers hold 0 or 1 for each label (true), or label ids (false)."},
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "Maximum number of tokens per text; longer texts are truncated. Default: the limit of the encoder."
        },
    )
    truncation: str | None = field(
        default=None,
        metadata={
            "help": (
                "How longer texts are read: without their tail (default), without their middle (head+tail), or in "
                "windows."
            ),
            "choices": TRUNCATIONS,
        },
    )
    max_windows: int | None = field(default=None, metadata={"help": "Maximum number of windows per text. Default: 8."})
    stride: int | None = field(
        default=None, metadata={"help": "Number of tokens that a window shares with the previous window. Default: 0."}
    )
    window_pooling: str | None = field(
        default=None,
        metadata={
            "help": "How the logits of windows are combined: 'mean' (default) or 'max'.",
            "choices": WINDOW_POOLINGS,
        },
    )
    mixing_probabilities: dict[str, float] | str | None = field(
        default=None, metadata={"help": "Training dataset → probability that the next row is taken from it, as JSON."}
    )
    mixing_temperature: float = field(
        default=1.0,
        metadata={"help": "1 takes every row of several training datasets once; above 1 favours small datasets."},
    )
    mixing_stop: str = field(
        default="all_exhausted",
        metadata={"help": "When sampling from several training datasets ends.", "choices": STOPS},
    )
    # defaults that differ from those of TrainingArguments, continued
    learning_rate: float | None = field(
        default=None,
        metadata={"help": "Peak learning rate of the encoder. Default: 44 / hidden size², a third of it in long runs."},
    )
    num_train_epochs: float | None = field(
        default=None,
        metadata={
            "help": "Training epochs. Default: as many as give 1,000 steps (500 with single-label heads only), from 3 "
            "to 10; up to 20 for fewer than 100 steps or a frozen encoder."
        },
    )
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Number of rows per batch on each device."})
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Steps of linear warm-up; below 1, a fraction of all steps."}
    )
    train_sampling_strategy: str = field(
        default="group_by_length",
        metadata={
            "help": "In which order rows are read: 'random', 'sequential', or 'group_by_length', which puts texts of "
            "similar length into a batch.",
            "choices": ["random", "sequential", "group_by_length"],
        },
    )
    bf16: bool = field(
        default=None,  # type: ignore[assignment]
        metadata={"help": "Compute in bfloat16. Default: where the hardware is faster in it."},
    )
    use_cpu: bool = field(default=False, metadata={"help": "Train on the CPU, even if an accelerator is available."})
    # what is trained
    freeze_encoder: bool = field(default=False, metadata={"help": "Train the heads only."})
    train_heads: list[str] | None = field(default=None, metadata={"help": "Names of the heads to train. Default: all."})
    train_top_layers: int | None = field(
        default=None, metadata={"help": "Train only this number of the encoder's topmost layers. Default: all layers."}
    )
    cache_features: bool = field(
        default=False, metadata={"help": "With a frozen encoder, encode every text once and train on the features."}
    )
    feature_cache_dir: str | None = field(
        default=None, metadata={"help": "Folder of the features. Default: _features in output_dir."}
    )
    feature_dtype: str = field(
        default="float32", metadata={"help": "Precision in which features are stored.", "choices": FEATURE_DTYPES}
    )
    # optimisation
    layer_learning_rate_decay: float | None = field(
        default=None,
        metadata={"help": "Factor of the learning rate from each of the encoder's layers to the next lower one."},
    )
    head_weighting: str = field(
        default="prior",
        metadata={
            "help": "How the heads' losses are combined: each relative to the best constant prediction ('prior'), as "
            "they are ('fixed'), both by their loss_weight, or 'uncertainty', which learns a weight for each head "
            "(Kendall, Gal and Cipolla 2018).",
            "choices": HEAD_WEIGHTINGS,
        },
    )
    encoder_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the encoder. Default: learning_rate."}
    )
    head_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Peak learning rate of the heads. Default: by the size of the encoder's features."},
    )
    threshold_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Peak learning rate of learned thresholds. Default: five times that of the encoder."},
    )

    # publishing
    model_card: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": (
                'Fields of the model card, as JSON: {"language": "nl", "license": "apache-2.0", "datasets": [...]}.'
            )
        },
    )

    def __post_init__(self) -> None:
        check_deepspeed(self.deepspeed)
        if self.deepspeed is not None and self.learning_rate is None:
            self.learning_rate = TrainingArguments.learning_rate  # DeepSpeed's configuration reads it immediately
        if self.bf16 is None:
            on_cpu = self.use_cpu or not torch.accelerator.is_available()
            is_chosen = self.fp16 or self.deepspeed is not None or "ACCELERATE_MIXED_PRECISION" in os.environ
            self.bf16 = not is_chosen and is_faster_in_bf16(on_cpu)
            if self.bf16 and on_cpu:
                self.use_cpu = True  # required by transformers
        if self.logging_steps is None:
            self.logging_steps = LOGGING_STEPS
            if IntervalStrategy(self.eval_strategy) == IntervalStrategy.STEPS:
                self.eval_steps: float | None = self.eval_steps or EVAL_STEPS
        if self.dataloader_pin_memory is None:
            self.dataloader_pin_memory = _pins_memory()
        super().__post_init__()
        if self.model_card is not None:
            self.model_card = check_given(self.model_card)
        one_of("train_sampling_strategy", self.train_sampling_strategy, SAMPLING_STRATEGIES)
        one_of("head_weighting", self.head_weighting, HEAD_WEIGHTINGS)
        one_of("feature_dtype", self.feature_dtype, FEATURE_DTYPES)
        if isinstance(self.multi_hot, str):
            self.multi_hot = {"true": True, "false": False}.get(self.multi_hot.lower(), self.multi_hot)
        check_values(self.reading)
        one_of("mixing_stop", self.mixing_stop, STOPS)
        one_of("truncation", self.truncation or "tail", TRUNCATIONS)
        one_of("window_pooling", self.window_pooling or "mean", WINDOW_POOLINGS)
        for name in (
            "num_train_epochs",
            "encoder_learning_rate",
            "head_learning_rate",
            "threshold_learning_rate",
            "layer_learning_rate_decay",
            "mixing_temperature",
        ):
            value = getattr(self, name)
            # (infinity means mixing in equal shares, or epochs without end, which max_steps ends)
            endless = name in ("mixing_temperature", "num_train_epochs") and value == math.inf
            if value is not None and not endless:
                number(name, value, above=0.0)
        for name in ("learning_rate", "weight_decay"):
            value = getattr(self, name)
            if value is not None:
                number(name, value, low=0.0)
        for name in ("gradient_accumulation_steps", "per_device_train_batch_size", "per_device_eval_batch_size"):
            whole_number(name, getattr(self, name), 1)
        whole_number("max_steps", self.max_steps, -1)
        for name, minimum in (("max_length", 1), ("max_windows", 1), ("stride", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < minimum):
                raise ValueError(f"{name} {value!r}: give a whole number of {minimum} or more")
        if isinstance(self.train_heads, str):
            self.train_heads = [self.train_heads]
        if self.mixing_probabilities is not None and not isinstance(self.mixing_probabilities, dict):
            raise ValueError(
                f"mixing_probabilities {self.mixing_probabilities!r}: give a dict or a JSON object, such as "
                '{"a": 0.7, "b": 0.3}'
            )

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Return the number of steps of linear warm-up.

        Args:
            num_training_steps: Number of all optimizer steps.

        Returns:
            That of `TrainingArguments`, but none if the share of the steps is less than one step: it would be the whole
            of a run of one step, which would train nothing, as warm-up begins at a rate of 0.
        """
        if self.warmup_steps < 1 and self.warmup_steps * num_training_steps < 1:
            return 0
        return super().get_warmup_steps(num_training_steps)

    @property
    def reading(self) -> dict[str, Any]:
        """Settings of reading labels, as the options of `prepare_dataset`."""
        return {option: getattr(self, option) for option in OPTIONS}


def check_deepspeed(settings: object) -> None:
    """Check that a DeepSpeed configuration, a dict or the name of its file, is not of ZeRO stage 3.

    Raises:
        ValueError: It is of ZeRO stage 3, with which training was observed to hang when the model is created.
    """
    if isinstance(settings, str) and os.path.isfile(settings):
        with open(settings, encoding="utf-8") as file:
            settings = json.load(file)
    zero = settings.get("zero_optimization") if isinstance(settings, Mapping) else None
    if isinstance(zero, Mapping) and zero.get("stage") == 3:
        raise ValueError(
            'deepspeed: ZeRO stage 3 is not supported, as a model in pieces cannot be made yet: set "stage": 2 in '
            "zero_optimization"
        )


def _pins_memory() -> bool:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator is not None and accelerator.type != "mps"  # PyTorch does not pin memory for MPS

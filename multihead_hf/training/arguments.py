"""Training arguments: `TrainingArguments` and what several heads need besides."""

from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Literal

from transformers import TrainingArguments

from ..data.mixing import STOPS
from ..data.reading import OPTIONS, check_values
from ..model.configuration_multihead import TRUNCATIONS, WINDOW_POOLINGS
from ..model.head_multihead import one_of
from ..publishing.card import check_given

FEATURE_DTYPES = ("float32", "bfloat16")
HEAD_WEIGHTINGS = ("fixed", "uncertainty")


@dataclass
class MultiHeadTrainingArguments(TrainingArguments):
    """Arguments of `MultiHeadTrainer`. New fields only; every default of `TrainingArguments` is unchanged.

    Args:
        text_columns: one column with the text, or two for text pairs; kept in the model's config.
        label_columns, sep, empty, multi_hot: how labels are read, as for `prepare_dataset`: each a value for all heads,
            or a dict head → value (or its JSON text). By default as the heads remember it; what is said here is kept
            in the model's config.
        max_length: tokens after which a text is cut; kept in the model's config.
        truncation, max_windows, stride, window_pooling: what becomes of longer texts, as in `MultiHeadConfig`; kept
            there.
        encoder_learning_rate: peak learning rate of the encoder; `None` is `learning_rate`.
        head_learning_rate: peak learning rate of the heads; `None` is `learning_rate`.
        threshold_learning_rate: peak learning rate of learned thresholds; `None` is five times the encoder's. They
            take no weight decay.
        mixing_probabilities: with a dict of training datasets: name → probability of the next row being its, as a dict
            or its JSON text. `None` mixes by `mixing_temperature`.
        mixing_temperature: 1 takes every row once; above 1 favours small datasets (`mix_datasets`).
        mixing_stop: `"all_exhausted"` or `"first_exhausted"`, where rows are drawn.
        freeze_encoder: train the heads only; the encoder then is in evaluation mode.
        train_heads: names of the heads to train; the others keep their weights and count in no loss. `None`: all.
        train_top_layers: train only so many of the encoder's topmost layers (and what comes after them).
        cache_features: encode every text once and train the heads on its features, with a frozen encoder. The run is
            the same as without, to rounding.
        feature_cache_dir: folder of the features; `None` is `_features` in `output_dir`, which is never pushed.
        feature_dtype: `"float32"`, or `"bfloat16"` for half the size; how much that differs is said.
        layer_learning_rate_decay: factor by which the learning rate falls with each layer of the encoder, from the top
            down to the embeddings.
        head_weighting: how the heads' losses are combined: `"fixed"` by the heads' `loss_weight`s, or
            `"uncertainty"`, which also learns one log-variance per head, at the heads' learning rate and without weight
            decay. They are no part of the published model.
        model_card: what is to be said in the model card and cannot be known here, as a dict or its JSON text:
            `language`, `license`, `datasets`, `tags`, `widget_texts` (they are published), `limits`, `base_model`.

    Raises:
        ValueError: a learning rate, decay or `max_length` that is not above 0, or an unknown name.
    """

    _VALID_DICT_FIELDS = [
        *TrainingArguments._VALID_DICT_FIELDS,
        *OPTIONS,
        "mixing_probabilities",
        "model_card",
    ]

    # data
    text_columns: list[str] | None = field(
        default=None, metadata={"help": "Column with the text, or two columns for text pairs. Default: 'text'."}
    )
    label_columns: dict[str, str | list[str]] | str | None = field(
        default=None,
        metadata={
            "help": "Column of the labels, or head → column as JSON. Default: as the head remembers, or its name."
        },
    )
    sep: dict[str, str] | str | None = field(
        default=None,
        metadata={"help": "Separator between the labels in a cell, such as '|', or head → separator as JSON."},
    )
    empty: dict[str, str] | str | None = field(
        default=None,
        metadata={
            "help": "What an empty cell of joined labels means: 'missing', or 'none' of them; or head → it as JSON."
        },
    )
    # (of a union with bool HfArgumentParser makes no option that takes JSON)
    multi_hot: dict[str, bool] | str | Literal[True, False] | None = field(
        default=None,
        metadata={"help": "Whether lists of integers hold 0 or 1 for each label (true), or label ids (false)."},
    )
    max_length: int | None = field(
        default=None, metadata={"help": "Tokens after which a text is cut. Default: the limit of the encoder."}
    )
    truncation: str | None = field(
        default=None,
        metadata={
            "help": "Of longer texts cut the tail (default) or all but head and tail, or read them in windows.",
            "choices": TRUNCATIONS,
        },
    )
    max_windows: int | None = field(default=None, metadata={"help": "Windows after which a text is cut. Default: 8."})
    stride: int | None = field(
        default=None, metadata={"help": "Tokens that a window shares with the one before. Default: 0."}
    )
    window_pooling: str | None = field(
        default=None,
        metadata={"help": "Logits over windows: 'mean' (default) or 'max'.", "choices": WINDOW_POOLINGS},
    )
    mixing_probabilities: dict[str, float] | str | None = field(
        default=None, metadata={"help": "Training dataset → probability of the next row being its, as JSON."}
    )
    mixing_temperature: float = field(
        default=1.0,
        metadata={"help": "1 takes every row of several training datasets once; above 1 favours small ones."},
    )
    mixing_stop: str = field(
        default="all_exhausted",
        metadata={"help": "When drawing from several training datasets ends.", "choices": STOPS},
    )
    # what is trained
    freeze_encoder: bool = field(default=False, metadata={"help": "Train the heads only."})
    train_heads: list[str] | None = field(default=None, metadata={"help": "Names of the heads to train. Default: all."})
    train_top_layers: int | None = field(
        default=None, metadata={"help": "Train only so many of the encoder's topmost layers. Default: all."}
    )
    cache_features: bool = field(
        default=False, metadata={"help": "With a frozen encoder: encode every text once, and train on the features."}
    )
    feature_cache_dir: str | None = field(
        default=None, metadata={"help": "Folder of the features. Default: _features in output_dir."}
    )
    feature_dtype: str = field(
        default="float32", metadata={"help": "Precision in which features are kept.", "choices": FEATURE_DTYPES}
    )
    # optimisation
    layer_learning_rate_decay: float | None = field(
        default=None,
        metadata={"help": "Factor of the learning rate from each of the encoder's layers to the next lower one."},
    )
    head_weighting: str = field(
        default="fixed",
        metadata={
            "help": "How the heads' losses are combined: 'fixed' by their loss_weight, or 'uncertainty', which learns "
            "a weight for each head (Kendall, Gal and Cipolla 2018).",
            "choices": HEAD_WEIGHTINGS,
        },
    )
    encoder_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the encoder. Default: learning_rate."}
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate of the heads. Default: learning_rate."}
    )
    threshold_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Peak learning rate of learned thresholds. Default: five times that of the encoder."},
    )

    # publishing
    model_card: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": 'For the model card, as JSON: {"language": "nl", "license": "apache-2.0", "datasets": [...]}.'
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_card is not None:
            self.model_card = check_given(self.model_card)
        one_of("head_weighting", self.head_weighting, HEAD_WEIGHTINGS)
        one_of("feature_dtype", self.feature_dtype, FEATURE_DTYPES)
        if isinstance(self.multi_hot, str):
            self.multi_hot = {"true": True, "false": False}.get(self.multi_hot.lower(), self.multi_hot)
        check_values(self.reading)
        one_of("mixing_stop", self.mixing_stop, STOPS)
        one_of("truncation", self.truncation or "tail", TRUNCATIONS)
        one_of("window_pooling", self.window_pooling or "mean", WINDOW_POOLINGS)
        for name in (
            "encoder_learning_rate",
            "head_learning_rate",
            "threshold_learning_rate",
            "layer_learning_rate_decay",
            "mixing_temperature",
        ):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Real) or isinstance(value, bool) or not float(value) > 0):
                raise ValueError(f"{name} {value!r}: give a number above 0")
        for name, least in (("max_length", 1), ("max_windows", 1), ("stride", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < least):
                raise ValueError(f"{name} {value!r}: give a whole number of {least} or more")
        if isinstance(self.train_heads, str):
            self.train_heads = [self.train_heads]
        if self.mixing_probabilities is not None and not isinstance(self.mixing_probabilities, dict):
            raise ValueError(
                f"mixing_probabilities {self.mixing_probabilities!r}: give a dict or a JSON object, such as "
                '{"a": 0.7, "b": 0.3}'
            )

    @property
    def reading(self) -> dict[str, Any]:
        """How labels are read, as the options of `prepare_dataset`."""
        return {option: getattr(self, option) for option in OPTIONS}

"""Configuration of a multi-head model: one encoder, any number of named classification heads.

This file travels with every saved model. It needs the standard library and transformers only.
"""

import copy
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from .head_multihead import LOSS_SETTINGS, HeadConfig
from .values_multihead import check_text, is_a, near_names, of_kind, one_of

FORMAT_VERSION = 1
POOLINGS = ("cls", "mean", "max", "last")
TRUNCATIONS = ("tail", "head+tail", "windows")
WINDOW_POOLINGS = ("mean", "max")
# Keywords that PreTrainedConfig reads without declaring them.
_KEYWORDS = (
    "name_or_path",
    "attn_implementation",
    "experts_implementation",
    "output_attentions",
    "torch_dtype",
    "num_labels",
)
# Attributes of an encoder's config that other code reads and sets through the multi-head config.
_ENCODER_SETTINGS = (
    "hidden_size",
    "vocab_size",
    "max_position_embeddings",
    "num_hidden_layers",
    "num_attention_heads",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "cls_token_id",
    "sep_token_id",
)


# Settings that must have one type; names, and numbers within limits, are checked separately.
_KINDS: dict[str, type] = {
    **dict.fromkeys(("pooling", "truncation", "window_pooling", "text_prefix", "heads_dtype"), str),
    **dict.fromkeys(("max_length", "max_windows", "stride", "format_version"), int),
    **dict.fromkeys(("return_dict", "output_hidden_states", "output_attentions"), bool),
}

HeadsLike = Mapping[str, "HeadConfig | Mapping[str, Any]"] | Iterable[Mapping[str, Any]]


def read_heads(heads: HeadsLike | None, saved: bool = False) -> dict[str, HeadConfig]:
    """Return the heads by name, in the user's order, as independent copies.

    Args:
        heads: A dict name → `HeadConfig` or its settings, or a list of settings that also contain the `name`.
        saved: Whether the heads come from a `config.json`.

    Raises:
        ValueError: There are no heads, two heads have the same name, a name is empty, or settings are wrong; the
            message names the head.
    """
    if not heads or not isinstance(heads, Iterable):
        given = "" if heads is None or isinstance(heads, Iterable) else f", not a {type(heads).__name__}"
        raise ValueError(f"a multi-head model needs heads: heads={{'topic': HeadConfig(labels=['a', 'b'])}}{given}")
    entries: list[tuple[Any, Any]] = []
    if isinstance(heads, Mapping):
        entries = list(heads.items())
    else:
        for entry in heads:
            if not isinstance(entry, Mapping) or "name" not in entry:
                raise ValueError(f"heads given as a list must be dicts with a 'name' and 'labels', not {entry!r}")
            entries.append((entry["name"], {key: value for key, value in entry.items() if key != "name"}))
    read: dict[str, HeadConfig] = {}
    for name, head in entries:
        if not isinstance(name, str) or not name:
            raise ValueError(f"head name {name!r}: a head's name is a text of at least one character")
        check_text("head name", name)
        if "\0" in name:
            raise ValueError(f"head name {name!r} contains NUL: no column can have that name")
        if name in read:
            raise ValueError(f"head {name!r}: two heads have this name; names are unique")
        settings = head.to_dict() if is_a(head, HeadConfig) else head
        if not isinstance(settings, Mapping):
            raise ValueError(f"head {name!r}: give a HeadConfig or a dict of its settings, not {type(head).__name__}")
        try:
            read[name] = HeadConfig.from_saved(settings) if saved or _keeps_loss(head) else HeadConfig(**settings)
        except ValueError as error:
            raise ValueError(f"head {name!r}: {error}") from None
    return read


def _keeps_loss(head: object) -> bool:
    """Return whether a `HeadConfig` has an unknown loss, which only one from a saved config can have."""
    return is_a(head, HeadConfig) and head.loss not in LOSS_SETTINGS


def _encoder_setting(name: str) -> property:
    def read(self: "MultiHeadConfig") -> object:
        return getattr(self.encoder, name)

    def write(self: "MultiHeadConfig", value: object) -> None:
        setattr(self.encoder, name, value)

    return property(read, write, doc=f"`{name}` of the encoder; setting it here sets it there.")


class MultiHeadConfig(PreTrainedConfig):
    """Configuration of `MultiHeadModel`: the encoder's config, the heads, and the settings of inference.

    Args:
        encoder: Config of the encoder (a `PreTrainedConfig` or its dict); it is copied.
        heads: Dict name → `HeadConfig` (or its settings as a dict), or a list of dicts with a `name`. In `config.json`
            it is a list, because that file is written with sorted keys and the order of the heads matters.
        pooling: `"cls"`, `"mean"`, `"max"` or `"last"`; `None` means `"last"` for decoder-only encoders, `"mean"` for
            T5-like ones (neither has a token that represents the text at its start) and `"cls"` for all others.
            (`MultiHeadModel.from_encoder` first reads sentence-transformers files of the encoder, which may have a
            `pooling`, a `max_length` and a `text_prefix`.)
        max_length: Maximum number of tokens per text; longer texts are truncated. `None` means the encoder's limit.
        truncation: How longer texts are read: `"tail"` cuts off the end (or the beginning, where the tokenizer has
            `truncation_side="left"`), `"head+tail"` removes the middle, `"windows"` reads windows of `max_length`
            tokens and pools their logits. The last two take single texts only.
        max_windows: Maximum number of windows per text; longer texts are truncated.
        stride: Number of tokens that a window shares with the one before.
        window_pooling: Pooling of the logits over windows: `"mean"` or `"max"`.
        text_columns: Columns that held the text (two for text pairs).
        text_prefix: Text put before each text (the first of a pair, the first window), such as `"query: "`.
        heads_dtype: `"float32"` if the heads are kept in float32 beside a half-precision encoder, else `None`.
        format_version: Version of this format, written on save. A newer one than this library's is refused.

    Raises:
        ValueError: A setting is wrong; the message names the head of a head's setting.

    Example:
        >>> from multihead_hf import MultiHeadConfig
        >>> config = MultiHeadConfig.from_pretrained("complaints")
        >>> list(config.heads)
        ['topics', 'mood']
    """

    model_type = "multihead"
    sub_configs = {"encoder": AutoConfig}
    has_no_defaults_at_init = True  # there is no model without an encoder and heads
    keys_to_ignore_at_inference = ["losses", "loss_terms", "loss_statistics", "hidden_states", "attentions"]

    encoder: Any = None
    heads: Any = None
    pooling: str | None = None
    max_length: int | None = None
    truncation: str = "tail"
    max_windows: int = 8
    stride: int = 0
    window_pooling: str = "mean"
    text_columns: list[str] | None = None
    text_prefix: str | None = None
    heads_dtype: str | None = None
    format_version: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for name, kind in _KINDS.items():
            of_kind(name, kwargs.get(name, getattr(self, name, None)), kind)
        saved = self.format_version is not None
        if self.format_version is None:
            if "auto_map" in kwargs:
                raise ValueError(
                    "config.json has no format_version: it was not written by multihead_hf, or changed since; it is "
                    f'"format_version": {FORMAT_VERSION} in this version'
                )
            self._refuse_unknown(kwargs)
            self.format_version = FORMAT_VERSION
        elif self.format_version > FORMAT_VERSION:
            raise ValueError(
                f"this model was saved in format_version {self.format_version}, but this installation of "
                f"multihead_hf reads versions up to {FORMAT_VERSION}: pip install -U multihead-hf"
            )
        self.encoder = _read_encoder(self.encoder)
        self.heads = read_heads(self.heads, saved=saved)
        if self.pooling is None:
            self.pooling = default_pooling(self.encoder)
        self.check_text_settings()
        # the base class also sets the attention implementation of sub-configs; the encoder keeps its own by default
        attention = self.encoder._attn_implementation
        asked = kwargs.get("attn_implementation") is not None
        has_labels = getattr(self, "id2label", None) is not None or kwargs.get("num_labels") is not None
        super().__post_init__(**kwargs)
        if not has_labels:  # LABEL_0 and LABEL_1, the defaults of transformers, are not labels of any head
            self.id2label, self.label2id = None, None
        if not asked:
            self.encoder._attn_implementation = attention

    def check_text_settings(self) -> None:
        """Check the settings by which texts become vectors; they may have been changed since they were read.

        Raises:
            ValueError: A setting is wrong.
        """
        one_of("pooling", self.pooling, POOLINGS)
        one_of("truncation", self.truncation, TRUNCATIONS)
        one_of("window_pooling", self.window_pooling, WINDOW_POOLINGS)
        of_kind("text_prefix", self.text_prefix, str)
        of_kind("text_columns", self.text_columns, str, several=True)
        whole = type(self.max_windows) is int and type(self.stride) is int
        if not whole or self.max_windows < 1 or self.stride < 0:
            raise ValueError(
                f"max_windows {self.max_windows}, stride {self.stride}: give whole numbers, max_windows above 0 and "
                "stride of 0 or more"
            )
        if self.max_length is not None and (type(self.max_length) is not int or self.max_length < 1):
            raise ValueError(f"max_length {self.max_length!r}: give a whole number above 0, or None")
        if self.text_columns is not None and len(self.text_columns) not in (1, 2):
            raise ValueError(f"text_columns {self.text_columns}: give one column, or two for text pairs")

    def _refuse_unknown(self, unknown: Mapping[str, Any]) -> None:
        """Refuse keywords that are not settings.

        Transformers keeps any keyword as an attribute. In a config that somebody writes, an unknown keyword is a
        mistake; in a saved config, it may come from a newer version of transformers.
        """
        model_settings = [*MultiHeadConfig.__annotations__, *_ENCODER_SETTINGS]
        head_settings = [field.name for field in fields(HeadConfig)]
        if self.problem_type is not None:
            unknown = {**unknown, "problem_type": self.problem_type}
        for name in unknown:
            if name in head_settings and name not in _ENCODER_SETTINGS:
                raise ValueError(f"{name!r} is a setting of a head: heads={{'name': HeadConfig(..., {name}=...)}}")
            if name not in (*model_settings, *_KEYWORDS) and not hasattr(type(self), name) and not name.startswith("_"):
                near = near_names(name, model_settings + head_settings)
                raise ValueError(f"unknown setting {name!r}.{near} Known: {', '.join(MultiHeadConfig.__annotations__)}")

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PreTrainedConfig:
        """Return the encoder's text config, which holds the vocabulary size that `resize_token_embeddings` changes.

        Args:
            decoder: As for the base class.
            encoder: As for the base class.
        """
        return self.encoder.get_text_config(decoder=decoder, encoder=encoder)

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values, with the heads as a list of dicts in their order."""
        # transformers rewrites nested dicts (and drops keys such as "dtype"), so it must not get heads as a dict
        clone = copy.copy(self)
        entries = [{"name": name, **head.to_dict()} for name, head in read_heads(self.heads, saved=True).items()]
        clone.__dict__.update(heads=entries)
        settings = super(MultiHeadConfig, clone).to_dict()
        unset = [name for name in ("id2label", "label2id") if settings.get(name) is None]
        return {name: value for name, value in settings.items() if name not in unset}

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the configuration as it is saved: without the encoder's "LABEL_0", "LABEL_1", labels of no head."""
        settings = super().to_diff_dict()
        if isinstance(settings.get("encoder"), dict):
            settings["encoder"] = {
                name: value for name, value in settings["encoder"].items() if name not in ("id2label", "label2id")
            }
        return settings

    def check_saveable(self) -> None:
        """Check that the configuration can be saved and read again.

        Raises:
            ValueError: A setting was changed to a value that cannot be read again, or a head has `"balanced"` weights
                that are not computed yet; the message names the head.
        """
        type(self)(**self.to_dict())
        for name, head in self.heads.items():
            if (setting := head.unresolved) is not None:
                raise ValueError(
                    f"head {name!r}: {setting}='balanced' is not computed yet and cannot be saved: train first "
                    "(MultiHeadTrainer computes it from the training data), or give the weights as numbers"
                )

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """Save the configuration, as `PreTrainedConfig.save_pretrained`.

        Args:
            save_directory: Folder to write `config.json` into.
            *args: As for the base class.
            **kwargs: As for the base class.

        Raises:
            ValueError: As for `check_saveable`; nothing has been written then.
        """
        self.check_saveable()
        super().save_pretrained(save_directory, *args, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> "MultiHeadConfig":
        """Make a configuration from a dict, as `PreTrainedConfig.from_dict`.

        Args:
            config_dict: Content of a `config.json`.
            **kwargs: As for the base class.

        Returns:
            The configuration; with `return_unused_kwargs=True`, also the keywords that are not settings.

        Raises:
            ValueError: `config_dict` is not the config of a multi-head model, but of a plain encoder, for instance.
        """
        model_type = config_dict.get("model_type", cls.model_type)
        if model_type != cls.model_type:
            raise ValueError(
                f"this is a checkpoint of a plain {model_type!r} model without heads. To add heads to it: "
                "MultiHeadModel.from_encoder(name_or_path, heads={'topic': HeadConfig(labels=[...])})"
            )
        return super().from_dict(config_dict, **kwargs)


for _name in _ENCODER_SETTINGS:
    setattr(MultiHeadConfig, _name, _encoder_setting(_name))


def _read_encoder(encoder: object) -> PreTrainedConfig:
    if isinstance(encoder, PreTrainedConfig):
        return _with_hidden_size(copy.deepcopy(encoder))
    if not isinstance(encoder, Mapping):
        raise ValueError("a multi-head model needs an encoder: encoder=AutoConfig.from_pretrained(name_or_path)")
    model_type = encoder.get("model_type")
    if model_type not in CONFIG_MAPPING:
        raise ValueError(
            f"encoder: model_type {model_type!r} is unknown in this version of "
            f"transformers.{near_names(model_type, CONFIG_MAPPING.keys())}"
        )
    settings = {key: copy.deepcopy(value) for key, value in encoder.items() if key != "model_type"}
    return _with_hidden_size(CONFIG_MAPPING[model_type](**settings))


def _with_hidden_size(encoder: PreTrainedConfig) -> PreTrainedConfig:
    if not isinstance(getattr(encoder, "hidden_size", None), int):
        raise ValueError(
            f"encoder: a {type(encoder).__name__} has no hidden_size at its top level, so it is not a single text "
            "encoder; give the config of its text encoder"
        )
    return encoder


def is_decoder_only(encoder: PreTrainedConfig) -> bool:
    """Return whether attention is causal, so that only the last token depends on the whole text."""
    model_type = encoder.model_type
    return (
        model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        and model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        and not encoder.is_encoder_decoder
    )


_T5_LIKE = ("t5", "mt5", "umt5", "longt5", "switch_transformers")


def default_pooling(encoder: PreTrainedConfig) -> str:
    """Return the default pooling of an encoder; see `MultiHeadConfig`."""
    if is_decoder_only(encoder):
        return "last"
    return "mean" if encoder.model_type in _T5_LIKE else "cls"

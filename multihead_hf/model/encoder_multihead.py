"""Encoders without the other parts of the models that transformers' Auto classes build.

This file travels with every saved model.
"""

import copy
import inspect
import math
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import logging

from .configuration_multihead import MultiHeadConfig
from .modes_multihead import evaluating
from .values_multihead import near_names, of_kind
from .weights_multihead import tensors_only, without_bars

logger = logging.get_logger(__name__)

_Found = TypeVar("_Found")

_MISSING_SHOWN = 5


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """Return an encoder with fresh weights, initialised by its class."""

    def build(model_class: type[PreTrainedModel], **arguments: Any) -> PreTrainedModel:
        try:
            return model_class._from_config(config, **arguments)
        except KeyError as error:  # the name of an activation, for instance
            raise ValueError(f"encoder: its configuration names {error}, which transformers does not know") from error

    return encoder_alone(config, build)


def encoder_alone(config: PreTrainedConfig, make: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    """Return the encoder of `make(model_class, **arguments)`, without a decoder and without an unused pooler."""
    # the class attribute: T5EncoderModel clears `is_encoder_decoder` on the config it is built from
    encoder_decoder = type(config).is_encoder_decoder
    if encoder_decoder and type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        model_class = MODEL_FOR_TEXT_ENCODING_MAPPING[type(config)]
    elif type(config) in MODEL_MAPPING:
        model_class = MODEL_MAPPING[type(config)]
    else:
        raise ValueError(f"transformers has no encoder for a {type(config).__name__} ({config.model_type!r})")
    if isinstance(model_class, (list, tuple)):
        model_class = model_class[0]
    if encoder_decoder and type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING:
        config.is_encoder_decoder = False  # some of these classes set it themselves, others require it
    takes_pooler = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    encoder = make(model_class, **({"add_pooling_layer": False} if takes_pooler else {}))
    if encoder_decoder and type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        encoder = encoder.get_encoder()
    freeze_unused_pooler(encoder)
    return encoder


def pretrained_encoder(config: PreTrainedConfig, name_or_path: str | os.PathLike, **options: Any) -> PreTrainedModel:
    """Return an encoder with the weights of a checkpoint.

    Other weights of a checkpoint (a pooler, a language model's head) are ignored without a warning.

    Args:
        config: Configuration of the encoder.
        name_or_path: Hub id or folder.
        options: Keyword arguments of `from_pretrained`.

    Raises:
        ValueError: The checkpoint lacks weights of the encoder, which would be initialised at random, or the weights
            are a pickle that contains more than tensors.
    """
    missing: dict[int, str] = {}  # id of a parameter → its name

    def load(model_class: type[PreTrainedModel], **arguments: Any) -> PreTrainedModel:
        defaults = {"config": config, "output_loading_info": True, "ignore_mismatched_sizes": True}
        arguments = {**defaults, **options, **arguments}
        with tensors_only(name_or_path):
            model, info = without_bars(_without_report, model_class.from_pretrained, name_or_path, **arguments)
        random = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])}
        missing.update((id(weights), name) for name, weights in model.named_parameters() if name in random)
        return model

    encoder = encoder_alone(config, load)
    used = {id(weights) for name, weights in encoder.named_parameters() if not name.startswith("pooler.")}
    names = sorted(name for key, name in missing.items() if key in used)
    if names:
        more = f" and {len(names) - _MISSING_SHOWN:,} more" if len(names) > _MISSING_SHOWN else ""
        raise ValueError(
            f"{name_or_path} lacks weights of the encoder, or has them in other sizes, and they would start at random: "
            f"{len(names):,} parameters, "
            f"{', '.join(names[:_MISSING_SHOWN])}{more}. Is it a checkpoint of this architecture "
            f"({config.model_type}), or are its weights under other names? An encoder without pretrained weights is "
            "MultiHeadModel(MultiHeadConfig(encoder=config, heads=heads))"
        )
    return encoder


def _without_report(function: Callable[..., _Found], *args: Any, **kwargs: Any) -> _Found:
    """Call a function without transformers' report on missing and unexpected weights of a checkpoint.

    If the function raises an error, the report is shown, because the error refers to it.
    """
    reports: list[Any] = []
    source = logging.get_logger(PreTrainedModel.__module__)

    def is_other(record: Any) -> bool:  # noqa: ANN401 (a LogRecord, of a module that this file does not import)
        if "LOAD REPORT" in record.getMessage():
            reports.append(record)
        return record not in reports

    source.addFilter(is_other)
    try:
        result = function(*args, **kwargs)
        reports.clear()
    finally:
        source.removeFilter(is_other)
        for report in reports:
            source.handle(report)
    return result


def freeze_unused_pooler(encoder: nn.Module) -> None:
    """Freeze a pooler that the class always creates: it gets no gradient here, and DDP would raise an error."""
    pooler = getattr(encoder, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.requires_grad_(False)


_TABLES: dict[Hashable, float] = {}  # kind of encoder → number of its position embeddings


def max_positions(config: PreTrainedConfig) -> float:
    """Return the number of tokens that an encoder's config allows; infinite if it has no limit."""
    positions = getattr(config, "max_position_embeddings", None) or math.inf
    return min(positions if positions > 0 else math.inf, position_table(config))  # XLNet has −1


def position_table(config: PreTrainedConfig) -> float:
    """Return the number of tokens that an encoder's position embeddings have rows for.

    Longer texts cannot be read. The number is infinite for an encoder without such a table (rotary or relative
    positions).
    """
    sizes = {key: value for key, value in vars(config).items() if "position" in key and isinstance(value, int)}
    key = (type(config), getattr(config, "pad_token_id", None), tuple(sorted(sizes.items())))
    if key not in _TABLES:
        with torch.device("meta"):
            encoder = build_encoder(copy.deepcopy(config))
        rows = min(
            (_usable_rows(module) for name, module in encoder.named_modules() if _is_table(name, module)), default=0
        )
        # (Longformer and LED pad texts to a multiple of the attention window, and the padding needs positions too)
        windows = getattr(config, "attention_window", 1)
        rows -= rows % (max(windows) if isinstance(windows, (list, tuple)) else windows or 1)
        _TABLES[key] = rows or math.inf
    return _TABLES[key]


def _is_table(name: str, module: nn.Module) -> bool:
    attribute = name.rpartition(".")[2]
    weight = getattr(module, "weight", None)
    # (CANINE's `char_position_embeddings` have a row for each hash bucket)
    is_named_so = ("position" in attribute and not attribute.startswith("char_")) or attribute == "wpe"
    return is_named_so and isinstance(weight, Tensor) and weight.dim() == 2


def _usable_rows(table: nn.Module) -> float:
    """Return the rows of a position table without those before the first position.

    RoBERTa and others count positions from the padding id; BART and others skip the first two rows.
    """
    weight, padding = table.get_parameter("weight"), getattr(table, "padding_idx", None)
    before: Any = getattr(table, "offset", 0) if padding is None else padding + 1
    return weight.shape[0] - before


_TRIED: set[Hashable] = set()  # kinds of encoder already tried


@torch.no_grad()
def try_encoder(model: PreTrainedModel) -> None:
    """Encode two made-up texts with a new model, separately and in one batch, once for each kind of encoder.

    Args:
        model: A `MultiHeadModel` with weights.

    Raises:
        ValueError: It has no vectors of tokens, their width is not `hidden_size`, they depend on padding, or all texts
            have the same vector.
    """
    config = model.config.encoder
    kind = (type(config), config.hidden_size, getattr(config, "vocab_size", None), model.config.pooling)
    if kind in _TRIED or any(parameter.device.type != "cpu" for parameter in model.parameters()):
        return
    size = min(getattr(config, "vocab_size", None) or 100, 1000)
    tokens = torch.arange(24).remainder(max(size - 5, 1)).add(min(5, size - 1)).view(1, 24)
    short = torch.cat([tokens[:, :6], tokens[:, :6] * 0 + (getattr(config, "pad_token_id", None) or 0)], 1)
    batch = torch.cat([tokens[:, 6:18], short])
    batch[0, 0] = batch[1, 0]  # texts usually begin with the same special token
    mask = torch.ones_like(batch)
    mask[1, 6:] = 0
    with torch.random.fork_rng(devices=[]), evaluating(model):
        try:
            alone, both = model.encode(tokens[:, :6], mask[:1, :6]), model.encode(batch, mask)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            logger.warning(
                f"the encoder ({config.model_type}) could not read two generated texts, and may not be able to read "
                f"yours: {type(error).__name__}: {error}"
            )
            _TRIED.add(kind)
            return
        except AttributeError as error:
            if "last_hidden_state" not in str(error):
                raise
            raise ValueError(
                f"encoder: a {type(config).__name__} gives no vectors of tokens (last_hidden_state), so heads cannot "
                "be put on it: choose another encoder"
            ) from error
    width = alone.shape[-1]
    if width != config.hidden_size:
        raise ValueError(
            f"encoder: a {type(config).__name__} with hidden_size {config.hidden_size} gives vectors of width {width}: "
            "heads cannot be put on it"
        )
    # (small differences can round to zero in narrow half-precision encoders)
    differ = size > 32 and both.dtype in (torch.float32, torch.float64)
    if differ and torch.equal(both[0], both[1]):
        raise ValueError(
            f"encoder: a {type(config).__name__} with pooling={model.config.pooling!r} gives one vector for all texts "
            "that begin with the same token, so every text would have the same labels. If it reads from left to right, "
            "choose pooling='last' or 'mean'; if not, its attention does not work here, so choose another encoder"
        )
    gap = (both[1] - alone[0]).abs().max() / alone.abs().max().clamp(min=1e-6)
    if gap > (1e-2 if alone.dtype == torch.float32 else 0.2):
        if "attention_mask" not in inspect.signature(type(model.encoder).forward).parameters:
            raise ValueError(
                f"encoder: a {type(config).__name__} reads padding as if it were text (it has no attention mask), so "
                "that a text's labels would depend on the other texts in the batch: choose another encoder"
            )
        # (of CANINE the README says it)
        (logger.info if config.model_type == "canine" else logger.warning)(
            f"the encoder ({config.model_type}) encodes a text differently in a batch with longer texts "
            f"than alone: its vectors differ by up to {gap:.1%}. Predict texts one by one where that matters"
        )
    _TRIED.add(kind)


class RightPadding:
    """A batch with padding on the left, which is moved to the right.

    Most encoders count positions from the first column, even if it is padding. (Rows are always moved: a check
    whether this is necessary would synchronise with the device.)

    Args:
        mask: (batch, length), 1 for tokens and 0 for padding on either side.
    """

    def __init__(self, mask: Tensor) -> None:
        first = (mask != 0).int().argmax(1, keepdim=True)  # (batch, 1); 0 for a row without a token
        self._length = mask.shape[1]
        self._places = torch.arange(self._length, device=mask.device)
        self._first = first

    def moved(self, values: Tensor) -> Tensor:
        """Return values (batch, length, …) with each row's first token in the first column."""
        places = self._places + self._first  # (batch, length); the padding of the beginning follows after the end
        return self._at(values, torch.where(places < self._length, places, places - self._length))

    def back(self, values: Tensor, dims: Iterable[int]) -> Tensor:
        """Return values in the order of the original batch, along the dimensions that have the batch's length.

        CANINE also has tensors of other lengths in between.
        """
        if not self._first.any():
            return values  # the same tensor, so that its gradient can be requested
        for dim in dims:
            if values.shape[dim] == self._length:
                places = self._places - self._first
                places = torch.where(places >= 0, places, places + self._length)
                values = self._at(values.transpose(1, dim), places).transpose(1, dim)
        return values

    def _at(self, values: Tensor, places: Tensor) -> Tensor:
        return values.gather(1, places.view(*places.shape, *[1] * (values.dim() - 2)).expand_as(values))


def lengthen(config: PreTrainedConfig, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add masked padding to a batch shorter than `downsampling_rate`, over which CANINE pools.

    Args:
        config: Configuration of the encoder.
        inputs: Tensors (batch, length); returned unchanged for other encoders and longer texts.
    """
    length = next(iter(inputs.values())).shape[1]
    missing = config.downsampling_rate - length if config.model_type == "canine" else 0
    if missing <= 0:
        return inputs
    return {name: nn.functional.pad(tensor, (0, missing)) for name, tensor in inputs.items()}


# names of the dropout inside the attention, in the configurations that have a setting of its own for it
_ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout", "attn_pdrop")


def pretrained_config(
    name_or_path: str | os.PathLike,
    changes: Mapping[str, Any] | None,
    trust_remote_code: bool | None,
    hub: Mapping[str, Any],
) -> PreTrainedConfig:
    """Return the configuration of a pretrained encoder, without dropout in its attention.

    No code of its repository is run. Dropout in the attention keeps PyTorch from its fast kernel on CPUs, and none of
    five heads was clearly worse without (one seed, benchmarks/README.md). Encoders whose setting is for other layers,
    too, such as T5, keep it.

    Args:
        name_or_path: Name on the Hub or folder of the encoder.
        changes: Settings of the configuration that are changed.
        trust_remote_code: Whether the user asked for the code of the repository.
        hub: Options of the Hub, such as `revision`.

    Raises:
        ValueError: The encoder would run code from its repository, it is a multi-head model, or its configuration does
            not have a setting.
    """
    _check_is_there(name_or_path)
    try:
        settings, _ = PreTrainedConfig.get_config_dict(name_or_path, **hub)
    except OSError as error:
        if os.path.isdir(name_or_path):
            raise
        raise OSError(
            f"encoder {str(name_or_path)!r}: no folder here, nor on the Hub as far as can be seen: {error}"
        ) from error
    has_own_code = "AutoModel" in settings.get("auto_map", {}) or "AutoConfig" in settings.get("auto_map", {})
    native = settings.get("model_type") in CONFIG_MAPPING_NAMES
    if has_own_code and settings.get("model_type") != MultiHeadConfig.model_type and (trust_remote_code or not native):
        advice = "leave trust_remote_code out: transformers has this architecture itself" if native else "choose one"
        raise ValueError(
            f"{name_or_path}: this encoder runs code of its own repository ({settings['auto_map']}). A saved "
            "multi-head model could not load it again, so it is refused: use an encoder whose architecture is part "
            f"of transformers ({advice})"
        )
    config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code, **hub)
    if config.model_type == MultiHeadConfig.model_type:
        raise ValueError(f"{name_or_path} is already a multi-head model: use MultiHeadModel.from_pretrained(...)")
    for name in _ATTENTION_DROPOUT:
        if hasattr(config, name):
            setattr(config, name, 0.0)
    of_kind("encoder_settings", changes, Mapping)
    for name in changes or ():
        known = list(config.to_dict())
        if name not in known:
            raise ValueError(f"encoder_settings: a {type(config).__name__} has no {name!r}.{near_names(name, known)}")
    for name, value in (changes or {}).items():
        try:
            setattr(config, name, value)
        except Exception as error:  # (each version of transformers checks types with a class of its own)
            raise ValueError(f"encoder_settings: {name} {value!r}: {' '.join(str(error).split())}") from error
    return config


def _check_is_there(name_or_path: str | os.PathLike) -> None:
    """Raise `ValueError` for a path that is no folder; of names on the Hub transformers says more."""
    path = str(name_or_path)
    if not os.path.isdir(path) and (not path or path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise ValueError(
            f"encoder {path!r}: there is no such folder. Give a folder, or a name on the Hub such as "
            "'sentence-transformers/all-MiniLM-L6-v2'"
        )

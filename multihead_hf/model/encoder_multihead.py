"""Taking the encoder alone out of what transformers' Auto classes build.

This file travels with every saved model.
"""

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.utils import logging
from transformers.utils.logging import EmptyTqdm, set_tqdm_hook

from .configuration_multihead import MultiHeadConfig

logger = logging.get_logger(__name__)

_MISSING_SHOWN = 5


def build_encoder(config: PreTrainedConfig) -> PreTrainedModel:
    """An encoder with fresh weights, initialised as its own class would."""

    def build(model_class: type[PreTrainedModel], **arguments: Any) -> PreTrainedModel:
        return model_class._from_config(config, **arguments)

    return encoder_alone(config, build)


def encoder_alone(config: PreTrainedConfig, make: Callable[..., PreTrainedModel]) -> PreTrainedModel:
    """The encoder that `make(model_class, **arguments)` gives, without a decoder and without an unused pooler."""
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
        config.is_encoder_decoder = False  # what some of these classes do themselves, and others insist on
    takes_pooler = "add_pooling_layer" in inspect.signature(model_class.__init__).parameters
    encoder = make(model_class, **({"add_pooling_layer": False} if takes_pooler else {}))
    if encoder_decoder and type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        encoder = encoder.get_encoder()
    freeze_unused_pooler(encoder)
    return encoder


def pretrained_encoder(config: PreTrainedConfig, name_or_path: Any, **options: Any) -> PreTrainedModel:
    """The encoder alone, with the weights of a checkpoint.

    A checkpoint's further weights (a pooler, the head of a language model) are passed over in silence. Weights of the
    encoder that the checkpoint lacks are random, and are named in a warning.

    Args:
        config: the encoder's.
        name_or_path: Hub id or folder.
        options: for `from_pretrained`.
    """
    missing: dict[int, str] = {}  # id of a parameter → its name

    def load(model_class: type[PreTrainedModel], **arguments: Any) -> PreTrainedModel:
        arguments = {"config": config, "output_loading_info": True, **options, **arguments}
        model, info = without_bars(_without_report, model_class.from_pretrained, name_or_path, **arguments)
        missing.update((id(own), name) for name, own in model.named_parameters() if name in info["missing_keys"])
        return model

    encoder = encoder_alone(config, load)
    used = {id(own) for name, own in encoder.named_parameters() if not name.startswith("pooler.")}
    names = sorted(name for key, name in missing.items() if key in used)
    if names:
        more = f" and {len(names) - _MISSING_SHOWN:,} more" if len(names) > _MISSING_SHOWN else ""
        logger.warning(
            f"{name_or_path} has no weights for {len(names):,} parameters of the encoder, which start at random: "
            f"{', '.join(names[:_MISSING_SHOWN])}{more}. Is it a checkpoint of this architecture ({config.model_type})?"
        )
    return encoder


def without_bars(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function, and meanwhile show none of transformers' own progress bars (of weights that are read or
    written); downloads have others."""
    before = set_tqdm_hook(lambda factory, args, kwargs: EmptyTqdm(*args, **kwargs))
    try:
        return function(*args, **kwargs)
    finally:
        set_tqdm_hook(before)


def _without_report(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function, and hold back transformers' report on a checkpoint's weights, unless an error follows, which
    refers to it."""
    reports: list[Any] = []
    source = logging.get_logger(PreTrainedModel.__module__)

    def is_other(record: Any) -> bool:
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
    """Some classes always make a pooler, and it gets no gradient here: a trainable one would stop DDP."""
    pooler = getattr(encoder, "pooler", None)
    if isinstance(pooler, nn.Module):
        pooler.requires_grad_(False)


# encoders whose positions start after the padding id, so that the last ones cannot be used
_OFFSET_POSITIONS = (
    "camembert",
    "data2vec-text",
    "longformer",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xmod",
)


def max_positions(config: PreTrainedConfig) -> float:
    """The number of tokens that an encoder has positions for; infinite for one that does not limit it."""
    positions = getattr(config, "max_position_embeddings", None) or math.inf
    positions = positions if positions > 0 else math.inf  # XLNet says −1
    if config.model_type in _OFFSET_POSITIONS:
        positions -= (config.pad_token_id or 0) + 1
    return positions


# encoders with a learned table of positions from 0, which must not count the padding on the left
_POSITIONS_FROM_ZERO = (
    "albert",
    "bert",
    "bert-generation",
    "big_bird",
    "canine",
    "convbert",
    "distilbert",
    "electra",
    "ernie",
    "gpt2",
    "gpt_neo",
    "megatron-bert",
    "mobilebert",
    "nystromformer",
    "openai-gpt",
    "rembert",
    "roc_bert",
    "squeezebert",
)


def positions(config: PreTrainedConfig, mask: Tensor | None, takes: Collection[str]) -> Tensor | None:
    """Positions (batch, length) that count each row's tokens from 0, for encoders that would count padding as well;
    `None` where the encoder knows better itself (rotary, relative, or counted from the ids)."""
    if mask is None or config.model_type not in _POSITIONS_FROM_ZERO or "position_ids" not in takes:
        return None
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def lengthen(config: PreTrainedConfig, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """CANINE pools over `downsampling_rate` characters and cannot read fewer: such a batch gets masked padding.

    Args:
        config: the encoder's.
        inputs: tensors (batch, length); returned as they are for other encoders and longer texts.
    """
    length = next(iter(inputs.values())).shape[1]
    missing = config.downsampling_rate - length if config.model_type == "canine" else 0
    if missing <= 0:
        return inputs
    return {name: nn.functional.pad(tensor, (0, missing)) for name, tensor in inputs.items()}


def refuse_remote_code(name_or_path: Any, trust_remote_code: bool | None, hub: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: the encoder runs code of its own repository; none of it has run then.
    """
    settings, _ = PreTrainedConfig.get_config_dict(name_or_path, **hub)
    has_own_code = "AutoModel" in settings.get("auto_map", {}) or "AutoConfig" in settings.get("auto_map", {})
    native = settings.get("model_type") in CONFIG_MAPPING_NAMES
    if has_own_code and settings.get("model_type") != MultiHeadConfig.model_type and (trust_remote_code or not native):
        advice = "leave trust_remote_code out: transformers has this architecture itself" if native else "choose one"
        raise ValueError(
            f"{name_or_path}: this encoder runs code of its own repository ({settings['auto_map']}). A saved "
            "multi-head model could not load it again, so it is refused: use an encoder whose architecture is part "
            f"of transformers ({advice})"
        )

"""Freezing of parts of a model: heads by name, the encoder, or all but its topmost layers."""

import weakref

from torch import nn

from ..model.head_multihead import is_a
from ..model.layers_multihead import MultiHeads, module_key
from ..model.modeling_multihead import MultiHeadModel
from .arguments import MultiHeadTrainingArguments

# model → parameters that a Trainer's arguments froze, and that a later Trainer unfreezes
_FROZEN: weakref.WeakKeyDictionary[nn.Module, list[nn.Parameter]] = weakref.WeakKeyDictionary()


def freeze(model: MultiHeadModel, args: MultiHeadTrainingArguments) -> None:
    """Freeze the parameters that the arguments name.

    Parameters that an earlier Trainer froze by its arguments are trained again; those that the user froze stay frozen.

    Raises:
        ValueError: A head or a layer does not exist, or the encoder is frozen under PEFT, whose adapters are part of
            it.
    """
    for parameter in _FROZEN.get(model, []):
        parameter.requires_grad_(True)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    freezes_encoder = args.freeze_encoder or args.train_top_layers is not None
    if freezes_encoder and not is_a(model.heads, MultiHeads):
        raise ValueError(
            "the encoder is wrapped (PEFT), so its adapters would be frozen: freeze nothing, or unload them"
        )
    if args.freeze_encoder and args.train_top_layers is not None:
        raise ValueError("freeze_encoder and train_top_layers contradict each other: give one of them")
    if args.freeze_encoder:
        model.freeze_encoder()
    if args.train_top_layers is not None:
        _freeze_all_but_top(model.encoder, args.train_top_layers)
    if args.train_heads is not None:
        _freeze_other_heads(model, args.train_heads)
    _FROZEN[model] = [parameter for parameter in trainable if not parameter.requires_grad]


def check_trainable(model: nn.Module, args: MultiHeadTrainingArguments) -> None:
    """Check that at least one parameter is trained.

    Raises:
        ValueError: All parameters are frozen; the message names the arguments that freeze them.
    """
    if any(parameter.requires_grad for parameter in model.parameters()):
        return
    settings = ("freeze_encoder", "train_top_layers", "train_heads")
    options = [f"{name}={getattr(args, name)!r}" for name in settings if getattr(args, name)]
    raise ValueError(
        "nothing is left to train: all parameters are frozen, by "
        f"{' and '.join([*options, 'requires_grad_(False)'])}; train a part of them, model.heads.requires_grad_(True)"
    )


def _freeze_other_heads(model: MultiHeadModel, names: list[str]) -> None:
    heads = model.config.heads
    for name in names:
        model.check_head(name, "train_heads")
    if not names:
        raise ValueError(f"train_heads is empty: name some of {list(heads)}, or leave it out for all")
    frozen_keys = {module_key(name) for name in heads if name not in names}
    for key, parameter in model.heads.named_parameters():
        if frozen_keys & set(key.split(".")):  # also under PEFT's wrapper
            parameter.requires_grad_(False)


def encoder_parts(encoder: nn.Module) -> tuple[dict[int, str], list[str]]:
    """Return the part of the encoder that each parameter belongs to, and the parts from the top down.

    Returns:
        The `id` of a parameter → name of its part, and the names: `"encoder"` (after the layers), `"layer_11"`, …,
        `"layer_0"`, `"embeddings"` (before the layers).

    Raises:
        ValueError: The encoder's layers are not one list (shared ones, as in ALBERT, cannot be told apart).
    """
    count = getattr(encoder.config, "num_hidden_layers", None)
    lists = {name: module for name, module in encoder.named_modules() if isinstance(module, nn.ModuleList)}
    name = next((name for name, module in lists.items() if len(module) == count), None)
    if name is None:
        raise ValueError(
            f"the layers of a {type(encoder).__name__} are not a list of {count}, so single layers cannot be selected"
        )
    part_of: dict[int, str] = {}
    current = "embeddings"
    for key, parameter in encoder.named_parameters():
        if key.startswith(f"{name}."):
            current = "encoder"
            part_of[id(parameter)] = f"layer_{key.removeprefix(f'{name}.').split('.')[0]}"
        else:
            # (BART declares the norm of its embeddings after the layers)
            part_of[id(parameter)] = "embeddings" if "embed" in key else current
    return part_of, ["encoder", *(f"layer_{index}" for index in reversed(range(len(lists[name])))), "embeddings"]


def _freeze_all_but_top(encoder: nn.Module, count: int) -> None:
    part_of, parts = encoder_parts(encoder)
    layers = len(parts) - 2
    if not 0 < count <= layers:
        raise ValueError(f"train_top_layers {count}: the encoder has {layers} layers; freeze_encoder freezes them all")
    for parameter in encoder.parameters():
        if part_of[id(parameter)] not in parts[: count + 1]:
            parameter.requires_grad_(False)

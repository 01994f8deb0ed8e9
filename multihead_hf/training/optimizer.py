"""Parameter groups: encoder, heads, learned thresholds and head weights, each with its learning rate."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from transformers.trainer_optimizer import is_optimizer_factory
from transformers.utils import logging

from ..model.layers_multihead import module_key
from ..model.unwrapping import multi_head_model
from .arguments import MultiHeadTrainingArguments
from .checkpoints import trained_parameters
from .freezing import encoder_parts

logger = logging.get_logger(__name__)

# matches also under the wrappers of PEFT and FSDP
_IN_HEADS = re.compile(r"(^|\.)heads\.(\w+\.)*(head_\w+)\.")


def parameter_groups(
    model: nn.Module,
    args: MultiHeadTrainingArguments,
    decayed: Collection[str],
    head_rates: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Return the non-empty groups for a torch optimizer, each with `name`, `params`, `lr` and `weight_decay`.

    Args:
        model: The model, perhaps wrapped.
        args: Arguments with the learning rates and the weight decay.
        decayed: Names of the parameters with weight decay.
        head_rates: Module key of a head → its learning rate; other heads have `head_learning_rate`, else
            `learning_rate`. If all heads have one architecture and rate, they are the group `heads`; otherwise the
            groups are `heads_<architecture>[_<rate>]`.
    """
    rate = args.learning_rate or 0.0  # (the Trainer has set it)
    encoder_rate = rate if args.encoder_learning_rate is None else args.encoder_learning_rate
    head_rate = rate if args.head_learning_rate is None else args.head_learning_rate
    head_groups = _head_groups(model, head_rate, head_rates or {})
    weighting_rate = max([rate for _, rate in head_groups.values()], default=head_rate)
    threshold_rate = 5 * encoder_rate if args.threshold_learning_rate is None else args.threshold_learning_rate
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    rates = {"encoder": encoder_rate, **dict(head_groups.values())}
    rates |= {"thresholds": threshold_rate, "head_weighting": weighting_rate}
    part_of: dict[int, str] = {}
    if args.layer_learning_rate_decay is not None:
        part_of, parts = encoder_parts(multi_head_model(model).encoder)
        # the topmost layer has the encoder's rate
        rates.update({part: encoder_rate * args.layer_learning_rate_decay**i for i, part in enumerate(parts[1:])})
    for part, rate in rates.items():
        for decay in (True, False):
            weight_decay = args.weight_decay if decay else 0.0
            groups[part, decay] = {"name": part, "params": [], "lr": rate, "weight_decay": weight_decay}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if name.endswith("threshold_logits"):
            groups["thresholds", False]["params"].append(parameter)
        elif name.endswith("log_variances"):
            groups["head_weighting", False]["params"].append(parameter)
        else:
            in_head = _IN_HEADS.search(name)
            part = head_groups[in_head[3]][0] if in_head else part_of.get(id(parameter), "encoder")
            groups[part, name in decayed]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def with_groups(
    optimizer: tuple[Any, dict[str, Any]],
    model: nn.Module,
    args: MultiHeadTrainingArguments,
    decayed: Collection[str],
    head_rates: Mapping[str, float],
) -> tuple[Any, dict[str, Any]]:
    """Return the class and options of an optimizer, with `parameter_groups` as `params`.

    An optimizer that already has groups is not changed.

    Args:
        optimizer: Class and options.
        model: As for `parameter_groups`.
        args: As for `parameter_groups`.
        decayed: As for `parameter_groups`.
        head_rates: As for `parameter_groups`.
    """
    optimizer_class, options = optimizer
    if is_optimizer_factory(optimizer_class) or {"params", "model", "optimizer_dict"} & options.keys():
        return optimizer
    return optimizer_class, {**options, "params": parameter_groups(model, args, decayed, head_rates)}


def _head_groups(model: nn.Module, rate: float, head_rates: Mapping[str, float]) -> dict[str, tuple[str, float]]:
    """Return module key of each trained head → name of its group, and its learning rate."""
    heads = {module_key(name): head.architecture for name, head in multi_head_model(model).config.heads.items()}
    matches = [_IN_HEADS.search(name) for name, parameter in model.named_parameters() if parameter.requires_grad]
    kinds = {match[3]: (heads[match[3]], head_rates.get(match[3], rate)) for match in matches if match}
    architectures = [kind for kind, _ in set(kinds.values())]
    names = {}
    for kind in set(kinds.values()):
        name = "heads" if len(architectures) == 1 else f"heads_{kind[0]}"
        names[kind] = name if architectures.count(kind[0]) == 1 else f"{name}_{kind[1]:g}"
    return {key: (names[kind], kind[1]) for key, kind in kinds.items()}


def is_outdated(optimizer: Optimizer, model: nn.Module, is_ours: bool) -> bool:
    """Return whether our optimizer of an earlier run does not hold the parameters that are trained now.

    Warn if an optimizer that was passed does not contain some of them.

    Args:
        optimizer: An optimizer with parameter groups.
        model: The model that is trained.
        is_ours: Whether the Trainer made the optimizer.
    """
    trained = trained_parameters(model)
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, parameter in trained.items() if id(parameter) not in known]
    if missing and not is_ours:
        logger.warning(f"the optimizer that was passed does not contain {missing[:5]}, which are not trained")
    return is_ours and (bool(missing) or len(known) != len(trained))

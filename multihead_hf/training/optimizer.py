"""Parameter groups: encoder, heads, learned thresholds and head weights, each with its learning rate."""

import re
from collections.abc import Collection
from typing import Any

from torch import nn

from .arguments import MultiHeadTrainingArguments
from .freezing import encoder_parts
from .preparation import multi_head_model

# also under the wrappers that PEFT and FSDP put around the heads
_IN_HEADS = re.compile(r"(^|\.)heads\.(\w+\.)*head_\w+\.")


def parameter_groups(
    model: nn.Module, args: MultiHeadTrainingArguments, decayed: Collection[str]
) -> list[dict[str, Any]]:
    """Groups for a torch optimiser, each with `name`, `params`, `lr` and `weight_decay`; empty ones left out.

    Args:
        model: the model, also wrapped.
        args: learning rates and weight decay.
        decayed: names of the parameters that take weight decay.
    """
    encoder_rate = args.learning_rate if args.encoder_learning_rate is None else args.encoder_learning_rate
    head_rate = args.learning_rate if args.head_learning_rate is None else args.head_learning_rate
    threshold_rate = 5 * encoder_rate if args.threshold_learning_rate is None else args.threshold_learning_rate
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    rates = {"encoder": encoder_rate, "heads": head_rate, "thresholds": threshold_rate, "head_weighting": head_rate}
    part_of: dict[int, str] = {}
    if args.layer_learning_rate_decay is not None:
        part_of, parts = encoder_parts(multi_head_model(model).encoder)
        # the topmost layer has the encoder's own rate
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
            part = "heads" if _IN_HEADS.search(name) else part_of.get(id(parameter), "encoder")
            groups[part, name in decayed]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]

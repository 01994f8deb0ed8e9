"""What the logits of a model depend on, to see whether it has changed between two calls."""

from typing import Any

import torch

from ..model.modeling_multihead import MultiHeadModel
from ..model.tokens_multihead import text_settings

_SAMPLED = 8  # numbers of each weight


def state_of(model: MultiHeadModel) -> tuple[Any, ...]:
    """Return what logits depend on: the weights, heads, text settings and active adapters.

    Weights count by their identity, by PyTorch's counter of changes in place, and by some of their numbers, because
    changes of `parameter.data` are not counted.
    """
    tensors = [*model.parameters(), *model.buffers()]
    weights = [(id(own), own.data_ptr(), None if own.is_inference() else own._version) for own in tensors]
    config = model.config
    heads = [(name, head.num_labels) for name, head in config.heads.items()]
    adapters = [
        (module._disable_adapters, str(getattr(module, "active_adapters", None)), str(getattr(module, "scaling", None)))
        for module in model.modules()
        if hasattr(module, "_disable_adapters")
    ]
    text = tuple(text_settings(config).values())
    return weights, _samples(tensors), heads, adapters, config.pooling, config.window_pooling, config.max_length, text


def _samples(tensors: list[torch.Tensor]) -> list[bytes]:
    """Return some numbers of each tensor, evenly spread, as bytes."""
    by_kind: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for own in tensors:
        if own.device.type == "meta" or not own.numel():
            continue
        flat = own.detach()
        # (a view; of a tensor with holes the numbers of its first dimension)
        flat = flat.view(-1) if flat.is_contiguous() else flat.reshape(len(flat), -1)[:, 0]
        by_kind.setdefault((own.dtype, own.device), []).append(flat[:: max(len(flat) // _SAMPLED, 1)])
    return [torch.cat(own).view(torch.uint8).cpu().numpy().tobytes() for own in by_kind.values()]

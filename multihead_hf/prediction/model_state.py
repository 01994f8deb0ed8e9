"""State that the logits of a model depend on, to detect changes between two calls."""

from typing import Any, NamedTuple

import torch
from torch import nn

from ..model.modeling_multihead import MultiHeadModel
from ..model.truncation_multihead import text_settings

_SAMPLED = 8  # sampled numbers per weight


class State(NamedTuple):
    """A state; equal ones mean equal logits."""

    places: list[tuple[int, int]]
    versions: list[int | None]
    numbers: list[bytes]
    heads: list[tuple[str, int]]
    adapters: list[Any]
    hooks: list[tuple[int, int]]
    text: tuple[Any, ...]


class ModelState:
    """State of a model that may change: weights, heads, text settings, adapters and forward hooks.

    Weights are compared by their identity, by PyTorch's version counter of in-place changes, and by some of their
    numbers, because changes of `parameter.data` are not counted.

    Args:
        model: The model.
    """

    def __init__(self, model: MultiHeadModel) -> None:
        self._model = model
        self._places: list[tuple[int, int]] = []
        self._samples: list[list[torch.Tensor]] = []  # views of the weights, by data type and device

    def __getstate__(self) -> dict[str, Any]:
        """Return the model alone: pickled views would contain the whole weights."""
        return {"_model": self._model, "_places": [], "_samples": []}

    def now(self) -> State:
        """Return the current state; equal states mean equal logits."""
        tensors: list[torch.Tensor] = []
        adapters: list[Any] = []
        hooks: list[tuple[int, int]] = []
        _collect(self._model, tensors, adapters, hooks)
        places = [(id(tensor), tensor.data_ptr()) for tensor in tensors]
        if places != self._places:
            self._places, self._samples = places, _views(tensors)
        numbers = [torch.cat(samples).view(torch.uint8).cpu().numpy().tobytes() for samples in self._samples]
        versions = [None if tensor.is_inference() else tensor._version for tensor in tensors]
        config = self._model.config
        heads = [(name, head.num_labels) for name, head in config.heads.items()]
        text = (config.pooling, config.window_pooling, config.max_length, *text_settings(config).values())
        return State(places, versions, numbers, heads, adapters, hooks, text)


def _collect(module: nn.Module, tensors: list[torch.Tensor], adapters: list[Any], hooks: list[tuple[int, int]]) -> None:
    """Add weights, PEFT settings and hooks of a module and its submodules; ten times as fast as `modules()`."""
    tensors.extend(tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None)
    if "_disable_adapters" in module.__dict__ or hasattr(type(module), "_disable_adapters"):  # (as fast as can be)
        adapters.append((module._disable_adapters, str(module.active_adapters), str(getattr(module, "scaling", None))))
    if module._forward_hooks or module._forward_pre_hooks:
        added = {**module._forward_hooks, **module._forward_pre_hooks}  # (their keys are never used again)
        hooks.extend((id(module), key) for key, hook in added.items() if not _is_harmless(hook))
    for part in module._modules.values():
        if part is not None:
            _collect(part, tensors, adapters, hooks)


def _is_harmless(hook: object) -> bool:
    """Return whether a hook is one of a library: they record outputs or prepare gradients, and stay after their use."""
    return str(getattr(hook, "__module__", "")).split(".")[0] in ("accelerate", "peft", "torch", "transformers")


def _views(tensors: list[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Return views of evenly spaced numbers of each tensor, by data type and device."""
    views: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for tensor in tensors:
        if tensor.device.type == "meta" or not tensor.numel():
            continue
        flat = tensor.detach()
        # (for a non-contiguous tensor, the numbers along its first dimension)
        flat = flat.view(-1) if flat.is_contiguous() else flat[(slice(None), *[0] * (flat.dim() - 1))]  # type: ignore[index]
        views.setdefault((tensor.dtype, tensor.device), []).append(flat[:: max(len(flat) // _SAMPLED, 1)])
    return list(views.values())

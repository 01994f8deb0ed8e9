"""Pooling and the modules of the heads, between the encoder and the logits.

This file travels with every saved model.
"""

import math
import re
from collections.abc import Hashable, Iterable, Mapping

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from .configuration_multihead import POOLINGS, WINDOW_POOLINGS, MultiHeadConfig
from .head_multihead import HeadConfig
from .values_multihead import one_of

# ---- pooling: (batch, length, hidden) → (batch, hidden) ----


def pool(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Return one vector per row from the tokens' vectors.

    Args:
        hidden: (batch, length, hidden).
        mask: (batch, length), 1 for tokens and 0 for padding, on either side.
        pooling: `"cls"` (first token), `"last"` (last token), `"mean"` or `"max"` over the tokens.

    Returns:
        (batch, hidden); zeros for a row without any token under `"mean"` and `"max"`.

    Raises:
        ValueError: The pooling is unknown.
    """
    one_of("pooling", pooling, POOLINGS)
    mask = mask.to(torch.bool)
    if pooling in ("cls", "last"):
        positions = torch.arange(hidden.shape[1], device=hidden.device)
        if pooling == "cls":
            index = torch.where(mask, positions, hidden.shape[1]).amin(1).clamp(max=hidden.shape[1] - 1)  # (batch,)
        else:
            index = torch.where(mask, positions, 0).amax(1)
        return hidden[torch.arange(hidden.shape[0], device=hidden.device), index]
    tokens = mask.unsqueeze(-1)  # (batch, length, 1)
    if pooling == "mean":
        # sums of half-precision vectors over long texts lose digits, so they are computed in float32 or better
        wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        total = (wide * tokens).sum(1)
        return (total / tokens.sum(1).clamp(min=1)).to(hidden.dtype)
    highest = hidden.masked_fill(~tokens, -math.inf).amax(1)
    return torch.where(tokens.any(1), highest, torch.zeros_like(highest))


class Windows:
    """The windows of a batch of texts, of which padding is left out: as rows for the encoder, and their logits pooled.

    Args:
        mask: (batch, windows), 1 for windows and 0 for padding.
    """

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask.bool()

    @classmethod
    def of_tokens(cls, input_ids: Tensor, attention_mask: Tensor | None, mask: Tensor | None) -> "Windows":
        """Make windows from tokens (batch, windows, length); without a `mask`, the windows that have a token."""
        tokens = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return cls(tokens.any(-1) if mask is None else mask)

    def flat(self, values: Tensor | None) -> Tensor | None:
        """Return (batch, windows, …) as (real windows, …)."""
        return None if values is None else values[self._mask]

    def pool(self, logits: Tensor, pooling: str) -> Tensor:
        """Pool (real windows, labels) to (batch, labels): the mean or the maximum over a text's windows."""
        one_of("window_pooling", pooling, WINDOW_POOLINGS)
        window_logits = logits.new_full((*self._mask.shape, logits.shape[-1]), 0.0 if pooling == "mean" else -math.inf)
        window_logits = window_logits.masked_scatter(self._mask.unsqueeze(-1), logits)  # (batch, windows, labels)
        if pooling == "max":
            return torch.where(self._mask.any(1, keepdim=True), window_logits.amax(1), 0.0)
        return window_logits.sum(1) / self._mask.sum(1, keepdim=True).clamp(min=1)


# ---- heads: (batch, hidden) → (batch, labels) ----


class ClassificationHead(nn.Module):
    """One head: `linear` is dropout → linear, `mlp` is linear → dropout → activation → linear.

    `threshold_logits` (labels,) are the learned thresholds in logit space, `None` unless the head learns them.
    `is_fresh` is true if the weights were initialised and have not been loaded or trained since.
    """

    def __init__(self, head: HeadConfig, hidden_size: int, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        width = head.hidden_size or hidden_size
        layers: list[nn.Module] = [nn.Dropout(head.dropout), nn.Linear(hidden_size, head.num_labels, dtype=dtype)]
        if head.architecture == "mlp":
            layers = [
                nn.Linear(hidden_size, width, dtype=dtype),
                nn.Dropout(head.dropout),
                ACT2FN[head.activation],
                nn.Linear(width, head.num_labels, dtype=dtype),
            ]
        self.layers = nn.Sequential(*layers)
        self.is_fresh = True
        self.initial_threshold = head.learn_thresholds or 0.5
        self.threshold_logits: nn.Parameter | None = None
        if head.learn_thresholds is not None:
            self.threshold_logits = nn.Parameter(torch.empty(head.num_labels, dtype=torch.float32))

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the output layer's weight."""
        output: nn.Linear = self.layers[-1]  # type: ignore[assignment]
        return output.weight.dtype

    @property
    def num_labels(self) -> int:
        """Number of logits of a row."""
        output: nn.Linear = self.layers[-1]  # type: ignore[assignment]
        return output.out_features

    def forward(self, pooled: Tensor) -> Tensor:
        """Compute the logits of pooled features.

        Args:
            pooled: Tensor of shape (batch, hidden).

        Returns:
            Tensor of shape (batch, labels).
        """
        dtype = self.dtype  # (a quantised weight may have an integer dtype)
        return self.layers(pooled.to(dtype) if dtype.is_floating_point else pooled)  # (batch, labels)


class MultiHeads(nn.Module):
    """All heads by name, as a module with a `forward`, which PEFT's `modules_to_save=["heads"]` needs."""

    def __init__(self, config: MultiHeadConfig) -> None:
        super().__init__()
        self.names = list(config.heads)
        dtype = torch.float32 if config.heads_dtype == "float32" else None
        for name, head in config.heads.items():
            self.add_module(module_key(name), ClassificationHead(head, config.hidden_size, dtype))

    def __getitem__(self, name: str) -> ClassificationHead:
        return self.get_submodule(module_key(name))  # type: ignore[return-value]

    def forward(self, pooled: Tensor, names: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
        """Return logits (batch, labels) and threshold logits (labels,) or `None`, of the named heads.

        In training, heads of one shape are computed as one matrix product. In evaluation they are not, because a head's
        logits must be bit-equal whatever other heads the model has.
        """
        heads = {name: self[name] for name in names}
        logits: dict[str, Tensor] = {}
        if self.training:
            for group in _same_shape(heads):
                logits.update(zip(group, _stacked_logits([heads[name] for name in group], pooled), strict=True))
        logits = {name: logits[name] if name in logits else head(pooled) for name, head in heads.items()}
        return logits, {name: head.threshold_logits for name, head in heads.items()}


def _same_shape(heads: Mapping[str, ClassificationHead]) -> list[list[str]]:
    """Return groups of two or more heads with equal layers; a head with hooks or a replaced module runs by itself."""
    groups: dict[Hashable, list[str]] = {}
    for name, head in heads.items():
        plain = type(head) is ClassificationHead and all(
            type(layer) is nn.Linear or next(layer.parameters(), None) is None for layer in head.layers
        )
        if plain and not any(_is_hooked(module) for module in head.modules()):
            layers = tuple((type(layer), layer.extra_repr()) for layer in head.layers)
            groups.setdefault((head.dtype, *layers), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _is_hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _stacked_logits(heads: list[ClassificationHead], pooled: Tensor) -> Tensor:
    """Return logits (heads, batch, labels) of heads with equal layers; every head has its own dropout mask."""
    x = pooled.to(heads[0].dtype).expand(len(heads), *pooled.shape)  # (heads, batch, hidden)
    for layers in zip(*(head.layers for head in heads), strict=True):
        if isinstance(layers[0], nn.Linear):
            weight = torch.stack([layer.weight for layer in layers])  # (heads, out, in)
            bias = torch.stack([layer.bias for layer in layers])  # (heads, out)
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
        else:
            x = layers[0](x)
    return x


def module_key(name: str) -> str:
    """Return the module name of a head: unique, without characters that torch or transformers interpret."""
    return "head_" + re.sub(r"[^A-Za-z0-9]", lambda match: f"_{match[0].encode().hex()}_", name)


def head_of_key(key: str, names: Iterable[str]) -> str | None:
    """Return the head that a weight belongs to, from the weight's name in a state dict."""
    return next((name for name in names if key.startswith(f"heads.{module_key(name)}.")), None)

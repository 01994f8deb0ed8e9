"""Checks of a model's inputs, and of an adapter that changes them.

This file travels with every saved model.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from .configuration_multihead import MultiHeadConfig
from .encoder_multihead import position_table

# methods of PEFT that put keys and values into the layers of a decoder
_DECODER_ADAPTERS = ("PREFIX_TUNING", "ADAPTION_PROMPT", "CARTRIDGE")


def check_tokens(config: PreTrainedConfig, tokens: Mapping[str, Any], embeddings: Tensor | None) -> None:
    """Check that the inputs of a batch fit together, and the encoder.

    Args:
        config: the encoder's.
        tokens: `input_ids` and what belongs to them, (batch, length) or (batch, windows, length), or `None`.
        embeddings: (batch, length, hidden) in the place of `input_ids`, or `None`.

    Raises:
        ValueError: There is not exactly one of ids and embeddings, one of the inputs is no tensor or does not have a
            value for each token, or there are more tokens than positions.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return
    if (tokens["input_ids"] is None) == (embeddings is None):
        raise ValueError("give either input_ids or inputs_embeds (or features, as model.encode returns them)")
    inputs = {name: values for name, values in tokens.items() if values is not None}
    for name, values in {**inputs, "inputs_embeds": embeddings}.items():
        if values is not None and not isinstance(values, Tensor):
            raise ValueError(f"{name} must be a tensor, not a {type(values).__name__}: return_tensors='pt'")
    shape = tuple(inputs["input_ids"].shape if embeddings is None else embeddings.shape[:-1])
    if len(shape) not in (2, 3):
        raise ValueError(f"input_ids must be (batch, length), or (batch, windows, length), not {shape}")
    for name, values in inputs.items():
        is_shared = name == "position_ids" and values.numel() == shape[-1]  # by all rows
        if tuple(values.shape) != shape and not is_shared:
            raise ValueError(f"{name} is {tuple(values.shape)}, but the tokens are {shape}: give one for each token")
    if shape[-1] > (table := position_table(config)):
        raise ValueError(
            f"{shape[-1]:,} tokens are more than the encoder's {table:,} positions: truncate the texts (with virtual "
            "tokens of an adapter, to so many fewer)"
        )


def check_adapter(model: object, config: MultiHeadConfig) -> None:
    """Check that a model can be computed with the adapter around it (PEFT).

    Args:
        model: the model, perhaps in PEFT's wrapper.
        config: of the model.

    Raises:
        ValueError: The method is made for decoders, or puts virtual tokens before texts that are read in windows.
    """
    adapters = getattr(model, "peft_config", None)
    for name, adapter in adapters.items() if isinstance(adapters, Mapping) else ():
        method = str(getattr(getattr(adapter, "peft_type", None), "value", ""))
        if method in _DECODER_ADAPTERS:
            raise ValueError(
                f"adapter {name!r}: {method} needs a decoder that takes past keys and values, which a multi-head model "
                "does not: use another method, such as LoraConfig(..., modules_to_save=['heads'])"
            )
        if getattr(adapter, "is_prompt_learning", False) and config.truncation == "windows":
            raise ValueError(
                f"adapter {name!r}: {method} cannot read texts in windows: set truncation to 'tail' or use another "
                "method, such as LoraConfig(..., modules_to_save=['heads'])"
            )

"""Graphs for export, from tokens to the logits of every head, and their metadata."""

import contextlib
import copy
import inspect
import io
import json
import logging
import threading
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig
from ..model.modeling_multihead import MultiHeadModel
from ..model.truncation_multihead import encode_texts, filler_token, token_limit

METADATA = "multihead_hf"
"""What the keys of the metadata begin with."""

METADATA_VERSION = 1

WINDOWS = "windows"
_QUIET = threading.RLock()  # what it changes belongs to the whole process


class LogitsGraph(nn.Module):
    """Module from tokens to float32 logits, named `logits_0000`, `logits_0001`, … in the order of the heads.

    Tokens are (batch, length). For a model that reads texts in windows they are (batch, windows, length), where a
    window without a token is padding. `MultiHeadModel` removes such windows before its encoder runs. In a graph this
    would need data-dependent shapes, so that here they are computed and then ignored.
    """

    def __init__(self, model: MultiHeadModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, **tokens: Tensor) -> dict[str, Tensor]:
        """Compute the logits of a batch of tokens.

        Args:
            **tokens: Encoder inputs.

        Returns:
            Name of an output → tensor of shape (batch, labels), float32.
        """
        if self.model.config.truncation != WINDOWS:
            logits = self._logits(tokens)
        else:
            logits = self._of_windows(tokens)
        return {f"logits_{index:04}": head_logits.float() for index, head_logits in enumerate(logits.values())}

    def _logits(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        features = self.model.encode(**tokens)  # (batch, hidden)
        # OpenVINO's relu turns NaN into 0; with this term a head's logits are NaN, as in PyTorch
        kept = 0.0 * features.sum(-1, keepdim=True)
        return {name: values + kept for name, values in self.model(features=features).logits.items()}

    def _of_windows(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        mask = tokens["attention_mask"]  # (batch, windows, length)
        real = mask.sum(-1) > 0  # (batch, windows)
        # attention over a row without tokens is undefined, so the tokens of padding windows are unmasked
        seen = {**tokens, "attention_mask": torch.where(real.unsqueeze(-1), mask, torch.ones_like(mask))}
        logits = self._logits({name: values.flatten(0, 1) for name, values in seen.items()})
        keep = real.unsqueeze(-1)  # (batch, windows, 1)
        pooled = {}
        for name, head_logits in logits.items():
            window_logits = head_logits.unflatten(0, mask.shape[:2])  # (batch, windows, labels)
            if self.model.config.window_pooling == "max":
                pooled[name] = window_logits.masked_fill(~keep, float("-inf")).amax(1)
            else:
                pooled[name] = window_logits.masked_fill(~keep, 0.0).sum(1) / keep.sum(1).clamp(min=1)
        return pooled


def float32_copy(model: MultiHeadModel) -> MultiHeadModel:
    """Return the model if it is in float32 on the CPU, else such a copy."""
    if all(parameter.dtype == torch.float32 and parameter.device.type == "cpu" for parameter in model.parameters()):
        return model
    return copy.deepcopy(model).cpu().float()


def token_inputs(model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the names of the graph's inputs: those that the tokenizer returns and the encoder takes."""
    takes = inspect.signature(type(model.encoder).forward).parameters
    known = ["input_ids", "attention_mask", "token_type_ids"]
    encoded, _ = encode_texts(tokenizer, [""])
    return [name for name in known if name in encoded and (name != "token_type_ids" or name in takes)]


def output_names(config: MultiHeadConfig, inputs: list[str]) -> dict[str, str]:
    """Return head → output name: the head's name, with `_logits` after it if an input has this name."""
    names: dict[str, str] = {}
    for head in config.heads:
        name = head
        while name in inputs or (name != head and name in config.heads) or name in names.values():
            name += "_logits"
        names[head] = name
    return names


def graph_metadata(model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase, inputs: list[str]) -> dict[str, Any]:
    """Return the metadata needed to turn texts into the graph's inputs and its outputs into decisions.

    Settings used only for training are left out. Defaults are filled in, so that no other source is needed.
    """
    config = model.config
    outputs = output_names(config, inputs)
    return {
        "format_version": METADATA_VERSION,
        "library_version": version("multihead_hf"),
        "heads": [head_metadata(name, head, outputs[name]) for name, head in config.heads.items()],
        "text": _text_metadata(config, tokenizer),
        "quantize": None,
    }


def head_metadata(name: str, head: HeadConfig, output: str) -> dict[str, Any]:
    """Return the metadata needed to turn the logits of a head into decisions."""
    temperature = head.calibration_temperature
    multi_label = head.multi_label
    return {
        "name": name,
        "output": output,
        "labels": head.labels,
        "problem_type": head.problem_type,
        "thresholds": (head.thresholds or [0.5] * head.num_labels) if multi_label else None,
        "calibration_temperature": temperature if isinstance(temperature, list) else [temperature or 1.0],
        "min_labels": (head.min_labels or 0) if multi_label else None,
        "max_labels": (head.max_labels or head.num_labels) if multi_label else None,
        "positive_label": head.positive_label,
    }


def _text_metadata(config: MultiHeadConfig, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    filler = filler_token(tokenizer)
    return {
        "max_length": token_limit(config, tokenizer),
        "truncation": config.truncation,
        "truncation_side": tokenizer.truncation_side,
        "max_windows": config.max_windows,
        "stride": config.stride,
        "window_pooling": config.window_pooling,
        "text_prefix": config.text_prefix or "",
        "text_columns": config.text_columns or ["text"],
        "pad_token_id": tokenizer.pad_token_id if tokenizer.pad_token_id is not None else filler,
        "pad_token_type_id": tokenizer.pad_token_type_id,
        "padding_side": tokenizer.padding_side,
        "empty_token_id": filler,
    }


def as_strings(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata with JSON-encoded values."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in metadata.items()}


def sample_tokens(model: MultiHeadModel, inputs: list[str]) -> dict[str, Tensor]:
    """Return tokens to trace the graph with.

    No axis has length 0 or 1, which torch.export would treat as fixed, and there is padding, because encoders skip the
    mask without it.
    """
    mask = torch.ones((3, 2, 6) if model.config.truncation == WINDOWS else (3, 6), dtype=torch.int64)
    mask[-1, ..., 4:] = 0
    ids = torch.arange(mask.numel()).reshape(mask.shape) % 4
    return {name: {"input_ids": ids, "attention_mask": mask}.get(name, torch.zeros_like(mask)) for name in inputs}


def dynamic_axes(sample: Mapping[str, Tensor]) -> dict[str, dict[int, Any]]:
    """Return axes for torch.export: every axis of the inputs may have any size."""
    return {name: dict.fromkeys(range(tokens.dim()), torch.export.Dim.DYNAMIC) for name, tokens in sample.items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence exporters, which print their progress and warn about their own code.

    Other threads are silent meanwhile, and wait before they do the same.
    """
    with _QUIET:
        yield from _quietened()


def _quietened() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

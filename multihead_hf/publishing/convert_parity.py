"""Shared parts of conversions: files and weights of other formats, and the comparison of logits."""

import json
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    PreTrainedTokenizerBase,
)

from ..model.modeling_multihead import MultiHeadModel
from ..model.truncation_multihead import token_limit

TEXTS = (
    "Het grofvuil is niet opgehaald en niemand neemt de telefoon op.",
    "Thank you very much, that was quick!",
    "?",
    " ".join(["A long text repeats itself, and is longer than the others in its batch."] * 6),
)


TOLERANCE = 1e-4


@dataclass
class Converted:
    """A converted model.

    Args:
        model: The model in evaluation mode.
        tokenizer: Tokenizer of its encoder.
        differences: Head → largest difference between its logits and those of the old model, on `TEXTS`.
    """

    model: MultiHeadModel
    tokenizer: PreTrainedTokenizerBase
    differences: dict[str, float]

    def __str__(self) -> str:
        lines = [f"{'head':24}{'labels':>8}  greatest difference of a logit, old and new"]
        for name, difference in self.differences.items():
            lines.append(f"{name:24}{self.model.config.heads[name].num_labels:8,}  {difference:.2e}")
        return "\n".join(lines)


def load_state(path: Path) -> Mapping[str, Any]:
    """Load a torch pickle that contains only tensors and plain values.

    Raises:
        ValueError: Reading it would run code, or it is not a mapping.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        match = re.search(r"(?:GLOBAL|global:?) ([\w.]+\.[\w.]+)", str(error))
        if match is None:
            raise ValueError(f"{path} is refused: it is damaged, or holds more than tensors and plain values") from None
        raise ValueError(
            f"{path} is refused: it holds more than tensors and plain values ({match[1]}); reading it could run code"
        ) from None
    except (EOFError, RuntimeError, OSError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())[:200] or repr(error)}") from None
    if not isinstance(state, Mapping):
        raise ValueError(f"{path} holds a {type(state).__name__}, not a dict")
    return state


def check_files(folder: Path, names: Sequence[str]) -> None:
    """Check that files exist.

    Raises:
        ValueError: Files are missing; the message lists them.
    """
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"{folder} lacks {', '.join(missing)}")


def check_shape(path: Path, name: str, state: Mapping[str, Any], key: str, labels: Sequence[str] | None = None) -> None:
    """Check a weight of a head.

    Raises:
        ValueError: The head has no such weight, or its number of labels differs from the number of names.
    """
    if not isinstance(state.get(key), Tensor):
        raise ValueError(f"head {name!r} of {path} has no {key}; it has {list(state)}")
    if labels is not None and len(state[key]) != len(labels):
        raise ValueError(f"head {name!r} of {path} has {len(state[key])} labels, but there are {len(labels)} names")


def tokenizer_folder(*folders: Path) -> Path:
    """Return the first folder with a tokenizer.

    Raises:
        ValueError: There is none.
    """
    for folder in folders:
        if any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt")):
            return folder
    raise ValueError(f"no tokenizer in {[str(path) for path in folders]}: save the tokenizer of the encoder there")


def checked(
    model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase, old: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
) -> Converted:
    """Compare the logits of the new model with those of the old forward pass on `TEXTS`.

    Raises:
        ValueError: They differ by more than rounding.
    """
    limit = min(token_limit(model.config, tokenizer) or 128, 128)
    tokens = dict(tokenizer(list(TEXTS), padding=True, truncation=True, max_length=limit, return_tensors="pt"))
    model.eval()
    with torch.no_grad():
        new_logits, old_logits = model(**tokens).logits, old(tokens)
    differences = {name: float((new_logits[name] - old_logits[name]).abs().max()) for name in new_logits}
    wrong = {name: value for name, value in differences.items() if not value <= TOLERANCE}
    if wrong:
        shown = ", ".join(f"{name} by {value:.2g}" for name, value in wrong.items())
        raise ValueError(f"the logits differ from those of the old model: {shown}. Nothing was written")
    return Converted(model, tokenizer, differences)


def number_in(state: Mapping[str, Any], key: str, default: float) -> float:
    """Return the number under a key, or `default` if the key is missing."""
    value = state.get(key)
    return float(value) if isinstance(value, (int, float)) else default


def plain_keys(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a state dict without the prefixes of DDP and `torch.compile`.

    The state dict may be nested in a training checkpoint.
    """
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state.get(key), Mapping):
            state = state[key]
    tensors = {}
    for key, value in state.items():
        if isinstance(value, Tensor):
            name = str(key)
            while name.startswith(("module.", "_orig_mod.")):
                name = name.split(".", 1)[1]
            tensors[name] = value
    return tensors


def encoder_weights(path: Path, state: Mapping[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """Return the encoder's weights from a state dict, with any prefix.

    Raises:
        ValueError: Weights are missing, have another shape or do not belong to the encoder.
    """
    known = encoder.state_dict()
    prefixes = ["", *dict.fromkeys(f"{key.split('.')[0]}." for key in state)]
    best = max(
        prefixes, key=lambda prefix: sum(key.removeprefix(prefix) in known for key in state if key.startswith(prefix))
    )
    weights = {key.removeprefix(best): value for key, value in state.items()}
    buffers = {key for key in weights if key.endswith(("position_ids", "token_type_ids"))}
    unexpected = [key for key in weights if key not in known and key not in buffers]
    missing = [key for key in known if key not in weights and not key.startswith("pooler.")]
    wrong = [key for key in weights if key in known and weights[key].shape != known[key].shape]
    for keys, problem in (
        (unexpected, "has weights that belong neither to a head nor to the encoder"),
        (missing, "lacks weights of the encoder"),
        (wrong, "has other shapes than the encoder"),
    ):
        if keys:
            raise ValueError(f"{path} {problem}: {', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}")
    return {key: value for key, value in weights.items() if key in known}


def pool_tokens(hidden: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """Pool tokens to (batch, hidden), for texts with padding on the right, as the old systems did."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
    rows = [vectors[: int(real.sum())] for vectors, real in zip(hidden, mask, strict=True)]
    return torch.stack([vectors.mean(0) if pooling == "mean" else vectors.amax(0) for vectors in rows])


def labels_of(path: Path) -> dict[str, list[str]]:
    """Read the labels of each head from a JSON file.

    Raises:
        ValueError: The file is not a JSON object of head → list of labels.
    """
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(labels, dict) or not all(isinstance(names, list) for names in labels.values()):
        raise ValueError(f"{path} is not a JSON object of head → list of labels")
    return labels


def load_into(path: Path, name: str, module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the state dict of a head.

    Raises:
        ValueError: The state does not fit the head.
    """
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"head {name!r} of {path} does not fit a head on this encoder: {reason}") from None

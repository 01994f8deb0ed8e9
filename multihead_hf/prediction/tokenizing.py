"""Tokens of many texts; equal texts are tokenized once."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedTokenizerBase

from ..model.configuration_multihead import MultiHeadConfig
from ..model.truncation_multihead import encode_texts, text_settings


class Encoded(NamedTuple):
    """Tokens of texts, ready for the model.

    Args:
        rows: Unpadded tokens of each distinct text, as the tokenizer returns them (lists of them for windows).
        keys: The distinct texts.
        of: (texts,), index of each text among the distinct texts.
        cut: Whether each distinct text was truncated.
    """

    rows: list[dict[str, Any]]
    keys: list[tuple[str, ...]]
    of: npt.NDArray[np.int64]
    cut: list[bool]


def encode_different(
    tokenizer: PreTrainedTokenizerBase,
    config: MultiHeadConfig,
    parts: Sequence[tuple[str, ...]],
    max_length: int | None,
) -> Encoded:
    """Return tokens of texts (text,) or pairs (text, text); equal texts are tokenized once."""
    index: dict[tuple[str, ...], int] = {}
    indices = np.array([index.setdefault(part, len(index)) for part in parts], dtype=np.int64)
    keys = list(index)
    if not keys:
        return Encoded([], [], indices, [])
    columns: Any = [list(column) for column in zip(*keys, strict=True)]
    tokens, cut = encode_texts(tokenizer, *columns, max_length=max_length, **text_settings(config))
    names = [name for name in tokenizer.model_input_names if name in tokens]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*(tokens[name] for name in names), strict=True)]
    return Encoded(rows, keys, indices, cut)


def tokenizer_facts(tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    """Return what decides about the tokens of a text, as JSON can hold it."""
    vocabulary: Any
    if tokenizer.is_fast:
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        # left by the last call of the tokenizer, and set by the next one
        vocabulary = {key: value for key, value in state.items() if key not in ("truncation", "padding")}
    else:
        vocabulary = sorted(tokenizer.get_vocab().items())
    sides = [tokenizer.truncation_side, tokenizer.padding_side]
    return [vocabulary, sides, tokenizer.model_max_length, tokenizer.model_input_names]


def size_of(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return the number of windows of a text, and of tokens in the longest window."""
    ids = row["input_ids"]
    return (len(ids), max(map(len, ids))) if ids and isinstance(ids[0], list) else (1, len(ids))


def batches_of(rows: list[dict[str, Any]], which: Iterable[int], limit: int) -> list[list[int]]:
    """Return batches of rows of similar size, the largest first (so that memory errors occur early).

    Args:
        rows: Tokens of texts.
        which: Indices of the rows that are put into batches.
        limit: Maximum number of tokens of a batch, with padding.
    """
    sizes = {row: size_of(rows[row]) for row in which}
    batches: list[list[int]] = []
    for row in sorted(sizes, key=lambda row: sizes[row], reverse=True):
        # the first row of a batch is the longest
        if not batches or (len(batches[-1]) + 1) * math.prod(sizes[batches[-1][0]]) > limit:
            batches.append([])
        batches[-1].append(row)
    return batches

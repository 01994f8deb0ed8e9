"""Tokens of texts, as the model reads them: limits, truncation, windows.

This file travels with every saved model.
"""

import math
import re
from collections.abc import Sequence
from typing import Any

from transformers import BatchEncoding, PreTrainedTokenizerBase

from .configuration_multihead import MultiHeadConfig
from .encoder_multihead import max_positions, position_table
from .texts_multihead import shortened

# what an empty tokenizer of transformers may have beside its special tokens: "▁", and tokens such as <tool_call>
_FEW_TOKENS, _NO_WORD = 1000, re.compile(r"▁*|<.*>|\[.*\]", re.DOTALL)


def token_limit(config: MultiHeadConfig | None, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the maximum number of tokens: `config.max_length`, else the limit of tokenizer and encoder, else none.

    Raises:
        ValueError: `config.max_length` is more than the encoder has positions for.
    """
    positions = math.inf
    if config is not None:
        config.check_text_settings()
        positions = max_positions(config.encoder)
        if config.max_length is not None:
            table = position_table(config.encoder)
            if config.max_length > table:
                raise ValueError(f"max_length {config.max_length} is more than the encoder's {table} positions")
            return config.max_length
    limit = min(tokenizer.model_max_length, positions)
    return int(limit) if limit < 10**6 else None  # tokenizers without a limit have 10**30


def check_words(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that a tokenizer knows words.

    transformers makes an empty tokenizer, without an error, for a folder that has a configuration and no vocabulary.

    Raises:
        ValueError: The tokenizer has only special tokens.
    """
    if len(tokenizer) > _FEW_TOKENS:
        return
    special = set(tokenizer.all_special_tokens)
    if not [token for token in tokenizer.get_vocab() if token not in special and not _NO_WORD.fullmatch(token)]:
        raise ValueError(
            f"{tokenizer.name_or_path or 'this tokenizer'}: its vocabulary has only special tokens, so every word "
            "would be unknown. The folder lacks the files of the tokenizer (tokenizer.json, or vocab.txt): save them "
            "into it, with tokenizer.save_pretrained(FOLDER)"
        )


def check_vocabulary(config: MultiHeadConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the tokenizer knows words, and that the encoder has an embedding for every token of it.

    Raises:
        ValueError: The tokenizer has only special tokens, or tokens that the encoder has no embedding for.
    """
    check_words(tokenizer)
    known = getattr(config.encoder, "vocab_size", None)
    if known is None or len(tokenizer) <= known:
        return
    highest = max(tokenizer.get_vocab().values())
    if highest >= known:
        raise ValueError(
            f"the tokenizer has token ids up to {highest:,}, but the encoder has embeddings for only {known:,} "
            "tokens. Is it the tokenizer of this encoder? If tokens were added to it: "
            "model.resize_token_embeddings(len(tokenizer))"
        )


def text_settings(config: MultiHeadConfig | None) -> dict[str, Any]:
    """Return the model's text settings, as arguments of `encode_texts`."""
    if config is None:
        return {}
    config.check_text_settings()
    return {
        "prefix": config.text_prefix,
        "truncation": config.truncation,
        "max_windows": config.max_windows,
        "stride": config.stride,
    }


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_length: int | None = None,
    prefix: str | None = None,
    truncation: str = "tail",
    max_windows: int = 8,
    stride: int = 0,
) -> tuple[BatchEncoding, list[bool]]:
    """Tokenize texts or text pairs, without padding, and return whether each text was truncated.

    A text without any token (the empty text under some tokenizers) becomes one separator token.

    Args:
        tokenizer: Tokenizer of the encoder.
        texts: The texts, or the first texts of the pairs.
        pairs: The second texts of the pairs.
        max_length: Maximum number of tokens per text, or per window.
        prefix: Text put before each (first) text.
        truncation: As in `MultiHeadConfig`. With `"windows"` a text becomes a list of token lists, one per window.
        max_windows: As in `MultiHeadConfig`.
        stride: As in `MultiHeadConfig`.

    Returns:
        The tokens as lists, and for each text whether it was truncated.

    Raises:
        ValueError: `max_length` leaves no room for text (beside the `stride`) or is missing for windows, or text pairs
            are given with a `truncation` other than `"tail"`.
    """
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if max_length is not None and max_length <= special:
        raise ValueError(f"max_length {max_length} leaves no room for text beside {special} special tokens")
    if truncation != "tail" and pairs is not None:
        raise ValueError(
            f"truncation={truncation!r} is for single texts; text pairs are truncated with truncation='tail'"
        )
    if truncation == "windows" and (max_length is None or max_length - special <= stride):
        raise ValueError(
            f"windows of max_length {max_length} with {special} special tokens and a stride of {stride}: give a "
            "max_length that leaves room for new text in each window"
        )
    if prefix and max_length is not None:
        taken = special + _length(tokenizer, prefix)
        if taken >= max_length:
            raise ValueError(
                f"text_prefix {shortened(prefix)} and the special tokens take {taken} tokens, so a max_length of "
                f"{max_length} leaves no room for text"
            )
    texts = [prefix + text for text in texts] if prefix else list(texts)
    second = None if pairs is None else list(pairs)
    if truncation == "tail" and max_length is not None:
        encoded = tokenizer(texts, second, truncation=True, max_length=max_length)
        # slow tokenizers do not report truncation, so a text of exactly this length counts as truncated
        cut = [bool(encoding.overflowing) for encoding in encoded.encodings or []]
        cut = cut or [len(ids) >= max_length for ids in encoded["input_ids"]]
    else:
        encoded = tokenizer(texts, second, return_special_tokens_mask=True, verbose=False)
        cut = [False] * len(texts)
    _fill_empty(encoded, tokenizer)
    if max_length is not None and truncation == "head+tail":
        cut = [_cut_middle(encoded, row, max_length) for row in range(len(texts))]
    elif max_length is not None and truncation == "windows":
        cut = [_split_into_windows(encoded, row, max_length, max_windows, stride) for row in range(len(texts))]
    encoded.pop("special_tokens_mask", None)
    return encoded, cut


def _length(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Return the number of tokens of a text, at most the tokenizer's current truncation length."""
    if tokenizer.is_fast:  # (a normal call would disable truncation for a moment, also for other threads)
        return len(tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids)
    return len(tokenizer([text], add_special_tokens=False, verbose=False)["input_ids"][0])


def filler_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token of a text that has no tokens."""
    known = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    return next((token for token in known if token is not None), 0)


def _fill_empty(encoded: BatchEncoding, tokenizer: PreTrainedTokenizerBase) -> None:
    filler = {"input_ids": filler_token(tokenizer), "attention_mask": 1}
    for row, ids in enumerate(encoded["input_ids"]):
        if not ids:
            for key in encoded:
                encoded[key][row] = [filler.get(key, 0)]


def _cut_middle(encoded: BatchEncoding, row: int, max_length: int) -> bool:
    """Keep the special tokens of a row, and equally many tokens from the start and the end of the text."""
    special = encoded["special_tokens_mask"][row]
    if len(special) <= max_length:
        return False
    before = special.index(0)
    after = special[::-1].index(0)
    room = max_length - before - after
    head, tail = before + (room + 1) // 2, after + room // 2
    for key in encoded:
        values = encoded[key][row]
        encoded[key][row] = values[:head] + values[len(values) - tail :]
    return True


def _split_into_windows(encoded: BatchEncoding, row: int, max_length: int, max_windows: int, stride: int) -> bool:
    """Split a row's tokens into windows with the text's special tokens; return whether the text was truncated."""
    special = encoded["special_tokens_mask"][row]
    if len(special) <= max_length:
        for key in encoded:
            encoded[key][row] = [encoded[key][row]]
        return False
    before, after = special.index(0), special[::-1].index(0)
    room, text = max_length - before - after, len(special) - before - after
    starts = [0, *range(room - stride, text - stride, room - stride)]
    for key in encoded:
        values = encoded[key][row]
        first, tokens, last = values[:before], values[before : before + text], values[before + text :]
        encoded[key][row] = [[*first, *tokens[start : start + room], *last] for start in starts[:max_windows]]
    return len(starts) > max_windows

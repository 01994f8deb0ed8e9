"""Words of a text, and the tokens in which a model reads them."""

import bisect
import itertools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import BatchEncoding, PreTrainedTokenizerBase
from transformers.utils import logging

from ..model.configuration_multihead import MultiHeadConfig
from ..model.truncation_multihead import encode_texts, text_settings, token_limit

logger = logging.get_logger(__name__)

# Scripts without spaces between words (Thai, Lao, Myanmar, Khmer, kana, Han): first and last code point
_WITHOUT_SPACES = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
# Pattern over the kinds of characters, see `_kind`. A word is a run of letters and digits, with apostrophes and hyphens
# inside, points and commas between digits; one character of a script without spaces; one emoji with the characters
# joined to it; a flag; or a run of punctuation. Combining marks belong to their base character.
_WORD = re.compile(
    r"[ln][lnmj]*(?:(?:a|(?<=n)t(?=n))(?=[ln])[lnmj]*)*"
    r"|c[mj]*"
    r"|em*(?:je?m*)*"
    r"|fm*(?:fm*)?"
    r"|[pat][patmj]*"
)


class Word(NamedTuple):
    """A word of a text: `text[start:end]`; of a pair in the text number `part`."""

    part: int
    start: int
    end: int


def find_words(text: str, part: int = 0) -> list[Word]:
    """Return the words of a text, in their order.

    White space and control characters are between words; every other character is in one, so an emoji or a run of
    punctuation is a word too. Chinese, Japanese, Thai and other texts without spaces are split into characters.
    """
    kinds = "".join(map(_kind, text))
    return [Word(part, *match.span()) for match in _WORD.finditer(kinds)]


def _kind(character: str) -> str:
    """Return the kind of a character as a letter.

    l letter, n digit, c of a script without spaces, m mark, j joiner, e emoji, f half a flag, a apostrophe or hyphen, t
    point or comma, p other punctuation, s between words.
    """
    if character.isascii() and character.isalpha():
        return "l"
    if character in "'’-‐‑":
        return "a"
    if character in ".,":
        return "t"
    if character.isspace():
        return "s"
    category, point = unicodedata.category(character), ord(character)
    if category[0] == "M" or 0x1F3FB <= point <= 0x1F3FF:  # (skin tones)
        return "m"
    if any(first <= point <= last for first, last in _WITHOUT_SPACES):
        return "c"
    if 0x1F1E6 <= point <= 0x1F1FF:
        return "f"
    kinds = {"Nd": "n", "Pc": "l", "Cf": "j", "So": "e", "Cc": "s", "Cs": "s"}
    return kinds.get(category, {"L": "l", "N": "n", "P": "p", "S": "p"}.get(category[0], "l"))


class Place(NamedTuple):
    """Characters of a token: in the text number `part`, from `start` to `end`."""

    part: int
    start: int
    end: int


@dataclass
class Reading:
    """How a model reads a text, or a pair.

    Args:
        words: words of the text (of both texts of a pair), in their order.
        inputs: `input_ids`, `attention_mask` and so on → one row of tokens; of a text in windows one row for each.
        places: for each token of each row its characters, `None` for special tokens and for those of the model's text
            prefix. `None` as a whole where the tokenizer does not provide them.
        was_cut: whether the text was truncated.
    """

    words: list[Word]
    inputs: dict[str, list[list[int]]]
    places: list[list[Place | None]] | None
    was_cut: bool

    def read(self) -> list[tuple[int, int] | None]:
        """Return for each word the characters that are read, from and to; `None` for a truncated word."""
        if self.places is None:
            return [(word.start, word.end) for word in self.words]
        read_spans: list[tuple[int, int] | None] = [None] * len(self.words)
        for span in (span for row in self.places for span in row if span is not None):
            for index, _ in self._overlaps(span):
                word, known = self.words[index], read_spans[index]
                start, end = max(word.start, span.start), min(word.end, span.end)
                read_spans[index] = (start, end) if known is None else (min(known[0], start), max(known[1], end))
        return read_spans

    def token_shares(self) -> list[list[list[tuple[int, float]]]]:
        """Return for each token of each row the words that it belongs to, each with its share of the characters.

        A token without a character of a word (white space) belongs to the next word, at the end of the text to the last
        one. Special tokens, and those of the prefix, belong to no word.
        """
        read = [word for word, span in enumerate(self.read()) if span is not None]
        return [[self._shares(span, read) for span in row] for row in self.places or []]

    def _shares(self, span: Place | None, read: list[int]) -> list[tuple[int, float]]:
        if span is None or not read:
            return []
        overlaps = self._overlaps(span)
        if overlaps:
            total = sum(length for _, length in overlaps)
            return [(word, length / total) for word, length in overlaps]
        candidates = [word for word in read if self.words[word].part == span.part] or read
        return [(next((word for word in candidates if self.words[word].start >= span.end), candidates[-1]), 1.0)]

    def _overlaps(self, span: Place) -> list[tuple[int, int]]:
        """Return the words with characters of a token, and the number of these characters."""
        overlaps = []
        first = bisect.bisect_right(self.words, (span.part, span.start), key=lambda word: (word.part, word.end))
        for index, word in enumerate(itertools.islice(self.words, first, None), first):
            if word.part != span.part or word.start >= span.end:
                break
            overlaps.append((index, min(word.end, span.end) - max(word.start, span.start)))
        return overlaps


def read_text(tokenizer: PreTrainedTokenizerBase, config: MultiHeadConfig, texts: Sequence[str]) -> Reading:
    """Read one text, or the two of a pair, as the model's pipeline does.

    Raises:
        ValueError: If `encode_texts` raises it.
    """
    placing = _PlacingTokenizer(tokenizer)
    encoded, cut = encode_texts(
        placing,
        *([text] for text in texts),
        max_length=token_limit(config, tokenizer),
        **text_settings(config),
    )
    rows = {key: values[0] if config.truncation == "windows" else values for key, values in encoded.items()}
    places = rows.pop(_PLACES)
    rows = {key: rows[key] for key in tokenizer.model_input_names if key in rows}
    words = [word for part, text in enumerate(texts) for word in find_words(text, part)]
    if cut[0] and not placing.knows_places:
        logger.warning(
            f"the text is longer than the model reads, and a {type(tokenizer).__name__} does not report which of its "
            "words were truncated: all words count as read. Explain a shorter text"
        )
    if not placing.knows_places:
        return Reading(words, rows, None, cut[0])
    before = len(config.text_prefix or "")
    places = [[_without_prefix(span or None, before) for span in row] for row in places]
    return Reading(words, rows, places, cut[0])


def _without_prefix(span: Place | None, before: int) -> Place | None:
    if span is None or span.part > 0 or not before:
        return span
    return None if span.end <= before else Place(0, max(span.start - before, 0), span.end - before)


_PLACES = "places"


class _PlacingTokenizer:
    """Tokenizer for `encode_texts` whose encodings contain the position of each token in the text.

    These positions are truncated and put into windows together with the tokens.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.knows_places = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._tokenizer, name)

    def __call__(self, texts: list[str], pairs: list[str] | None = None, **options: Any) -> BatchEncoding:
        encoded = self._tokenizer(texts, pairs, **options)
        rows = []
        for row, ids in enumerate(encoded["input_ids"]):
            if encoded.encodings:
                parts, offsets = encoded.sequence_ids(row), encoded.encodings[row].offsets
                row_places = [
                    None if part is None else Place(part, *offset) for part, offset in zip(parts, offsets, strict=True)
                ]
            else:
                row_texts = [texts[row]] if pairs is None else [texts[row], pairs[row]]
                placed = place_tokens(self._tokenizer, ids, row_texts)
                self.knows_places &= placed is not None
                row_places = placed or [None] * len(ids)
            rows.append(row_places)
        encoded[_PLACES] = rows
        return encoded


def place_tokens(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], texts: Sequence[str]
) -> list[Place | None] | None:
    """Return the positions of tokens whose tokenizer has no offsets (one written in Python).

    This works if the tokens in order are exactly the text, like the characters of CANINE; otherwise the result is
    `None`. Special tokens have no position.
    """
    if tokenizer.truncation_side != "right":
        return None  # the first token may not be at the start of the text
    special = tokenizer.get_special_tokens_mask(list(ids), already_has_special_tokens=True)
    places: list[Place | None] = []
    part = at = 0
    for token, skip in zip(tokenizer.convert_ids_to_tokens(list(ids)), special, strict=True):
        if skip:
            if at:
                part, at = part + 1, 0
            places.append(None)
            continue
        if part == len(texts):
            return None
        text = texts[part]
        start = at if text.startswith(token, at) else at + len(text[at:]) - len(text[at:].lstrip())
        if not token or not text.startswith(token, start):
            return None
        at = start + len(token)
        places.append(Place(part, start, at))
    return places

"""Predictions to explain, and results of the methods."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from ..model.modeling_multihead import MultiHeadModel
from .probabilities import Text
from .words import Reading

EXTRA = 'pip install "multihead-hf[explain]"'


@dataclass(frozen=True)
class Question:
    """Prediction to explain: a label of a text.

    Args:
        model: the model.
        tokenizer: tokenizer of the model.
        texts: the text, or the two texts of a pair.
        reading: how the model reads the texts.
        head: name of the head.
        label: name of the label.
    """

    model: MultiHeadModel
    tokenizer: PreTrainedTokenizerBase
    texts: tuple[str, ...]
    reading: Reading
    head: str
    label: str

    @property
    def label_number(self) -> int:
        """Return the index of the label in the logits."""
        return self.model.config.heads[self.head].labels.index(self.label)

    def pieces(self) -> list[str | None]:
        """Return for each word the part of its text that is removed when the word is left out.

        It is the part of the word that is read, and the space before it; the last word of a text includes what follows
        as well. Words that are not read have `None`.
        """
        words, read = self.reading.words, self.reading.read()
        pieces: list[str | None] = []
        for index, (word, span) in enumerate(zip(words, read, strict=True)):
            text = self.texts[word.part]
            first = index == 0 or words[index - 1].part != word.part
            last = index + 1 == len(words) or words[index + 1].part != word.part
            space = text[0 if first else words[index - 1].end : word.start]
            pieces.append(None if span is None else space + text[slice(*span)] + (text[word.end :] if last else ""))
        return pieces

    def without(self, pieces: Sequence[str | None], left_out: set[int]) -> Text:
        """Return the text that the model reads, without some of its words (by number).

        Truncated words stay truncated: otherwise leaving a word out would let another one in.
        """
        texts = [""] * len(self.texts)
        for index, (word, piece) in enumerate(zip(self.reading.words, pieces, strict=True)):
            if piece is not None and index not in left_out:
                texts[word.part] += piece
        return texts[0] if len(texts) == 1 else (texts[0], texts[1])


class Attribution(NamedTuple):
    """Result of a method.

    Args:
        scores: one for each word; 0 for words that are not read.
        quantity: the quantity to which the scores refer: the label's `"logit"` or `"probability"`.
        additivity_error: additivity error of integrated gradients.
        details: further results of the method, such as the number of computations and the quality of the fit.
    """

    scores: list[float]
    quantity: str
    additivity_error: float | None
    details: dict[str, Any]

"""Explanations of a prediction: a score for each word of the text."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from transformers import PreTrainedTokenizerBase

from ..model.head_multihead import near_names, one_of
from ..model.modeling_multihead import MultiHeadModel
from .gradients import integrated_gradients
from .perturbation import lime, occlusion
from .probabilities import check_model, label_number, label_scores, read_text_or_pair
from .question import Attribution, Question
from .rendering import as_html, as_rich, as_text
from .words import read_text

if TYPE_CHECKING:
    from rich.console import Group

METHODS: dict[str, Callable[..., Attribution]] = {
    "integrated_gradients": integrated_gradients,
    "lime": lime,
    "occlusion": occlusion,
}


@dataclass
class WordScore:
    """A word with its score.

    Args:
        word: the characters `text[start:end]`.
        start: first character in the text, or of a pair in the text number `part`.
        end: character after the last one.
        score: above 0 for words in favour of the label, below 0 for words against it; 0 for words that are not read.
        part: 0, or 1 for the second text of a pair.
        read: whether the model reads any of it: `False` for words truncated from a long text.

    Example:
        >>> from multihead_hf import WordScore
        >>> WordScore("noise", start=4, end=9, score=0.8).read
        True
    """

    word: str
    start: int
    end: int
    score: float
    part: int = 0
    read: bool = True


@dataclass
class Explanation:
    """Explanation of why a text has a label or not. `print` shows a table, `to_dict()` returns plain values.

    Args:
        text: the text, or the pair.
        head: name of the head.
        label: name of the label.
        method: method that computed the scores: `"integrated_gradients"`, `"lime"` or `"occlusion"`.
        score: the label's calibrated probability, as the pipeline returns it.
        words: all words of the text with their scores, in their order (of a pair first those of the first text). The
            model's text prefix is not among them.
        additivity_error: for integrated gradients, the difference between the sum of the words' scores and the logit of
            the text minus that of the baseline, which are equal in theory (completeness, Sundararajan, Taly and Yan
            2017).
        quantity: the quantity to which the scores refer: the label's `"logit"` (before calibration) or `"probability"`.
        details: more results of the method: `steps`, `logit` and `baseline_logit` of integrated gradients, `r2` (how
            well the linear model fits) of LIME, and the settings.

    Example:
        >>> from multihead_hf import Explanation, WordScore
        >>> word = WordScore("noise", start=0, end=5, score=0.8)
        >>> found = Explanation("noise", "topics", "noise", "occlusion", 0.9, [word], quantity="probability")
        >>> found.to_dict()["label"]
        'noise'
    """

    text: str | tuple[str, str]
    head: str
    label: str
    method: str
    score: float
    words: list[WordScore]
    additivity_error: float | None = None
    quantity: str = "logit"
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the explanation as plain values.

        Returns:
            A dict with one entry for each field; the words are dicts too.
        """
        return {**asdict(self), "text": self.text if isinstance(self.text, str) else list(self.text)}

    def to_html(self, page: bool = True) -> str:
        """Return the text as HTML with its words marked.

        Words in favour of the label are blue (and underlined), words against it orange (and dotted), the stronger the
        higher their score; the scores are the words' titles. The HTML is self-contained, and all texts in it are
        escaped.

        Args:
            page: a whole page, or `False` for a part to put into another one.

        Returns:
            The HTML as a string.
        """
        return as_html(self, page)

    def __str__(self) -> str:
        """Return a table of the words with the strongest scores."""
        return as_text(self)

    def __rich__(self) -> "Group":
        """Return the text in colours and the table, for rich."""
        return as_rich(self)

    def _repr_html_(self) -> str:
        """Return the HTML for notebooks."""
        return self.to_html(page=False)


def explain(
    model: MultiHeadModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str | tuple[str, str],
    head: str,
    label: str | None = None,
    method: str = "integrated_gradients",
    **settings: Any,
) -> Explanation:
    """Explain one prediction: how much each word of a text supports a label.

    The text is read as the pipeline reads it, with the model's prefix, maximum length and windows. Truncated words have
    a score of 0 and `read=False`. The model is left unchanged.

    Args:
        model: the model.
        tokenizer: tokenizer of the model.
        text: a text, or a pair of texts.
        head: name of a head.
        label: name of one of its labels; `None` is the label with the highest probability.
        method: `"integrated_gradients"` explains the label's logit, from the model's gradients; `"lime"` and
            `"occlusion"` explain its probability, from texts with words left out.
        settings: settings of the method. Integrated gradients: `baseline` (`"pad"`, `"mask"` or `"unk"`), `tolerance`
            (0.005 of the change of the logit), `max_steps` (512). LIME: `num_samples` (1000), `seed` (0). Occlusion:
            `window` (1 word), `quantity` (`"probability"` or `"logit"`). All: `batch_size`.

    Returns:
        An `Explanation` with a score for each word: shares of the logit, or changes of the probability.

    Raises:
        ValueError: If a head, label, method or setting does not exist, or the text has no word; with integrated
            gradients also if the tokenizer does not provide the positions of its tokens in the text.
        ImportError: If captum or lime is not installed: `pip install "multihead-hf[explain]"`.

    Example:
        >>> from multihead_hf import MultiHeadModel, explain
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> tokenizer = AutoTokenizer.from_pretrained("complaints")
        >>> found = explain(model, tokenizer, "Loud noise at night", "mood", method="occlusion")
        >>> [word.word for word in found.words]
        ['Loud', 'noise', 'at', 'night']
    """
    check_model(model)
    model.check_head(head, "explain")
    number = None if label is None else label_number(model, head, label)
    known = settings_of(method)
    for name in settings:
        if name not in known:
            raise ValueError(f"{method} has no setting {name!r}.{near_names(name, known)} Its settings: {known}")
    plain = read_text_or_pair(text, model.config.text_columns)
    texts = (plain,) if isinstance(plain, str) else plain
    reading = read_text(tokenizer, model.config, texts)
    read = reading.read()
    if not any(read):
        raise ValueError("there is no word to explain: the text is empty, or has no words")
    scores = label_scores(model, tokenizer, head, [plain], batch_size=1)[0]
    number = int(scores.argmax()) if number is None else number
    label = model.config.heads[head].labels[number]
    attribution = METHODS[method](Question(model, tokenizer, texts, reading, head, label), **settings)
    words = [
        WordScore(texts[word.part][word.start : word.end], word.start, word.end, score, word.part, span is not None)
        for word, score, span in zip(reading.words, attribution.scores, read, strict=True)
    ]
    return Explanation(
        plain,
        head,
        label,
        method,
        float(scores[number]),
        words,
        attribution.additivity_error,
        attribution.quantity,
        attribution.details,
    )


def settings_of(method: str) -> list[str]:
    """Return the names of the settings of a method of `explain`.

    Raises:
        ValueError: If the method does not exist.
    """
    function = METHODS[one_of("method", method, tuple(METHODS))]
    return [name for name in inspect.signature(function).parameters if name != "question"]

"""Why a model gives a text a label: a score for each word of the text."""

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..model.head_multihead import near_names, one_of
from ..model.modeling_multihead import MultiHeadModel
from .gradients import integrated_gradients
from .perturbation import lime, occlusion
from .probabilities import check_model, label_number, label_scores, read_text_or_pair
from .question import Attribution, Question
from .rendering import as_html, as_rich, as_text
from .words import read_text

METHODS: dict[str, Callable[..., Attribution]] = {
    "integrated_gradients": integrated_gradients,
    "lime": lime,
    "occlusion": occlusion,
}


@dataclass
class WordScore:
    """A word, and how much it counts.

    Args:
        word: `text[start:end]`.
        start, end: its characters in the text; of a pair in the text number `part`.
        score: above 0 the word speaks for the label, below 0 against it; 0 when it is not read.
        part: 0, or 1 for the second text of a pair.
        read: whether the model reads any of it: `False` for words that are cut away from a long text.
    """

    word: str
    start: int
    end: int
    score: float
    part: int = 0
    read: bool = True


@dataclass
class Explanation:
    """Why a text has a label, or has it not.

    Args:
        text: the text, or the pair.
        head: name of the head.
        label: name of the label.
        method: how the words' scores came about: `"integrated_gradients"`, `"lime"` or `"occlusion"`.
        score: the label's calibrated probability, that of the pipeline.
        words: all words of the text with their scores, in their order (of a pair first those of the first text).
            The model's text prefix is not among them.
        additivity_error: of integrated gradients: how far the sum of the words' scores is from the logit of the text
            less that of the baseline, which it is in theory (completeness, Sundararajan, Taly and Yan 2017).
        quantity: what the words' scores are of: the label's `"logit"` (before calibration) or `"probability"`.
        details: more of the method: `steps`, `logit` and `baseline_logit` of integrated gradients, `r2` (how well the
            linear model fits) of LIME, and the settings.
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
        """Everything as plain values."""
        return {**asdict(self), "text": self.text if isinstance(self.text, str) else list(self.text)}

    def to_html(self, page: bool = True) -> str:
        """The text with its words marked, blue (and underlined) for the label, orange (and dotted) against it, the
        stronger the more they count; the scores are the words' titles. It needs nothing else, and all texts in it are
        escaped.

        Args:
            page: a whole page, or `False` for a part to put into another one.
        """
        return as_html(self, page)

    def __str__(self) -> str:
        """A table of the words that count most."""
        return as_text(self)

    def __rich__(self) -> Any:
        """For rich: the text in colours, and the table."""
        return as_rich(self)

    def _repr_html_(self) -> str:
        """For notebooks."""
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
    """Explain one prediction: how much each word of a text speaks for a label.

    The text is read as the pipeline reads it, with the model's prefix, length limit and windows. Words that are cut
    away have a score of 0 and `read=False`. The model is left as it is.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        text: a text, or a pair of texts.
        head: name of a head.
        label: name of one of its labels; `None` is the label with the highest probability.
        method: `"integrated_gradients"` explains the label's logit, from the model's gradients; `"lime"` and
            `"occlusion"` explain its probability, from texts with words left out.
        settings: of the method. Integrated gradients: `baseline` (`"pad"`, `"mask"` or `"unk"`), `tolerance` (0.005 of
            the change of the logit), `max_steps` (512). LIME: `num_samples` (1000), `seed` (0). Occlusion: `window`
            (1 word), `quantity` (`"probability"` or `"logit"`). All: `batch_size`.

    Raises:
        ValueError: a head, label, method or setting that does not exist, a text without a word; with integrated
            gradients also a tokenizer that does not tell the places of its tokens in the text.
        ImportError: captum or lime is not installed: `pip install "multihead-hf[explain]"`.

    Example:
        ```python
        found = explain(model, tokenizer, "The lamp came broken and a week late", "topic", "damage")
        print(found)
        ```
    """
    check_model(model)
    model.check_head(head, "explain")
    number = None if label is None else label_number(model, head, label)
    known = settings_of(method)
    for name in settings:
        if name not in known:
            raise ValueError(f"{method} has no setting {name!r}.{near_names(name, known)} Its settings: {known}")
    plain = read_text_or_pair(text)
    texts = (plain,) if isinstance(plain, str) else plain
    reading = read_text(tokenizer, model.config, texts)
    read = reading.read()
    if not any(read):
        raise ValueError("there is no word to explain: the text is empty, or has no words")
    scores = label_scores(model, tokenizer, head, [plain], batch_size=1)[0]
    number = int(scores.argmax()) if number is None else number
    label = model.config.heads[head].labels[number]
    found = METHODS[method](Question(model, tokenizer, texts, reading, head, label), **settings)
    words = [
        WordScore(texts[word.part][word.start : word.end], word.start, word.end, own, word.part, kept is not None)
        for word, own, kept in zip(reading.words, found.scores, read, strict=True)
    ]
    return Explanation(
        plain, head, label, method, float(scores[number]), words, found.additivity_error, found.quantity, found.details
    )


def settings_of(method: str) -> list[str]:
    """Names of the settings of a method of `explain`.

    Raises:
        ValueError: there is no such method.
    """
    function = METHODS[one_of("method", method, tuple(METHODS))]
    return [name for name in inspect.signature(function).parameters if name != "question"]

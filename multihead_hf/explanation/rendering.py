"""Rendering of an explanation: as text, in terminal colours, and as HTML."""

import html
import math
import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group

    from .explain import Explanation, WordScore

_NAMES = {"integrated_gradients": "integrated gradients", "lime": "LIME", "occlusion": "occlusion"}
_BAR = 20  # characters of the longest bar
_ROWS = 20  # words in the table
_BLUE, _ORANGE = "38, 110, 220", "225, 110, 0"  # distinguishable for colour-blind readers
_FAINT = 0.1  # words with a smaller share of the strongest score are not coloured in the terminal


def headline(explanation: "Explanation") -> str:
    """Return which label is explained, and its probability."""
    return f"{_visible(explanation.head)}: {_visible(explanation.label)}, probability {explanation.score:.4f}"


def caption(explanation: "Explanation") -> str:
    """Return a description of the scores and of their reliability."""
    name, details = _NAMES[explanation.method], explanation.details
    if explanation.method == "integrated_gradients":
        return (
            f"{name}: shares of the logit {details['logit']:.3f}, {details['baseline_logit']:.3f} without the words "
            f"(additivity error {explanation.additivity_error:.2g} after {details['steps']} steps)"
        )
    if explanation.method == "lime":
        return f"{name}: weights in a linear model of the {explanation.quantity} (R² {details['r2']:.2f})"
    window = "" if details["window"] == 1 else f", {details['window']} words at a time"
    return f"{name}: how much the {explanation.quantity} falls without the word{window}"


def as_text(explanation: "Explanation") -> str:
    """Return the words with the strongest scores; a word that occurs several times has its position in the text."""
    return "\n".join([headline(explanation), caption(explanation), "", *(line for line, _ in _table(explanation))])


def as_rich(explanation: "Explanation") -> "Group":
    """Return the same table for rich, after the whole text in colours."""
    from rich.console import Group
    from rich.text import Text

    strongest = _strongest(explanation)
    parts = [Text(headline(explanation), style="bold"), Text(caption(explanation)), Text()]
    for number in range(len(_texts(explanation))):
        shown = Text()
        for piece, word in _pieces(explanation, number):
            shown.append(_visible(piece), style="" if word is None else _style(word, strongest))
        parts += [shown, Text()]
    parts += [Text(line, style="" if word is None else _style(word, strongest)) for line, word in _table(explanation)]
    return Group(*parts)


def as_html(explanation: "Explanation", page: bool) -> str:
    """Return the text with marked words, as a `<figure>` or as a page with it."""
    strongest = _strongest(explanation)
    texts = [
        "".join(
            html.escape(piece) if word is None else _mark(piece, word, strongest)
            for piece, word in _pieces(explanation, number)
        )
        for number in range(len(_texts(explanation)))
    ]
    blocks = "".join(
        f'<p dir="auto" style="white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.9">{text}</p>\n'
        for text in texts
    )
    title = html.escape(headline(explanation))
    figure = (
        f'<figure style="margin: 1em; font-family: sans-serif">\n<figcaption><strong>{title}</strong><br>'
        f"{html.escape(caption(explanation))}. Underlined: for the label; dotted: against it.</figcaption>\n"
        f"{blocks}</figure>\n"
    )
    if not page:
        return figure
    return (
        f'<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n</head>\n'
        f"<body>\n{figure}</body>\n</html>\n"
    )


def _mark(piece: str, word: "WordScore", strongest: float) -> str:
    if not word.read:
        return f'<span title="not read" style="opacity: 0.5">{html.escape(piece)}</span>'
    strength = abs(word.score) / strongest
    colour, line = (_BLUE, "solid") if word.score >= 0 else (_ORANGE, "dotted")
    style = (
        f"color: inherit; border-radius: 3px; background: rgba({colour}, {0.6 * strength:.2f}); "
        f"border-bottom: 2px {line} rgba({colour}, {strength:.2f})"
    )
    return f'<mark title="{_number(word.score, strongest)}" style="{style}">{html.escape(piece)}</mark>'


def _style(word: "WordScore", strongest: float) -> str:
    if not word.read:
        return "dim"
    strength = abs(word.score) / strongest
    if strength < _FAINT:
        return ""
    colour = "blue" if word.score > 0 else "dark_orange3"
    return f"bold {colour} reverse" if strength > 0.5 else f"bold {colour}"


def _table(explanation: "Explanation") -> Iterator[tuple[str, "WordScore | None"]]:
    """Return the lines of the table with their words, and a last line on the words that are not in it."""
    read = [word for word in explanation.words if word.read]
    ranked = sorted(read, key=lambda word: -abs(word.score))
    strongest, times = _strongest(explanation), Counter(word.word for word in explanation.words)
    width = max(len(_number(word.score, strongest)) for word in ranked)
    for word in ranked[:_ROWS]:
        bar = ("+" if word.score > 0 else "-") * round(_BAR * abs(word.score) / strongest)
        position = f" @{word.start}" if times[word.word] > 1 else ""
        position += f" (text {word.part + 1})" if not isinstance(explanation.text, str) else ""
        yield f"{_number(word.score, strongest):>{width}}  {bar:{_BAR}}  {_visible(word.word)}{position}", word
    more = [f"{len(read) - _ROWS} more words have lower scores"] if len(read) > _ROWS else []
    more += [f"{len(explanation.words) - len(read)} words are not read"] if len(read) < len(explanation.words) else []
    if more:
        yield "; ".join(more), None


def _pieces(explanation: "Explanation", number: int) -> Iterator[tuple[str, "WordScore | None"]]:
    """Return a text in order, as words and the characters between them."""
    text, at = _texts(explanation)[number], 0
    for word in (word for word in explanation.words if word.part == number):
        yield text[at : word.start], None
        yield text[word.start : word.end], word
        at = word.end
    yield text[at:], None


def _texts(explanation: "Explanation") -> tuple[str, ...]:
    return (explanation.text,) if isinstance(explanation.text, str) else explanation.text


def _strongest(explanation: "Explanation") -> float:
    return max(abs(word.score) for word in explanation.words) or 1.0


def _number(score: float, strongest: float) -> str:
    """Return a number with three decimals, or with as many as the strongest score needs for three digits."""
    return f"{score:+.{max(3, 2 - math.floor(math.log10(strongest)))}f}"


def _visible(text: str) -> str:
    """Return the text without control characters, which a terminal would execute."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter) == "Cc" and letter not in "\n\t" else letter
        for letter in text
    )

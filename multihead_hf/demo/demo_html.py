"""Predictions on the demo page as HTML, with all values escaped.

This file is copied into Spaces: standard library only, and no import but from its siblings.
"""

import html
from dataclasses import dataclass

STYLE = """
.mh-heads { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.mh-head { border: 1px solid var(--border-color-primary); border-radius: var(--radius-lg); padding: .8rem 1rem; }
.mh-head { min-width: 0; }
.mh-head h3 { margin: 0; overflow-wrap: anywhere; }
.mh-rule { opacity: .8; font-size: var(--text-sm); margin: .1rem 0 .5rem; }
.mh-labels { list-style: none; margin: 0; padding: 0; max-height: 32rem; overflow-y: auto; scrollbar-gutter: stable; }
.mh-labels li { display: grid; grid-template-columns: 1.2em minmax(0, 1fr) 3.2em; gap: .1rem .3rem; }
.mh-labels li { margin: 0; padding: .3rem 0; }
.mh-name { overflow-wrap: anywhere; }
.mh-on .mh-name, .mh-on .mh-score { font-weight: 600; }
.mh-score { text-align: right; font-variant-numeric: tabular-nums; }
.mh-track { grid-column: 2 / 4; position: relative; height: .6rem; border-radius: .3rem; }
.mh-track { background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
.mh-bar { height: 100%; border-radius: .3rem 0 0 .3rem; }
.mh-cut { position: absolute; top: -3px; bottom: -3px; width: 2px; background: var(--body-text-color); }
.mh-note { opacity: .8; margin: 0; }
"""


@dataclass
class LabelResult:
    """One label of one text.

    Args:
        label: name of the label.
        score: its probability.
        predicted: whether the decision rule predicts it.
        threshold: for a label of a multi-label head, the probability from which it is predicted.
    """

    label: str
    score: float
    predicted: bool
    threshold: float | None


@dataclass
class HeadResult:
    """Prediction of one head for one text.

    Args:
        name: name of the head.
        rule: how it decides, in a sentence.
        labels: labels to show, best first.
    """

    name: str
    rule: str
    labels: list[LabelResult]


def results_html(heads: list[HeadResult]) -> str:
    """Return a card for each head: its labels, each with its probability as a number and as a bar."""
    return f'<div class="mh-heads">{"".join(map(_head_html, heads))}</div>'


def note_html(text: str) -> str:
    """Return a sentence as HTML."""
    return f'<p class="mh-note">{html.escape(text)}</p>'


def colour(score: float) -> str:
    """Return a colour from pale yellow (0) through green to dark blue (1), which also differ in lightness."""
    return f"hsl({55 + 165 * score:.0f} {60 + 10 * score:.0f}% {82 - 44 * score:.0f}%)"


def _head_html(head: HeadResult) -> str:
    labels = "".join(map(_label_html, head.labels)) or '<li class="mh-none"><span></span>none of the labels</li>'
    return (
        f'<section class="mh-head"><h3>{html.escape(head.name)}</h3>'
        f'<p class="mh-rule">{html.escape(head.rule)}</p><ul class="mh-labels">{labels}</ul></section>'
    )


def _label_html(label: LabelResult) -> str:
    mark = '<span title="predicted">✓</span>' if label.predicted else "<span></span>"
    cut = ""
    if label.threshold is not None:
        cut = f'<div class="mh-cut" title="threshold {label.threshold:.3g}" style="left:{label.threshold:.1%}"></div>'
    return (
        f'<li class="{"mh-on" if label.predicted else "mh-off"}">{mark}'
        f'<span class="mh-name">{html.escape(label.label)}</span><span class="mh-score">{label.score:.3f}</span>'
        f'<div class="mh-track"><div class="mh-bar" style="width:{label.score:.1%};background:{colour(label.score)}">'
        f"</div>{cut}</div></li>"
    )

"""Backend of the demo page: a saved model, a text or a file of texts, and the predictions.

This file is copied into Spaces: torch, transformers and the standard library only, and no import but from its siblings.
The pipeline makes the predictions.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import Pipeline

from .demo_html import HeadResult, LabelResult, note_html, results_html
from .demo_table import SUFFIXES, read_rows, write_rows

METHODS = {"occlusion": "Leave out each word", "integrated_gradients": "Integrated gradients"}
"""Methods that score the words; the second needs captum."""
PREDICTED, TOP_K, ALL_LABELS = VIEWS = ("Predicted", "Most probable", "All labels")
BATCH, CHUNK = 16, 64
"""Number of texts of a file that the model reads at a time, and between two steps of the progress."""
MAX_EXPLAINED, CHARACTERS_A_WORD, MAX_STEPS = 2_000, 1_000, 128
"""Limits on the work for one text, as other visitors wait: the maximum number of characters of a text whose words are
shown, the number of characters after which one more word is left out at a time (the model reads the text once for each
window), and the maximum number of steps of integrated gradients."""


@dataclass
class DemoSettings:
    """Title and limits of a page.

    Args:
        title: title of the page.
        examples: texts to try; empty for a model that reads pairs of texts.
        max_rows: maximum number of rows of an uploaded file.
        max_file_mb: maximum size of an uploaded file in MiB.
        max_chars: maximum number of characters of a text.
    """

    title: str = "Multi-head model"
    examples: Sequence[str] = ()
    max_rows: int = 1_000
    max_file_mb: float = 5
    max_chars: int = 20_000


@dataclass
class Reading:
    """A text that the model has read: its part or parts, and head → logits (1, labels)."""

    texts: list[str]
    logits: dict[str, Tensor]


class Demo:
    """Backend of the page: each method answers one action of a user.

    Args:
        pipe: a `multi-head-text-classification` pipeline.
        settings: title and limits of the page.
        explain: `multihead_hf.explanation.explain.explain`, where it is available; without it no words are shown.
    """

    def __init__(self, pipe: Pipeline, settings: DemoSettings, explain: Callable | None = None) -> None:
        self.pipe = pipe
        self.settings = settings
        self.explain = explain
        self.heads = pipe.model.config.heads
        self.columns = pipe.model.config.text_columns or ["text"]
        self.methods = [name for name in METHODS if name == "occlusion" or find_spec("captum") is not None]
        self.multi_label = any(head.multi_label for head in self.heads.values())

    def read(self, *texts: str) -> Reading:
        """Let the model read a text (or the parts of a text pair).

        Raises:
            ValueError: If the text is missing or too long.
        """
        limit = self.settings.max_chars
        for column, text in zip(self.columns, texts, strict=True):
            if not (text or "").strip():
                raise ValueError("type a text first" if len(texts) == 1 else f"type a text for {column!r} first")
            if len(text) > limit:
                raise ValueError(f"the text has {len(text):,} characters, but the maximum is {limit:,}")
        outputs = self.pipe.forward(self.pipe.preprocess(self._row(texts)))
        logits = {key.removeprefix("logits "): value.cpu() for key, value in outputs.items()}
        return Reading(list(texts), logits)

    def results(
        self,
        reading: Reading | None,
        view: str = PREDICTED,
        top_k: int = 5,
        saved: bool = True,
        threshold: float = 0.5,
        names: Sequence[str] | None = None,
    ) -> str:
        """Return the predictions of the heads as HTML.

        Args:
            reading: result of `read`, or `None` before the first.
            view: one of `VIEWS`.
            top_k: number of labels in the view "Most probable".
            saved: whether to use the saved thresholds instead of `threshold`.
            threshold: threshold for all labels of all multi-label heads.
            names: the heads to show; an empty value stands for all.
        """
        if reading is None:
            return note_html("The predictions for your text will appear here.")
        cut = None if saved else threshold
        decided = self.pipe.postprocess(reading.logits, threshold=cut)
        ranked = self.pipe.postprocess(reading.logits, return_all_scores=True)
        heads = [name for name in self.heads if not names or name in names]
        return results_html([self._head_result(name, ranked[name], decided[name], view, top_k, cut) for name in heads])

    def best_label(self, reading: Reading | None, head: str) -> str:
        """Return the most probable label of a head, or its first label before a text is read."""
        if reading is None:
            return self.heads[head].labels[0]
        return self.pipe.postprocess({head: reading.logits[head]}, top_k=1)[head][0]["label"]

    def words(self, reading: Reading | None, head: str, label: str, method: str) -> str:
        """Return the text as HTML, with the words in favour of and against a label."""
        if reading is None or self.explain is None:
            raise ValueError("type a text first")
        length = sum(map(len, reading.texts))
        if length > MAX_EXPLAINED:
            raise ValueError(
                f"the text has {length:,} characters; words can be shown for texts of up to {MAX_EXPLAINED:,}"
            )
        text = reading.texts[0] if len(reading.texts) == 1 else tuple(reading.texts)
        settings = {"window": 1 + length // CHARACTERS_A_WORD} if method == "occlusion" else {"max_steps": MAX_STEPS}
        model, tokenizer = self.pipe.model, self.pipe.tokenizer
        return self.explain(model, tokenizer, text, head, label, method=method, **settings).to_html(page=False)

    def predict_file(self, source: str | None, folder: str, progress: Callable) -> tuple[str, str]:
        """Predict the rows of a file.

        Args:
            source: the uploaded file.
            folder: folder in which the file of predictions is written, in a subfolder whose name cannot be guessed.
            progress: called with (rows done, rows).

        Returns:
            The file of predictions, and a sentence about it.

        Raises:
            ValueError: If the file is missing or too large, or `read_rows` refuses it.
        """
        if source is None:
            raise ValueError("choose a file first")
        if Path(source).stat().st_size > self.settings.max_file_mb * 2**20:
            raise ValueError(f"the file is larger than {self.settings.max_file_mb:g} MB: split it")
        rows = read_rows(source, self.columns, self.settings.max_rows, self.settings.max_chars)
        texts = [self._row([row[column] for column in self.columns]) for row in rows]
        predictions: list[dict[str, Any]] = []
        for begin in range(0, len(texts), CHUNK):
            progress((begin, len(texts)))
            predictions += self.pipe(texts[begin : begin + CHUNK], batch_size=BATCH)
        directory = Path(folder) / secrets.token_hex(16)
        directory.mkdir(parents=True)
        path = directory / f"{Path(source).stem[:80]}-predictions.csv"
        sep = write_rows(str(path), rows, predictions)
        count = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
        joined = f" Several labels of a cell are joined by {sep!r}." if self.multi_label else ""
        return str(path), note_html(f"{count} predicted.{joined}")

    def limits(self) -> str:
        """Return the limits of a file, in words."""
        columns = " and ".join(f"“{column}”" for column in self.columns)
        return (
            f"A table with the column{'s' if len(self.columns) > 1 else ''} {columns}, in a file that ends in "
            f"{', '.join(SUFFIXES)}: at most {self.settings.max_rows:,} rows, {self.settings.max_file_mb:g} MB and "
            f"{self.settings.max_chars:,} characters a text. The predictions come as a CSV file with your columns."
        )

    def _row(self, texts: Sequence[str]) -> str | dict[str, str]:
        return texts[0] if len(texts) == 1 else dict(zip(self.columns, texts, strict=True))

    def _head_result(
        self, name: str, ranked: list[dict], decided: list[dict], view: str, top_k: int, cut: float | None
    ) -> HeadResult:
        head = self.heads[name]
        predicted = {label["label"] for label in decided}
        thresholds: Mapping[str, float | None] = dict.fromkeys(head.labels)
        if head.multi_label:
            values = head.per_label_thresholds(cut if cut is not None else head.thresholds or 0.5)
            thresholds = dict(zip(head.labels, values, strict=True))
        labels = [
            LabelResult(label["label"], label["score"], label["label"] in predicted, thresholds[label["label"]])
            for label in ranked
        ]
        if view == PREDICTED:
            labels = [label for label in labels if label.predicted]
        elif view == TOP_K:
            labels = labels[: int(top_k)]
        return HeadResult(name, _rule(head, cut), labels)


def _rule(head: Any, cut: float | None) -> str:  # noqa: ANN401 (a HeadConfig, which cannot be imported in a Space)
    """Return how a head decides, in words."""
    if not head.multi_label:
        return f"One of {head.num_labels} labels: the most probable."
    minimum = "" if head.min_labels is None else f", at least {head.min_labels}"
    maximum = "" if head.max_labels is None else f", at most {head.max_labels}"
    rule = "at or above their thresholds" if cut is None else f"with a probability of {cut:.2f} or more"
    return f"Any of {head.num_labels} labels: those {rule}{minimum}{maximum}."

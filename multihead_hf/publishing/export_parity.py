"""Comparison of an exported graph with the model, on the same token batches."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import BatchEncoding, PreTrainedTokenizerBase

from ..evaluation.metric_names import main_score_of
from ..evaluation.streaming import StreamingMetrics
from ..model.decoding_multihead import calibrated, decide, probabilities
from ..model.head_multihead import HeadConfig
from ..model.losses_multihead import MISSING
from ..model.modeling_multihead import MultiHeadModel
from ..model.truncation_multihead import encode_texts, text_settings, token_limit
from ..prediction.graph import WINDOWS

Tokens = dict[str, npt.NDArray[np.int64]]
Runner = Callable[[Tokens], Mapping[str, np.ndarray]]

LONGEST = 1024
"""Tokens of the longest sequence that graphs are compared on; encoders of more are compared up to here."""

TEXTS = (
    "Het grofvuil is niet opgehaald en niemand neemt de telefoon op.",
    "Thank you very much, that was quick!",
    "",
    "?",
    "   spaces\tand\nlines   ",
    "¡Ñandú! Größe, œuvre, naïve — 你好，世界 🙂👩‍👩‍👧",
    "12,50 € op 3-4-2024 (ref. #A/77)",
    " ".join(["A long text repeats itself, and is longer than the others in its batch."] * 30),
)


@dataclass
class HeadComparison:
    """Comparison of one head's logits in a graph with those of the model.

    Args:
        difference: Largest absolute difference of a logit; NaN if a logit is NaN.
        shape: Shape of the token batch with this difference.
        decisions: Number of decisions that were compared, one for each row and label.
        changed: Number of decisions that differ.
        score_name: Name of the head's main metric on the labelled rows.
        score: Score of the graph; `None` without labelled rows.
        model_score: Score of the model.
    """

    difference: float = 0.0
    shape: tuple[int, ...] = ()
    decisions: int = 0
    changed: int = 0
    score_name: str = ""
    score: float | None = None
    model_score: float | None = None

    def metadata(self) -> dict[str, Any]:
        """Return what the metadata of a quantized graph say about the head."""
        scores = {"metric": self.score_name, "model": self.model_score, "graph": self.score}
        return {**scores, "decisions": self.decisions, "changed": self.changed}


@dataclass
class ExportReport:
    """Result of `export_model`: the exported files, and a comparison with PyTorch.

    Args:
        folder: Folder with the graph, its weights, the model's `config.json` and the tokenizer; `MultiHeadPredictor`
            and `multihead-hf predict` load it like a model.
        graph: Name of the graph's file.
        format: `"onnx"` or `"openvino"`.
        quantize: `"int8"`, or `None` for float32.
        files: Name → bytes, of the graph and its weights.
        float32_bytes: Bytes of the graph and its weights before quantisation.
        heads: Head → comparison of the graph in float32 with the model.
        quantized_heads: Head → comparison of the quantised graph with the model.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from multihead_hf import MultiHeadModel, export_model
        >>> model, tokenizer = MultiHeadModel.from_pretrained("complaints"), AutoTokenizer.from_pretrained("complaints")
        >>> report = export_model(model, tokenizer, "complaints-onnx", overwrite=True)
        >>> report.format, report.quantize, sum(report.files.values()) == report.float32_bytes
        ('onnx', None, True)
    """

    folder: str
    graph: str
    format: str
    quantize: str | None
    files: dict[str, int]
    float32_bytes: int
    heads: dict[str, HeadComparison]
    quantized_heads: dict[str, HeadComparison] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields.

        Returns:
            A dict field → plain value.
        """
        return asdict(self)

    def __str__(self) -> str:
        parts = [_table(f"{self.format}, float32", self.heads)]
        if self.quantized_heads is not None:
            parts.append(_table(f"{self.format}, {self.quantize}", self.quantized_heads))
        size = f"{sum(self.files.values()) / 1e6:.1f} MB"
        if self.quantize is not None:
            size += f" ({self.float32_bytes / 1e6:.1f} MB in float32)"
        return "\n\n".join([*parts, f"{', '.join(self.files)}: {size}"])


def _table(title: str, heads: Mapping[str, HeadComparison]) -> str:
    has_scores = any(entry.score is not None for entry in heads.values())
    lines = [f"{title + ' and PyTorch':30}  logits differ by  decisions that differ" + "   F1, PyTorch's" * has_scores]
    for name, comparison in heads.items():
        line = f"{name:30}  {comparison.difference:16.1e}  {f'{comparison.changed:,} of {comparison.decisions:,}':>21}"
        if comparison.score is not None and comparison.model_score is not None:
            line += f"   {comparison.score:.4f}, {comparison.model_score:.4f} ({comparison.score_name})"
        lines.append(line)
    return "\n".join(lines)


class Batch(NamedTuple):
    """Token ids and masks, and head → targets if they are known."""

    tokens: Tokens
    labels: Mapping[str, Tensor] | None = None


def check_batches(
    model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase, inputs: Sequence[str], seed: int = 0
) -> Iterator[Batch]:
    """Return random token batches of several shapes and paddings, and batches of `TEXTS`, one by one and together."""
    limit = min(token_limit(model.config, tokenizer) or LONGEST, LONGEST)
    windows = model.config.truncation == WINDOWS
    max_windows = min(model.config.max_windows, 3) if windows else 1
    generator = np.random.default_rng(seed)
    for rows, longest in ((1, 1), (1, 2), (7, 5), (7, 48), (2, limit), (1, limit)):
        longest = min(longest, limit)
        lengths = [
            [longest] * max_windows,
            *(generator.integers(1, longest + 1, max_windows).tolist() for _ in range(rows - 1)),
        ]
        texts = [
            [
                _random_tokens(generator, tokenizer, length, inputs)
                for length in text_lengths[: generator.integers(1, max_windows + 1)]
            ]
            for text_lengths in lengths
        ]
        yield Batch(_stacked(texts, tokenizer, windows))
    first, *second = zip(*check_texts(model, tokenizer), strict=True)
    length = token_limit(model.config, tokenizer)
    encoded, _ = encode_texts(tokenizer, first, *second, max_length=length, **text_settings(model.config))
    texts = [_windows_of(encoded, row, windows, inputs) for row in range(len(first))]
    for text in texts:
        yield Batch(_stacked([text], tokenizer, windows))
    yield Batch(_stacked(texts, tokenizer, windows))


def check_texts(model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, ...]]:
    """Return `TEXTS` and a text with the tokenizer's special tokens, as single texts or pairs, as the model reads."""
    texts = [*TEXTS, f"A text may hold {' and '.join(tokenizer.all_special_tokens)} too."]
    return list(zip(texts, texts[::-1], strict=True) if len(model.config.text_columns or ()) == 2 else zip(texts))


def labelled_batches(batches: Iterable[Mapping[str, Any]], inputs: Sequence[str]) -> Iterator[Batch]:
    """Convert batches of `MultiHeadDataCollator` to `Batch`; those without any label are left out."""
    for batch in batches:
        if any((targets != MISSING).any() for targets in batch["labels"].values()):
            yield Batch({name: batch[name].numpy() for name in inputs}, batch["labels"])


class LeastChange:
    """Scores a graph on labelled rows: 1 minus what the head that loses most has lost of its main score.

    Args:
        model: The model, in float32 and evaluation mode, whose scores are compared with.
        outputs: Head → name of its logits.
    """

    def __init__(self, model: MultiHeadModel, outputs: Mapping[str, str]) -> None:
        self._model, self._outputs = model, outputs
        self._exact: dict[int, Mapping[str, Tensor]] = {}  # by batch, which the caller keeps

    def __call__(self, run: Runner, batches: Sequence[Batch]) -> float:
        """Return the score of a runner of a graph on batches with labels."""
        heads = self._model.config.heads
        metrics, exact = StreamingMetrics(heads), StreamingMetrics(heads)
        for batch in batches:
            if id(batch) not in self._exact:
                self._exact[id(batch)] = _logits(self._model, batch)
            metrics.add(_logits_of_graph(run, self._outputs, batch), batch.labels or {})
            exact.add(self._exact[id(batch)], batch.labels or {})
        figures, expected = metrics.figures(), exact.figures()
        keys = [key for name, head in heads.items() if (key := f"{name}_{main_score_of(head)}") in expected]
        return 1 + min(figures[key] - expected[key] for key in keys)


def _logits(model: MultiHeadModel, batch: Batch) -> dict[str, Tensor]:
    with torch.no_grad():
        results = model(**{name: torch.from_numpy(values) for name, values in batch.tokens.items()}).logits
    return {name: values.float() for name, values in results.items()}


def _logits_of_graph(run: Runner, outputs: Mapping[str, str], batch: Batch) -> dict[str, Tensor]:
    ran = run(batch.tokens)
    return {head: torch.from_numpy(np.array(ran[output])) for head, output in outputs.items()}


def compare(
    model: MultiHeadModel, runners: Mapping[str, Runner], outputs: Mapping[str, str], batches: Iterable[Batch]
) -> dict[str, dict[str, HeadComparison]]:
    """Return runner → head → comparison with the model.

    Args:
        model: in float32 and evaluation mode.
        runners: by name.
        outputs: head → the runners' name of its logits.
        batches: those with labels are evaluated too.
    """
    heads = model.config.heads
    comparisons = {
        name: {head: HeadComparison(score_name=main_score_of(config)) for head, config in heads.items()}
        for name in runners
    }
    metrics = {name: StreamingMetrics(heads) for name in ("", *runners)}
    for batch in batches:
        expected = _logits(model, batch)
        if batch.labels is not None:
            metrics[""].add(expected, batch.labels)
        for name, run in runners.items():
            logits = _logits_of_graph(run, outputs, batch)
            for head, comparison in comparisons[name].items():
                _add(comparison, heads[head], expected[head], logits[head], batch.tokens["input_ids"].shape)
            if batch.labels is not None:
                metrics[name].add(logits, batch.labels)
    figures = {name: streaming.figures() for name, streaming in metrics.items()}
    for name, by_head in comparisons.items():
        for head, comparison in by_head.items():
            key = f"{head}_{comparison.score_name}"
            comparison.score, comparison.model_score = figures[name].get(key), figures[""].get(key)
    return comparisons


def _add(
    comparison: HeadComparison, head: HeadConfig, expected: Tensor, logits: Tensor, shape: tuple[int, ...]
) -> None:
    if logits.shape != expected.shape:
        raise ValueError(f"logits of the shape {tuple(logits.shape)} where the model has {tuple(expected.shape)}")
    difference = float((logits - expected).abs().max())
    if difference > comparison.difference or math.isnan(difference):
        comparison.difference, comparison.shape = difference, tuple(shape)
    decided = [
        decide(head, probabilities(head, values), logits=calibrated(head, values)) for values in (expected, logits)
    ]
    comparison.decisions += decided[0].numel()
    comparison.changed += int((decided[0] != decided[1]).sum())


def _random_tokens(
    generator: np.random.Generator, tokenizer: PreTrainedTokenizerBase, length: int, inputs: Sequence[str]
) -> dict[str, list[int]]:
    tokens = {"input_ids": generator.integers(0, len(tokenizer), length).tolist(), "attention_mask": [1] * length}
    return {name: tokens.get(name, [0] * length) for name in inputs}


def _windows_of(encoded: BatchEncoding, row: int, windows: bool, inputs: Sequence[str]) -> list[dict[str, list[int]]]:
    columns = {name: encoded[name][row] if windows else [encoded[name][row]] for name in inputs}
    return [{name: values[index] for name, values in columns.items()} for index in range(len(columns["input_ids"]))]


def _stacked(
    texts: Sequence[Sequence[Mapping[str, list[int]]]], tokenizer: PreTrainedTokenizerBase, windows: bool
) -> Tokens:
    """Return arrays (texts, length) or (texts, windows, length), padded on the tokenizer's side."""
    n_windows, longest = max(map(len, texts)), max(len(tokens["input_ids"]) for text in texts for tokens in text)
    padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    arrays = {
        name: np.full((len(texts), n_windows, longest), padding.get(name, 0), dtype=np.int64) for name in texts[0][0]
    }
    for row, text in enumerate(texts):
        for index, window in enumerate(text):
            for name, values in window.items():
                begin = longest - len(values) if tokenizer.padding_side == "left" else 0
                arrays[name][row, index, begin : begin + len(values)] = values
    return arrays if windows else {name: values[:, 0] for name, values in arrays.items()}

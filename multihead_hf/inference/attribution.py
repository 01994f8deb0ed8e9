"""Three ways to say how much each word counts for one label: integrated gradients, LIME and occlusion."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..model.decoding_multihead import probabilities
from ..model.head_multihead import one_of
from ..model.modeling_multihead import MultiHeadModel
from .probabilities import Text, evaluating, label_logits, predict_proba
from .words import Reading

logger = logging.get_logger(__name__)

BASELINES = ("pad", "mask", "unk")
QUANTITIES = ("probability", "logit")
EXTRA = 'pip install "multihead-hf[explain]"'


@dataclass(frozen=True)
class Question:
    """What is to be explained: why a model gives a text a label.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        texts: the text, or the two of a pair.
        reading: how the model reads them.
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
        """The label's place in the logits."""
        return self.model.config.heads[self.head].labels.index(self.label)

    def pieces(self) -> list[str | None]:
        """For each word the part of its text that goes when the word is left out: the word, as far as it is read, and
        the space before it; the last word of a text takes what follows as well. `None` for words that are not read."""
        words, read = self.reading.words, self.reading.read()
        pieces: list[str | None] = []
        for index, (word, kept) in enumerate(zip(words, read, strict=True)):
            text = self.texts[word.part]
            first = index == 0 or words[index - 1].part != word.part
            last = index + 1 == len(words) or words[index + 1].part != word.part
            space = text[0 if first else words[index - 1].end : word.start]
            pieces.append(None if kept is None else space + text[slice(*kept)] + (text[word.end :] if last else ""))
        return pieces

    def without(self, pieces: Sequence[str | None], left_out: set[int]) -> Text:
        """The text that the model reads, without some of its words (by number). What was cut away stays away: else
        leaving a word out would let another one in."""
        kept = [""] * len(self.texts)
        for index, (word, piece) in enumerate(zip(self.reading.words, pieces, strict=True)):
            if piece is not None and index not in left_out:
                kept[word.part] += piece
        return kept[0] if len(kept) == 1 else (kept[0], kept[1])


class Attribution(NamedTuple):
    """What a method says.

    Args:
        scores: one for each word; 0 for words that are not read.
        quantity: what they are shares of, or change: the label's `"logit"` or `"probability"`.
        additivity_error: of integrated gradients.
        details: of the method: how much it computed, and how well it fits.
    """

    scores: list[float]
    quantity: str
    additivity_error: float | None
    details: dict[str, Any]


# ---- integrated gradients ----


def integrated_gradients(
    question: Question, *, baseline: str = "pad", tolerance: float = 0.01, max_steps: int = 512, batch_size: int = 16
) -> Attribution:
    """Integrated gradients (Sundararajan, Taly and Yan 2017) of the label's logit, from a baseline to the text.

    The path runs through the encoder's token embeddings. At its begin all tokens of the text are the baseline token;
    special tokens and those of the model's prefix stay. A word's score is the sum over its tokens (of all windows), so
    the scores add up to the logit of the text less that of the baseline. The logit is that before calibration (which
    divides it) and without a threshold. A half-precision model is computed as a float32 copy.

    Args:
        question: what is to be explained.
        baseline: `"pad"`, `"mask"` or `"unk"`, the tokenizer's token of this kind.
        tolerance: additivity error, in logits, up to which steps are doubled, from 32.
        max_steps: the most steps; a larger error is then a warning.
        batch_size: steps that are computed at a time.

    Raises:
        ValueError: a tokenizer that does not tell the places of its tokens, or has no baseline token; an encoder whose
            embeddings of tokens cannot be found.
        ImportError: Captum is not installed.
    """
    if question.reading.places is None:
        raise ValueError(
            f"integrated gradients need the place of each token in the text, and a {type(question.tokenizer).__name__} "
            "does not tell it: use the tokenizer in its fast form, or method='occlusion' or 'lime'"
        )
    if max_steps < 1 or batch_size < 1 or not tolerance >= 0:
        raise ValueError(
            f"tolerance {tolerance}, max_steps {max_steps}, batch_size {batch_size}: give a tolerance of 0 or more, "
            "and whole numbers above 0"
        )
    model = _float32(question.model)
    with evaluating(model):
        path = _Path(model, question, _baseline_token(question.tokenizer, baseline))
        steps = min(32, max_steps)
        while True:
            tokens = path.attributions(steps, batch_size)
            error = abs(float(tokens.sum()) - path.difference)
            if error <= tolerance or steps == max_steps:
                break
            steps = min(2 * steps, max_steps)
    if error > tolerance:
        logger.warning(
            f"head {question.head!r}, label {question.label!r}: the scores differ by {error:.3g} in sum from the "
            f"change of the logit, {path.difference:.3g}, after {steps} steps (tolerance {tolerance:g}): take them as "
            "rough, or raise max_steps"
        )
    scores = [0.0] * len(question.reading.words)
    for row, shares_of_row in enumerate(question.reading.token_shares()):
        for place, shares in enumerate(shares_of_row):
            for word, share in shares:
                scores[word] += share * float(tokens[row, place])
    details = {"steps": steps, "tolerance": tolerance, "baseline": baseline}
    details |= {"logit": path.end, "baseline_logit": path.begin}
    return Attribution(scores, "logit", error, details)


def _float32(model: MultiHeadModel) -> MultiHeadModel:
    half = any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in model.parameters())
    return copy.deepcopy(model).float() if half else model


def _baseline_token(tokenizer: PreTrainedTokenizerBase, baseline: str) -> int:
    ids = {kind: getattr(tokenizer, f"{kind}_token_id") for kind in BASELINES}
    if ids[one_of("baseline", baseline, BASELINES)] is None:
        known = [kind for kind, number in ids.items() if number is not None]
        raise ValueError(f"the tokenizer has no {baseline} token as a baseline; it has {known}: baseline={known[:1]}")
    return ids[baseline]


class _Path:
    """The way of a text's embeddings from the baseline to the text.

    Args:
        model: in evaluation mode.
        question: what is to be explained.
        baseline: id of the token that stands for "no word".

    Attributes:
        begin, end: the label's logit at the baseline, and of the text.
    """

    def __init__(self, model: MultiHeadModel, question: Question, baseline: int) -> None:
        self._model, self._head, self._label = model, question.head, question.label_number
        self._windows = model.config.truncation == "windows"
        inputs = _padded(question.tokenizer, question.reading, model.device)
        self._ids: Tensor = inputs.pop("input_ids")  # (windows or 1, length)
        self._names, self._rest = tuple(inputs), tuple(inputs.values())
        text = torch.zeros_like(self._ids, dtype=torch.bool)
        for row, places in enumerate(question.reading.places or []):
            text[row, : len(places)] = torch.tensor([place is not None for place in places])
        self._baseline = torch.where(text, baseline, self._ids)
        with torch.no_grad():
            self._layer = self._called(token_embeddings(model))
            with _captured(self._layer) as captured:
                self._logits(self._baseline, *self._rest)
            with _replaced(self._layer, captured[0]):
                self.begin = float(self._logits(self._ids, *self._rest))
            self.end = float(self._logits(self._ids, *self._rest))

    @property
    def difference(self) -> float:
        """What the attributions add up to when the integral is exact."""
        return self.end - self.begin

    def attributions(self, steps: int, batch_size: int) -> Tensor:
        """One for each token (windows or 1, length), float64 on the CPU."""
        try:
            from captum.attr import LayerIntegratedGradients
        except ImportError as error:
            raise ImportError(f"integrated gradients need captum: {EXTRA}") from error
        # The layer's output alone is moved along the path. The ids that the model sees stay those of the text: RoBERTa
        # and others take positions from them, and padding has none.
        found = LayerIntegratedGradients(self._logits, self._layer).attribute(
            self._ids,
            baselines=self._baseline,
            additional_forward_args=self._rest,
            n_steps=steps,
            internal_batch_size=batch_size * len(self._ids),
        )
        return found.detach().double().sum(-1)[:, : self._ids.shape[1]].cpu()

    def _logits(self, ids: Tensor, *rest: Tensor) -> Tensor:
        """The label's logit (steps,) of the text's rows of tokens, all of them once for each step."""
        inputs = dict(zip(("input_ids", *self._names), (ids, *rest), strict=True))
        if self._windows:
            inputs = {key: values.view(-1, *self._ids.shape) for key, values in inputs.items()}
        return self._model(**inputs, heads=[self._head]).logits[self._head][:, self._label]

    def _called(self, layers: list[nn.Module]) -> nn.Module:
        """The one of these layers that embeds the tokens. (T5 has its table twice, and calls one of them.)"""
        for layer in layers:
            with _captured(layer) as captured:
                self._logits(self._ids, *self._rest)
            if len(captured) == 1:
                return layer
        name = type(self._model.encoder).__name__
        raise ValueError(
            f"integrated gradients need the token embeddings of the encoder, and a {name} shows none: {_OTHERS}"
        )


_OTHERS = "use method='occlusion' or 'lime'"


def token_embeddings(model: MultiHeadModel) -> list[nn.Module]:
    """The layers that may embed the encoder's tokens."""
    encoder = model.encoder
    if model.config.encoder.model_type == "canine":
        return [encoder.char_embeddings]  # hashes instead of a table
    table = encoder.get_input_embeddings()
    return [
        module
        for module in encoder.modules()
        if module is table or (isinstance(module, nn.Embedding) and module.weight is table.weight)
    ]


def _padded(tokenizer: PreTrainedTokenizerBase, reading: Reading, device: torch.device) -> dict[str, Tensor]:
    """The rows of tokens (rows, length) of a text; only the last window can need padding, on the right."""
    padded = tokenizer.pad(reading.inputs, padding_side="right", return_tensors="pt")
    return {key: values.to(device) for key, values in padded.items()}


@contextmanager
def _captured(layer: nn.Module) -> Iterator[list[Tensor]]:
    """The outputs of a layer."""
    outputs: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


@contextmanager
def _replaced(layer: nn.Module, output: Tensor) -> Iterator[None]:
    """A layer that gives this output, whatever it is given."""
    hook = layer.register_forward_hook(lambda _module, _inputs, _output: output)
    try:
        yield
    finally:
        hook.remove()


# ---- LIME ----


def lime(question: Question, *, num_samples: int = 1000, seed: int = 0, batch_size: int = 32) -> Attribution:
    """LIME (Ribeiro, Singh and Guestrin 2016): texts with words left out at random, and a linear model of the label's
    calibrated probability on which words are there, near texts weighing more. Its coefficients are the scores.

    Args:
        question: what is to be explained.
        num_samples: texts, the whole one included; those that come twice are computed once.
        seed: of the words that are left out.
        batch_size: texts that are computed at a time.

    Raises:
        ValueError: `num_samples` below 2.
        ImportError: lime is not installed.
    """
    try:
        from lime.lime_text import LimeTextExplainer
    except ImportError as error:
        raise ImportError(f"LIME needs lime: {EXTRA}") from error
    if num_samples < 2:
        raise ValueError(f"num_samples {num_samples}: give a whole number above 1")
    model, head = question.model, question.head
    settings = model.config.heads[head]
    column = 1 if settings.multi_label else question.label_number
    probability = predict_proba(model, question.tokenizer, head, question.label, batch_size)
    pieces = question.pieces()
    read = [index for index, piece in enumerate(pieces) if piece is not None]

    def classify(samples: Sequence[str]) -> npt.NDArray[np.float64]:
        kept = [set(map(int, sample.split())) for sample in samples]
        return probability([question.without(pieces, set(read) - own) for own in kept])

    # LIME sees the numbers of the words instead of the text: so words are ours, and one that occurs twice is two
    explainer = LimeTextExplainer(
        split_expression=r"\s+", bow=False, mask_string="", feature_selection="none", random_state=seed
    )
    names = " ".join(map(str, read))
    found = explainer.explain_instance(
        names, classify, labels=(column,), num_features=len(read), num_samples=num_samples
    )
    scores = [0.0] * len(pieces)
    for feature, weight in found.local_exp[column]:
        scores[read[feature]] = float(weight)
    details = {"num_samples": num_samples, "seed": seed, "r2": float(found.score)}
    return Attribution(scores, "probability", None, details)


# ---- occlusion ----


def occlusion(
    question: Question, *, window: int = 1, quantity: str = "probability", batch_size: int = 32
) -> Attribution:
    """Each word left out in turn: its score is how much the label's calibrated probability falls without it.

    Args:
        question: what is to be explained.
        window: words in a row that are left out together; a word's score is the mean over the windows that it is in.
        quantity: `"probability"`, or `"logit"` (before calibration), which does not flatten out near 0 and 1.
        batch_size: texts that are computed at a time.

    Raises:
        ValueError: a `window` below 1, an unknown quantity.
    """
    one_of("quantity", quantity, QUANTITIES)
    if window < 1:
        raise ValueError(f"window {window}: give a whole number above 0")
    pieces = question.pieces()
    groups = _windows([index for index, piece in enumerate(pieces) if piece is not None], question, window)
    texts = [question.without(pieces, group) for group in [set[int](), *groups]]
    logits = label_logits(question.model, question.tokenizer, question.head, texts, batch_size)
    if quantity == "probability":
        logits = probabilities(question.model.config.heads[question.head], logits)
    values = logits[:, question.label_number].tolist()
    drops: list[list[float]] = [[] for _ in pieces]
    for group, value in zip(groups, values[1:], strict=True):
        for index in group:
            drops[index].append(values[0] - value)
    scores = [math.fsum(own) / len(own) if own else 0.0 for own in drops]
    return Attribution(scores, quantity, None, {"window": window})


def _windows(read: list[int], question: Question, size: int) -> list[set[int]]:
    """All runs of `size` words of one text, of a shorter text all of them."""
    groups = []
    for part in range(len(question.texts)):
        own = [index for index in read if question.reading.words[index].part == part]
        groups += [set(own[begin : begin + size]) for begin in range(max(len(own) - size, 0) + 1)] if own else []
    return groups


METHODS: dict[str, Callable[..., Attribution]] = {
    "integrated_gradients": integrated_gradients,
    "lime": lime,
    "occlusion": occlusion,
}

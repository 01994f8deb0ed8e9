"""Integrated gradients: attribution of a label's logit to words."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..model.head_multihead import one_of
from ..model.modeling_multihead import MultiHeadModel
from .question import EXTRA, Attribution, Question
from .words import Reading

logger = logging.get_logger(__name__)

BASELINES = ("pad", "mask", "unk")
_NOTHING = 1e-4  # difference of logits close to the precision of float32
_OTHERS = "method='occlusion' or 'lime'"  # methods that need neither token positions nor gradients


def integrated_gradients(
    question: Question, *, baseline: str = "pad", tolerance: float = 0.005, max_steps: int = 512, batch_size: int = 8
) -> Attribution:
    """Integrated gradients (Sundararajan, Taly and Yan 2017) of the label's logit, from a baseline to the text.

    The path runs through the encoder's token embeddings. At its start all tokens of the text are the baseline token;
    special tokens and those of the model's prefix stay. A word's score is the sum over its tokens (of all windows), so
    the scores add up to the logit of the text minus that of the baseline. The logit is that before calibration (which
    divides it) and without a threshold. A half-precision model is computed as a float32 copy.

    Args:
        question: prediction to explain.
        baseline: the token that represents no word: the tokenizer's `"pad"`, `"mask"` or `"unk"` token.
        tolerance: steps are doubled, from 32, until the additivity error is at most this share of the change of the
            logit, or of the strongest token's if that is larger (an error of 0.0001 is always small enough).
        max_steps: maximum number of steps; a larger error is then a warning.
        batch_size: number of rows of tokens computed at a time: one for each step, for a text in windows one per
            window.

    Raises:
        ValueError: If the tokenizer does not provide the positions of its tokens, or has no baseline token; or the
            token embeddings of the encoder cannot be found.
        ImportError: If Captum is not installed.
    """
    if question.reading.places is None:
        raise ValueError(
            "integrated gradients need the position of each token in the text, which a "
            f"{type(question.tokenizer).__name__} does not provide: use a fast tokenizer, or {_OTHERS}"
        )
    if max_steps < 1 or batch_size < 1 or not tolerance >= 0:
        raise ValueError(
            f"tolerance {tolerance}, max_steps {max_steps}, batch_size {batch_size}: give a tolerance of 0 or more, "
            "and whole numbers above 0"
        )
    number = _baseline_token(question.tokenizer, baseline)
    with torch.inference_mode(False):
        path = _Path(_copied(question.model), question, number)
        steps = min(32, max_steps)
        while True:
            tokens = path.attributions(steps, batch_size)
            error = abs(float(tokens.sum()) - path.difference)
            scale = max(abs(path.difference), float(tokens.abs().max()))
            enough = error <= max(tolerance * scale, _NOTHING)
            if enough or steps == max_steps:
                break
            steps = min(2 * steps, max_steps)
    if not enough:
        logger.warning(
            f"head {question.head!r}, label {question.label!r}: the scores differ by {error:.3g} in sum from the "
            f"change of the logit, {path.difference:.3g}, after {steps} steps (tolerance {tolerance:g}): treat them "
            f"as approximate, raise max_steps, or take another baseline than {baseline!r}"
        )
    scores = [0.0] * len(question.reading.words)
    for row, shares_of_row in enumerate(question.reading.token_shares()):
        for position, shares in enumerate(shares_of_row):
            for word, share in shares:
                scores[word] += share * float(tokens[row, position])
    details = {"steps": steps, "tolerance": tolerance, "baseline": baseline}
    details |= {"logit": path.end, "baseline_logit": path.begin}
    return Attribution(scores, "logit", error, details)


def _copied(model: MultiHeadModel) -> MultiHeadModel:
    """Return a copy in evaluation mode, which may get hooks while other code uses the model.

    It shares the weights, except that the copy of a half-precision model has separate float32 weights.
    """
    half = any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in model.parameters())
    shared: dict[int, Any] = {} if half else {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, shared)
    return (copied.float() if half else copied).eval()


def _baseline_token(tokenizer: PreTrainedTokenizerBase, baseline: str) -> int:
    ids = {kind: getattr(tokenizer, f"{kind}_token_id") for kind in BASELINES}
    if ids[one_of("baseline", baseline, BASELINES)] is None:
        known = [kind for kind, number in ids.items() if number is not None]
        raise ValueError(f"the tokenizer has no {baseline} token as a baseline; it has {known}")
    return ids[baseline]


class _Path:
    """Path of a text's embeddings from the baseline to the text.

    Args:
        model: model in evaluation mode, which gets hooks.
        question: prediction to explain.
        baseline: id of the token that represents no word.

    Attributes:
        begin: the label's logit at the baseline.
        end: the label's logit of the text.
    """

    def __init__(self, model: MultiHeadModel, question: Question, baseline: int) -> None:
        self._model, self._head, self._label = model, question.head, question.label_number
        self._windows = model.config.truncation == "windows"
        inputs = _padded(question.tokenizer, question.reading, model.device)
        self._ids: Tensor = inputs.pop("input_ids")  # (windows or 1, length)
        self._names, self._rest = tuple(inputs), tuple(inputs.values())
        text = torch.zeros_like(self._ids, dtype=torch.bool)
        for row, places in enumerate(question.reading.places or []):
            text[row, : len(places)] = torch.tensor([span is not None for span in places])
        self._baseline = torch.where(text, baseline, self._ids)
        with torch.no_grad():
            self._layer = self._called(token_embeddings(model))
            with _captured(self._layer) as captured:
                self._logits(self._baseline, *self._rest)
            with _replaced(self._layer, captured[0]):
                self.begin = float(self._logits(self._ids, *self._rest))
            self.end = float(self._logits(self._ids, *self._rest))
        if not math.isfinite(self.difference):
            of = "the text" if math.isfinite(self.begin) else "the baseline"
            raise ValueError(
                f"head {question.head!r}, label {question.label!r}: the logit of {of} is not finite (NaN or infinity), "
                f"so there is no way from one to the other: take another baseline, or {_OTHERS}"
            )

    @property
    def difference(self) -> float:
        """Return the sum of the attributions for an exact integral."""
        return self.end - self.begin

    def attributions(self, steps: int, batch_size: int) -> Tensor:
        """Return an attribution for each token (windows or 1, length), float64 on the CPU."""
        try:
            from captum.attr import LayerIntegratedGradients
        except ImportError as error:
            raise ImportError(f"integrated gradients need captum: {EXTRA}") from error
        # Only the layer's output moves along the path. The model still gets the ids of the text, because RoBERTa and
        # others derive positions from them, and padding has no position.
        attributions = LayerIntegratedGradients(self._logits, self._layer).attribute(
            self._ids,
            baselines=self._baseline,
            additional_forward_args=self._rest,
            n_steps=steps,
            internal_batch_size=max(batch_size, len(self._ids)),
        )
        return attributions.detach().double().sum(-1)[:, : self._ids.shape[1]].cpu()

    def _logits(self, ids: Tensor, *rest: Tensor) -> Tensor:
        """Return the label's logit (steps,) of the text's rows of tokens, which are repeated for each step."""
        inputs = dict(zip(("input_ids", *self._names), (ids, *rest), strict=True))
        if self._windows:
            inputs = {key: values.view(-1, *self._ids.shape) for key, values in inputs.items()}
        return self._model(**inputs, heads=[self._head], return_dict=True).logits[self._head][:, self._label]

    def _called(self, layers: list[nn.Module]) -> nn.Module:
        """Return the layer that embeds the tokens.

        T5 registers its embedding table twice and calls one of the two.
        """
        for layer in layers:
            with _captured(layer) as captured:
                self._logits(self._ids, *self._rest)
            # (XLNet and others have another batch axis)
            if len(captured) == 1 and captured[0].shape[:2] == self._ids.shape:
                return layer
        name = type(self._model.encoder).__name__
        raise ValueError(
            f"integrated gradients need the token embeddings of the encoder, which a {name} does not expose: use "
            f"{_OTHERS}"
        )


def token_embeddings(model: MultiHeadModel) -> list[nn.Module]:
    """Return the layers that may embed the encoder's tokens."""
    encoder = model.encoder
    if model.config.encoder.model_type == "canine":
        return [encoder.char_embeddings]  # hash embeddings instead of a table
    table = encoder.get_input_embeddings()
    return [
        module
        for module in encoder.modules()
        if module is table or (isinstance(module, nn.Embedding) and module.weight is table.weight)
    ]


def _padded(tokenizer: PreTrainedTokenizerBase, reading: Reading, device: torch.device) -> dict[str, Tensor]:
    """Return the rows of tokens (rows, length) of a text; only the last window can need padding, on the right."""
    padded = tokenizer.pad(reading.inputs, padding_side="right", return_tensors="pt")
    return {key: values.to(device) for key, values in padded.items()}


@contextmanager
def _captured(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Context manager: record the outputs of a layer."""
    outputs: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()


@contextmanager
def _replaced(layer: nn.Module, output: Tensor) -> Iterator[None]:
    """Context manager: the layer returns this output, whatever its input."""
    hook = layer.register_forward_hook(lambda _module, _inputs, _output: output)
    try:
        yield
    finally:
        hook.remove()

"""Predictor of many texts: equal texts are computed once, in batches of similar lengths and a fast precision."""

import copy
import functools
import inspect
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedTokenizerBase

from ..model.digest import module_digest, plain_config
from ..model.modeling_multihead import MultiHeadModel
from ..model.texts_multihead import listed, several, text_parts
from ..model.truncation_multihead import check_vocabulary, token_limit
from ..model.unwrapping import multi_head_model
from ..model.values_multihead import ThresholdsOfHeads, whole_number
from .backends import SavedGraph, check_backend
from .loading import load_predictable, names_of_heads
from .model_state import ModelState, State
from .precision import AUTO, EXACT, Logits, PrecisionChoice, check_precision, choice_for
from .results import MultiHeadPredictions
from .runtime import Runtime, device_for
from .tokenizing import Encoded, batches_of, encode_different, tokenizer_facts

_COMPARED_BATCHES = 6
WORTH_MEASURING = 512  # texts; with fewer, a comparison would take longer than the prediction


class MultiHeadPredictor:
    """Predictor of the labels of many texts with a trained model.

    Equal texts are computed once; the texts are sorted by length and read in batches of a similar number of tokens,
    with little padding. Predictions are in the order of the texts. Text settings (length, truncation, windows, prefix)
    and thresholds are those of the model.

    Args:
        model: A trained model; it is moved to `device`, and computes in evaluation mode whatever mode it is in. It may
            change between two calls (be trained, get other heads or settings): predictions are those of the current
            model.
        tokenizer: Tokenizer of its encoder.
        heads: Names of the heads to predict; all by default.
        precision: `"fp32"` (as the weights are), `"bf16"`, with CUDA `"fp16"`, for a quantised graph `"int8"`, or
            `"auto"`: bf16 if the processor is faster in it, and if the decisions on some of the texts are those of fp32
            but for near-ties (a probability within 0.02 of the threshold or of the other label).
        batch_tokens: Tokens of a batch, padding included; by default 2,048 on a CPU (1,024 in a graph) and 65,536 on a
            GPU. In PyTorch a batch that does not fit into memory is halved.
        window_rows: Number of rows that are read, sorted, computed and written at a time; memory grows with it.
        device: Device such as `"cpu"` or `"cuda:1"`; by default CUDA if available.
        backend: Runtime: `"torch"`, or on a CPU a graph of the model in `"openvino"` (the same decisions, up to
            twice as fast) or `"onnx"`. `"auto"` takes OpenVINO if it is installed, for calls of at least
            256 different texts, as the graph takes some seconds to make. A saved model's graph is kept under `HF_HOME`.

    Raises:
        ValueError: The model does not have a head, the precision or backend is unknown, or the device cannot be used.
        ImportError: The backend is not installed.

    Example:
        >>> from multihead_hf import MultiHeadPredictor
        >>> predictor = MultiHeadPredictor.from_pretrained("complaints")
        >>> predictions = predictor.predict(["Late again!", "Thanks!"])
        >>> {name: len(prediction.labels) for name, prediction in predictions.items()}
        {'topics': 2, 'mood': 2}
    """

    def __init__(
        self,
        model: MultiHeadModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        heads: str | Sequence[str] | None = None,
        precision: str = AUTO,
        batch_tokens: int | None = None,
        window_rows: int = 8192,
        device: str | torch.device | None = None,
        backend: str = AUTO,
    ) -> None:
        multi_head_model(model)
        if not isinstance(tokenizer, PreTrainedTokenizerBase):
            raise ValueError(f"a tokenizer is expected, not {tokenizer!r:.80}: AutoTokenizer.from_pretrained(…)")
        graph: SavedGraph | None = getattr(model, "saved_graph", None)
        self.device = device_for(device, graph)
        check_backend(backend, self.device)
        check_precision(precision, self.device, backend, graph is not None and graph.quantize is not None)
        if graph is not None:
            graph.check(backend, precision)
            if precision == AUTO and (graph.quantize is not None or graph.backend == "onnx"):
                precision = graph.quantize or EXACT
        self.batch_tokens = None if batch_tokens is None else whole_number("batch_tokens", batch_tokens, 1)
        self.window_rows = whole_number("window_rows", window_rows, 1)
        self.model = model if graph is not None else model.to(self.device)
        # a copy: truncation and padding are state of the tokenizer, which another thread may change
        self.tokenizer = copy.deepcopy(tokenizer)
        self._heads = names_of_heads(model, heads)
        self.precision = precision
        self.chosen = None if precision == AUTO else precision
        self.choice: PrecisionChoice | None = None
        self.computed = self.cut = 0  # number of texts computed so far, and of truncated ones among them
        self._graph, self._state = graph, ModelState(self.model)
        self._runtime = Runtime(self.model, self.tokenizer, self.device, backend, graph)
        check_vocabulary(model.config, tokenizer)
        token_limit(model.config, tokenizer)  # raises an error now for a max_length beyond the encoder's limit
        # logits of recent texts, reused for repeated texts while the model is unchanged
        self._known: OrderedDict[tuple[str, ...], dict[str, npt.NDArray[np.float32]]] = OrderedDict()
        self._known_of: State | None = None

    @property
    def heads(self) -> list[str]:
        """Names of the heads that are computed; `ValueError` if the model has lost one of them."""
        for name in self._heads or ():
            self.model.check_head(name, "heads")
        return list(self._heads or self.model.config.heads)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        revision: str = "main",
        token: str | bool | None = None,
        subfolder: str | None = None,
        dtype: str | torch.dtype | None = None,
        **settings: Any,
    ) -> "MultiHeadPredictor":
        """Load a saved model or a graph that `multihead-hf export` wrote, and its tokenizer.

        Args:
            name_or_path: Folder or name on the Hub.
            revision: Branch, tag or commit on the Hub.
            token: Token of the Hub.
            subfolder: Folder of the model in it.
            dtype: Data type of the weights; by default as saved.
            **settings: As the class.

        Returns:
            The predictor.

        Raises:
            ValueError: As for the class; or there is no saved multi-head model, or a file or weights are missing.
        """
        inspect.signature(cls).bind(None, None, **settings)  # unknown settings are an error now, not after loading
        hub: dict[str, Any] = {"revision": revision, "token": token, "subfolder": subfolder}
        predictor = cls(*load_predictable(name_or_path, dtype, **hub), **settings)
        predictor._runtime.keep = predictor._graph is None
        return predictor

    def predict(
        self, texts: Iterable[Any], top_k: int | None = None, threshold: ThresholdsOfHeads | None = None
    ) -> MultiHeadPredictions:
        """Predict the labels of texts: probabilities, decisions, and label names with scores.

        Args:
            texts: Strings, pairs `{"text": …, "text_pair": …}`, or rows with the columns of the training; also a
                `KeyDataset` of `transformers`, and a pandas or polars data frame (its columns of the training, else
                `text`).
            top_k: Return the `top_k` best labels of each head instead of the predicted ones.
            threshold: As for `MultiHeadModel.decode`, instead of the saved thresholds.

        Returns:
            Head → `HeadPrediction`, of all texts in their order; a dict with `to_pandas()`.

        Raises:
            ValueError: An item is not a text; the message gives its number.
        """
        return self.decode(self.logits(texts), top_k, threshold)

    def decode(
        self,
        logits: Mapping[str, npt.NDArray[np.float32]],
        top_k: int | None = None,
        threshold: ThresholdsOfHeads | None = None,
    ) -> MultiHeadPredictions:
        """Return the predictions for logits of this class, as `MultiHeadModel.decode`.

        Args:
            logits: Head → logits (texts, labels).
            top_k: As for `predict`.
            threshold: As for `predict`.

        Returns:
            As `predict`.
        """
        result = self.model.decode({name: torch.from_numpy(array) for name, array in logits.items()}, top_k, threshold)
        heads = self.model.config.heads
        return MultiHeadPredictions(result, [name for name in result if top_k is None and not heads[name].multi_label])

    def stream(
        self,
        texts: Iterable[Any],
        top_k: int | None = None,
        threshold: ThresholdsOfHeads | None = None,
        return_all_scores: bool = False,
    ) -> Iterator[dict[str, list[dict[str, Any]]]]:
        """Predict texts one after another; `texts` may be an endless generator.

        Args:
            texts: As for `predict`; `window_rows` of them are held at a time.
            top_k: As for `predict`.
            threshold: As for `predict`.
            return_all_scores: Whether to return all labels of each head.

        Returns:
            For each text, as the pipeline: head → list of `{"label": …, "score": …}`.
        """
        if return_all_scores:
            top_k = max(self.model.config.heads[name].num_labels for name in self.heads)
        rest = several(listed(texts, self.model.config.text_columns))
        while window := list(itertools.islice(rest, self.window_rows)):
            predictions = self.predict(window, top_k, threshold)
            for row in range(len(window)):
                yield {name: prediction.entries(row) for name, prediction in predictions.items()}

    def logits(self, texts: Iterable[Any]) -> Logits:
        """Compute the logits of texts.

        Args:
            texts: As for `predict`.

        Returns:
            Head → logits (texts, labels), float32.
        """
        return self.compute(self.encode(self._parts(texts)))

    def _parts(self, texts: Iterable[Any]) -> list[tuple[str, ...]]:
        """Return the text, or the two texts, of each item; raise `ValueError` with its number if it is not a text."""
        parts: list[tuple[str, ...]] = []
        columns = self.model.config.text_columns
        for row, text in enumerate(several(listed(texts, columns))):
            try:
                parts.append(tuple(text_parts(text, columns)))
            except ValueError as error:
                raise ValueError(f"text {row}: {error}") from None
            if len(parts[row]) != len(parts[0]):
                raise ValueError(f"text {row}: predict single texts and pairs separately; text 0 is of the other kind")
        return parts

    # ---- in two steps, so that the next texts can be tokenized while the model computes ----

    def encode(self, parts: Sequence[tuple[str, ...]]) -> Encoded:
        """Tokenize texts; equal texts are tokenized once.

        Args:
            parts: Texts `(text,)`, or text pairs `(text, text)`.

        Returns:
            The tokens, for `compute`.
        """
        config = self.model.config
        return encode_different(self.tokenizer, config, parts, token_limit(config, self.tokenizer))

    def compute(self, encoded: Encoded) -> Logits:
        """Compute the logits of encoded texts; those of texts that were computed before are known.

        Args:
            encoded: Result of `encode`.

        Returns:
            Head → logits (texts, labels), float32.
        """
        self._forget_another_model()
        logits = self._empty(len(encoded.rows))
        new = []
        for row, key in enumerate(encoded.keys):
            if key in self._known:
                for name, values in self._known[key].items():
                    logits[name][row] = values
            else:
                new.append(row)
        self.computed += len(new)
        self.cut += sum(encoded.cut[row] for row in new)
        self._runtime.prepare(len(new), self._known_of, self.chosen)
        if new:
            self._fill(logits, encoded.rows, new)
            self._remember(encoded.keys, new, logits)
        return {name: values[encoded.of] for name, values in logits.items()}

    def logits_of_rows(self, rows: Sequence[Mapping[str, Any]]) -> Logits:
        """Compute the logits of prepared rows.

        Args:
            rows: Rows as `prepare_dataset` makes them.

        Returns:
            Head → logits (rows, labels), float32.
        """
        names = self.tokenizer.model_input_names
        tokens = [{name: row[name] for name in names if name in row} for row in rows]
        self._forget_another_model()
        logits = self._empty(len(tokens))
        self._runtime.prepare(len(tokens), self._known_of, self.chosen)
        if tokens:
            self._fill(logits, tokens, range(len(tokens)))
        return logits

    def _empty(self, rows: int) -> Logits:
        widths = {name: self.model.config.heads[name].num_labels for name in self.heads}
        return {name: np.empty((rows, width), dtype=np.float32) for name, width in widths.items()}

    def _fill(self, results: Logits, rows: list[dict[str, Any]], which: Sequence[int]) -> None:
        """Compute the logits of some of the rows, and store them at the rows' positions."""
        batches = self._batches(rows, which)
        if self.chosen is None and len(which) >= WORTH_MEASURING:
            self._choose(rows, batches)
        tokens = [[rows[row] for row in batch] for batch in batches]
        for batch, logits in zip(batches, self._runtime.run(tokens, self.chosen or EXACT, self.heads), strict=True):
            for name, values in logits.items():
                results[name][batch] = values

    @property
    def backend(self) -> str:
        """Runtime that computed the last texts, such as `"openvino"`."""
        return self._runtime.backend

    def digest(self) -> str:
        """Return a digest of model, configuration and tokenizer.

        Returns:
            Hexadecimal digits, which any changed bit changes.
        """
        about = [plain_config(self.model.config), tokenizer_facts(self.tokenizer)]
        return module_digest(self.model, about) if self._graph is None else self._graph.digest(about)

    def choose_precision(self, texts: Iterable[Any]) -> PrecisionChoice:
        """Choose the precision by some of these texts, and use it from now on.

        bf16 is chosen if the processor is faster in it, and if the decisions are as in fp32, except for near-ties. With
        `precision="auto"` this is done with the first 512 texts or more.

        Args:
            texts: As for `predict`.

        Returns:
            The precision, and the differences that were seen.
        """
        return self.measure(self.encode(self._parts(texts)))

    def measure(self, encoded: Encoded) -> PrecisionChoice:
        """Choose the precision by encoded texts (the result of `encode`), as `choose_precision`.

        Returns:
            The precision, and the differences that were seen.

        Raises:
            ValueError: There are no texts.
        """
        if not encoded.rows:
            raise ValueError("choose_precision: give some texts, such as 500 of those that are to be predicted")
        self._forget_another_model()
        self._runtime.prepare(len(encoded.rows), self._known_of, self.chosen)
        return self._choose(encoded.rows, self._batches(encoded.rows, range(len(encoded.rows))))

    def _choose(self, rows: list[dict[str, Any]], batches: list[list[int]]) -> PrecisionChoice:
        indices = np.linspace(0, len(batches) - 1, min(len(batches), _COMPARED_BATCHES)).astype(int)
        sample = [[rows[row] for row in batches[index]] for index in indices]  # short and long texts
        compute = functools.partial(self._runtime.run, sample, heads=self.heads)
        about = (self.device, self.backend, getattr(self._graph, "quantize", None), self.model.config.heads)
        self.choice = choice_for(*about, compute, self.decode)
        self.use(self.choice.precision)
        return self.choice

    def use(self, precision: str | None) -> None:
        """Compute in a precision from now on.

        Args:
            precision: Its name; `None` means that it is chosen by the next texts.
        """
        if precision is not None:
            quantize = getattr(self._graph, "quantize", None)
            check_precision(precision, self.device, self._runtime.asked, quantize is not None)
            if self._graph is not None:
                self._graph.check(AUTO, precision)
        if precision != self.chosen:
            self._known.clear()
        self.chosen = precision

    def _forget_another_model(self) -> None:
        if (now := self._state.now()) != self._known_of:
            check_vocabulary(self.model.config, self.tokenizer)  # (embeddings may have been removed)
            self.model.check_labels()
            if self._graph is not None:
                self._graph.check_text(self.model.config)
            self._known.clear()
            if self.precision == AUTO and self._known_of is not None:  # (it was chosen for another model)
                self.chosen = self.choice = None
        self._known_of = now

    def _remember(self, keys: list[tuple[str, ...]], rows: list[int], logits: Logits) -> None:
        for row in rows[-self.window_rows :]:
            self._known[keys[row]] = {name: values[row].copy() for name, values in logits.items()}
        while len(self._known) > self.window_rows:
            self._known.popitem(last=False)

    def _batches(self, rows: list[dict[str, Any]], which: Iterable[int]) -> list[list[int]]:
        return batches_of(rows, which, self.batch_tokens or self._runtime.batch_tokens)

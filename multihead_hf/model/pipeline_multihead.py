"""The pipeline `multi-head-text-classification`.

This file travels with every saved model. `MultiHeadModel.decode` makes the decisions.
"""

import copy
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import Pipeline

from .head_multihead import one_of
from .inputs_multihead import check_adapter
from .modes_multihead import evaluating
from .texts_multihead import listed, shortened, text_parts
from .truncation_multihead import check_vocabulary, encode_texts, text_settings, token_limit
from .values_multihead import ThresholdsOfHeads, whole_number

# number of batches of a dataset or generator that are sorted by length at a time
_SORTED_BATCHES = 16
_FUNCTIONS = {"sigmoid": torch.sigmoid, "softmax": lambda logits: logits.softmax(-1), "none": lambda logits: logits}


def _by_length(texts: Sequence[Any]) -> list[int]:
    """Return the indices of texts, the shortest (in characters) first, to make batches of similar lengths."""

    def length(row: int) -> int:
        parts = texts[row].values() if isinstance(texts[row], Mapping) else [texts[row]]
        return sum(len(part) for part in parts if isinstance(part, str))

    return sorted(range(len(texts)), key=length)


def _back(values: Sequence[Any], order: Sequence[int]) -> list[Any]:
    """Restore the original order of values that were sorted by `order`."""
    positions = sorted(range(len(order)), key=lambda position: order[position])
    return [values[position] for position in positions]


class _InOrder:
    """Results of a dataset or generator in its order, computed in chunks that are sorted by length."""

    def __init__(
        self,
        call: Callable[..., Iterable[Any]],
        texts: Dataset | GeneratorType,
        window: int,
        arguments: Mapping[str, Any],
    ) -> None:
        self._texts: Any = texts
        self._window = window
        self._orders: deque[list[int]] = deque()
        self._found = iter(call(self._sorted(), **arguments))
        self._results = self._in_order()

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> dict[str, list[dict[str, Any]]]:
        return next(self._results)

    def _sorted(self) -> Iterator[Any]:
        rest = iter(self._texts)
        while window := list(itertools.islice(rest, self._window)):
            order = _by_length(window)
            self._orders.append(order)
            yield from (window[row] for row in order)

    def _in_order(self) -> Iterator[Any]:
        for first in self._found:
            order = self._orders.popleft()
            yield from _back([first, *itertools.islice(self._found, len(order) - 1)], order)


class MultiHeadPipeline(Pipeline):
    """Pipeline for the task `"multi-head-text-classification"`: the labels of every head, for one text or many.

    Args:
        *args: As for `Pipeline` of transformers, whose function `pipeline` makes it.
        **kwargs: As for `Pipeline`.

    Example:
        >>> from transformers import pipeline
        >>> pipe = pipeline("multi-head-text-classification", "complaints", trust_remote_code=True)
        >>> [list(prediction) for prediction in pipe("Late again!")]
        [['topics', 'mood']]
    """

    _load_processor = False
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = True
    model: Any  # a MultiHeadModel; importing it here would be circular
    tokenizer: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # a copy: truncation and padding are state of the tokenizer, which another thread may change
        self.tokenizer = copy.deepcopy(self.tokenizer)
        check_vocabulary(self.model.config, self.tokenizer)
        check_adapter(self.model, self.model.config)

    def _sanitize_parameters(
        self,
        heads: str | list[str] | None = None,
        top_k: int | str | None = "",
        threshold: ThresholdsOfHeads | None = None,
        return_all_scores: bool | None = None,
        function_to_apply: str | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        forward = {} if heads is None else {"heads": heads}
        if function_to_apply is not None:
            one_of("function_to_apply", function_to_apply, (*_FUNCTIONS, "default"))
            function_to_apply = None if function_to_apply == "default" else function_to_apply
        # (omitted instead of None, as in the pipelines of transformers)
        if top_k is None:
            return_all_scores = True
        parameters = {
            "top_k": None if top_k == "" else top_k,
            "threshold": threshold,
            "return_all_scores": return_all_scores,
            "function_to_apply": function_to_apply,
        }
        return {}, forward, {name: value for name, value in parameters.items() if value is not None}

    def __call__(self, inputs: Iterable[Any] | Dataset, **kwargs: Any) -> Any:  # noqa: ANN401 (a list or an iterable)
        """Predict the labels of one text or many; with a `batch_size`, texts of similar lengths share a batch.

        Args:
            inputs: A text, or a list, generator or torch Dataset of texts, or a data frame, of which the columns of the
                training are read, else `text`. A text is a string, a dict `{"text": …, "text_pair": …}`, or a row with
                the columns of the training (`config.text_columns`, else `text`) and any other columns.
            **kwargs: Options of `Pipeline`, and:

                - `heads`: names of the heads to compute; all by default.
                - `top_k`: return the `top_k` best labels of each head instead of the predicted ones; `top_k=None`
                  returns all of them, as in the pipelines of transformers.
                - `threshold`: a number for all multi-label heads, or a dict head → number, list in label order or dict
                  by label name, instead of the saved thresholds.
                - `return_all_scores`: return every label with its score, best first.
                - `function_to_apply`: function that turns logits into scores: `"sigmoid"`, `"softmax"`, `"none"`
                  (logits before calibration) or `"default"` (the head's). The predicted labels stay the same.

        Returns:
            For one text a list with one dict head → list of `{"label": …, "score": …}`, for a list of texts a list of
            such dicts, and for a generator or a dataset an iterable of them.
        """
        if kwargs.get("batch_size") is not None:
            kwargs["batch_size"] = whole_number("batch_size", kwargs["batch_size"], 1)
        inputs = listed(inputs, self.model.config.text_columns)
        if isinstance(inputs, (str, Mapping)):
            return [super().__call__(inputs, **kwargs)]
        if isinstance(inputs, list) and not inputs:
            return []
        if isinstance(inputs, Iterable) and not isinstance(inputs, (list, bytes, Dataset, GeneratorType)):
            raise ValueError(
                "pass several texts as a list, a generator or a torch Dataset: list(texts) instead of this "
                f"{type(inputs).__name__}: {shortened(inputs)}"
            )
        batch_size = kwargs.get("batch_size") or self._batch_size or 1
        workers = kwargs.get("num_workers") or self._num_workers or 0
        if isinstance(inputs, list) and batch_size > 1:
            order = _by_length(inputs)
            results = super().__call__([inputs[row] for row in order], **kwargs)
            return _back(results, order)
        if isinstance(inputs, (Dataset, GeneratorType)) and batch_size > 1 and not workers:
            return _InOrder(super().__call__, inputs, _SORTED_BATCHES * batch_size, kwargs)
        return super().__call__(inputs, **kwargs)

    def preprocess(self, text: str | Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Tokenize one text.

        Args:
            text: A text, as for `__call__`.

        Returns:
            Encoder input → tensor of shape (1, length), or (1, windows, length) with `truncation="windows"`.
        """
        config = self.model.config
        texts = text_parts(text, config.text_columns)
        limit = token_limit(config, self.tokenizer)
        check_vocabulary(config, self.tokenizer)  # (the model may have been changed since)
        encoded, _ = encode_texts(
            self.tokenizer,
            *([part] for part in texts),
            max_length=limit,
            **text_settings(config),
        )
        if config.truncation != "windows":
            return {key: torch.tensor(value) for key, value in encoded.items()}
        # padded to one length, so that the base class can batch texts with different numbers of windows
        windows = {key: value[0] for key, value in encoded.items()}
        padded = self.tokenizer.pad(windows, padding="max_length", max_length=limit, return_tensors="pt")
        return {key: value.unsqueeze(0) for key, value in padded.items()}  # (1, windows, length)

    def _forward(
        self, inputs: dict[str, torch.Tensor], heads: str | list[str] | None = None
    ) -> dict[str, torch.Tensor]:
        mask = inputs["attention_mask"]
        if mask.dim() == 3:  # windows are padded to the limit, which may be longer than any text of this batch
            used = mask.flatten(0, 1).any(0).nonzero().flatten()
            begin, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
            inputs = {key: value[..., begin:end] for key, value in inputs.items()}
        with evaluating(self.model):  # a model that was just trained is in training mode
            logits = self.model(**inputs, heads=heads, return_dict=True).logits
        # flat tensors with special names: the base class splits batches by key and treats some keys specially
        return {f"logits {name}": head_logits for name, head_logits in logits.items()}

    def postprocess(
        self,
        outputs: dict[str, torch.Tensor],
        top_k: int | None = None,
        threshold: ThresholdsOfHeads | None = None,
        return_all_scores: bool = False,
        function_to_apply: str | None = None,
    ) -> dict[str, list[dict[str, Any]]]:
        """Turn the logits of one text into labels with scores.

        Args:
            outputs: The logits of all heads, as `_forward` returns them.
            top_k: As for `__call__`.
            threshold: As for `__call__`.
            return_all_scores: As for `__call__`.
            function_to_apply: As for `__call__`, without `"default"`.

        Returns:
            Head → list of dicts with `label` and `score`, the best label first.
        """
        logits = {key.removeprefix("logits "): value for key, value in outputs.items()}
        if return_all_scores:
            top_k = max(value.shape[-1] for value in logits.values())
        predictions = self.model.decode(logits, top_k=top_k, threshold=threshold)
        results = {name: prediction.entries(0) for name, prediction in predictions.items()}
        if function_to_apply is not None:
            for name, entries in results.items():
                values = _FUNCTIONS[function_to_apply](logits[name][0].float()).tolist()
                scores = dict(zip(self.model.config.heads[name].labels, values, strict=True))
                for entry in entries:
                    entry["score"] = scores[entry["label"]]
        return results

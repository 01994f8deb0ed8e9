"""The pipeline `multi-head-text-classification`, and the tokenization of texts.

This file travels with every saved model. Decisions are `MultiHeadModel.decode`'s; there is no second decoder here.
"""

import copy
import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import BatchEncoding, Pipeline, PreTrainedTokenizerBase

from .configuration_multihead import MultiHeadConfig
from .encoder_multihead import max_positions, position_table
from .head_multihead import one_of
from .modes_multihead import evaluating
from .texts_multihead import listed, shortened, text_parts

# of a dataset or generator so many batches are sorted by length at a time
_SORTED_BATCHES = 16
_FUNCTIONS = {"sigmoid": torch.sigmoid, "softmax": lambda logits: logits.softmax(-1), "none": lambda logits: logits}


def token_limit(config: MultiHeadConfig | None, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the maximum number of tokens: `config.max_length`, else the limit of tokenizer and encoder, else none.

    Raises:
        ValueError: `config.max_length` is more than the encoder has positions for.
    """
    positions = math.inf
    if config is not None:
        positions = max_positions(config.encoder)
        if config.max_length is not None:
            table = position_table(config.encoder)
            if config.max_length > table:
                raise ValueError(f"max_length {config.max_length} is more than the encoder's {table} positions")
            return config.max_length
    limit = min(tokenizer.model_max_length, positions)
    return int(limit) if limit < 10**6 else None  # tokenizers without a limit say 10**30


def check_vocabulary(config: MultiHeadConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the encoder has an embedding for every token of the tokenizer.

    Raises:
        ValueError: The tokenizer has tokens that the encoder has no embedding for.
    """
    known = getattr(config.encoder, "vocab_size", None)
    if known is None or len(tokenizer) <= known:
        return
    highest = max(tokenizer.get_vocab().values())
    if highest >= known:
        raise ValueError(
            f"the tokenizer has token ids up to {highest:,}, but the encoder has embeddings for only {known:,} "
            "tokens. Is it the tokenizer of this encoder? If tokens were added to it: "
            "model.resize_token_embeddings(len(tokenizer))"
        )


def text_settings(config: MultiHeadConfig | None) -> dict[str, Any]:
    """Return the model's text settings, as arguments of `encode_texts`."""
    if config is None:
        return {}
    return {
        "prefix": config.text_prefix,
        "truncation": config.truncation,
        "max_windows": config.max_windows,
        "stride": config.stride,
    }


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    *,
    max_length: int | None = None,
    prefix: str | None = None,
    truncation: str = "tail",
    max_windows: int = 8,
    stride: int = 0,
) -> tuple[BatchEncoding, list[bool]]:
    """Tokenize texts or text pairs, without padding, and return whether each text was truncated.

    A text without any token (the empty text under some tokenizers) becomes one separator token.

    Args:
        tokenizer: Tokenizer of the encoder.
        texts: The texts, or the first texts of the pairs.
        pairs: The second texts of the pairs.
        max_length: Maximum number of tokens per text, or per window.
        prefix: Text put before each (first) text.
        truncation: As in `MultiHeadConfig`. With `"windows"` a text becomes a list of token lists, one per window.
        max_windows: As in `MultiHeadConfig`.
        stride: As in `MultiHeadConfig`.

    Returns:
        The tokens as lists, and for each text whether it was truncated.

    Raises:
        ValueError: `max_length` leaves no room for text (beside the `stride`) or is missing for windows, or text pairs
            are given with a `truncation` other than `"tail"`.
    """
    special = tokenizer.num_special_tokens_to_add(pair=pairs is not None)
    if max_length is not None and max_length <= special:
        raise ValueError(f"max_length {max_length} leaves no room for text beside {special} special tokens")
    if truncation != "tail" and pairs is not None:
        raise ValueError(
            f"truncation={truncation!r} is for single texts; text pairs are truncated with truncation='tail'"
        )
    if truncation == "windows" and (max_length is None or max_length - special <= stride):
        raise ValueError(
            f"windows of max_length {max_length} with {special} special tokens and a stride of {stride}: give a "
            "max_length that leaves room for new text in each window"
        )
    texts = [prefix + text for text in texts] if prefix else list(texts)
    second = None if pairs is None else list(pairs)
    if truncation == "tail" and max_length is not None:
        encoded = tokenizer(texts, second, truncation=True, max_length=max_length)
        # tokenizers in Python do not tell: a text of just this length counts as cut there
        cut = [bool(encoding.overflowing) for encoding in encoded.encodings or []]
        cut = cut or [len(ids) >= max_length for ids in encoded["input_ids"]]
    else:
        encoded = tokenizer(texts, second, return_special_tokens_mask=True, verbose=False)
        cut = [False] * len(texts)
    _fill_empty(encoded, tokenizer)
    if max_length is not None and truncation == "head+tail":
        cut = [_cut_middle(encoded, row, max_length) for row in range(len(texts))]
    elif max_length is not None and truncation == "windows":
        cut = [_split_into_windows(encoded, row, max_length, max_windows, stride) for row in range(len(texts))]
    encoded.pop("special_tokens_mask", None)
    return encoded, cut


def filler_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token of a text that has no tokens."""
    known = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    return next((token for token in known if token is not None), 0)


def _fill_empty(encoded: BatchEncoding, tokenizer: PreTrainedTokenizerBase) -> None:
    filler = {"input_ids": filler_token(tokenizer), "attention_mask": 1}
    for row, ids in enumerate(encoded["input_ids"]):
        if not ids:
            for key in encoded:
                encoded[key][row] = [filler.get(key, 0)]


def _cut_middle(encoded: BatchEncoding, row: int, max_length: int) -> bool:
    """Keep the special tokens of a row, and as many tokens of the text's head as of its tail."""
    special = encoded["special_tokens_mask"][row]
    if len(special) <= max_length:
        return False
    before = special.index(0)
    after = special[::-1].index(0)
    room = max_length - before - after
    head, tail = before + (room + 1) // 2, after + room // 2
    for key in encoded:
        values = encoded[key][row]
        encoded[key][row] = values[:head] + values[len(values) - tail :]
    return True


def _split_into_windows(encoded: BatchEncoding, row: int, max_length: int, max_windows: int, stride: int) -> bool:
    """Make a row's tokens windows, each between the text's special tokens; whether some of the text is left out."""
    special = encoded["special_tokens_mask"][row]
    if len(special) <= max_length:
        for key in encoded:
            encoded[key][row] = [encoded[key][row]]
        return False
    before, after = special.index(0), special[::-1].index(0)
    room, text = max_length - before - after, len(special) - before - after
    begins = [0, *range(room - stride, text - stride, room - stride)]
    for key in encoded:
        values = encoded[key][row]
        first, tokens, last = values[:before], values[before : before + text], values[before + text :]
        encoded[key][row] = [[*first, *tokens[begin : begin + room], *last] for begin in begins[:max_windows]]
    return len(begins) > max_windows


def _by_length(texts: Sequence[Any]) -> list[int]:
    """Return the indices of texts, the shortest (in characters) first, to make batches of similar lengths."""

    def length(place: int) -> int:
        parts = texts[place].values() if isinstance(texts[place], Mapping) else [texts[place]]
        return sum(len(part) for part in parts if isinstance(part, str))

    return sorted(range(len(texts)), key=length)


def _back(values: Sequence[Any], order: Sequence[int]) -> list[Any]:
    """Return values that were sorted by `order` in their original order."""
    places = sorted(range(len(order)), key=lambda place: order[place])
    return [values[place] for place in places]


class _InOrder:
    """Results of texts of a dataset or generator, so many of which are sorted by length at a time, as they came."""

    def __init__(
        self, call: Callable[..., Iterable[Any]], texts: Any, window: int, arguments: Mapping[str, Any]
    ) -> None:
        self._texts = texts
        self._window = window
        self._orders: deque[list[int]] = deque()
        self._found = iter(call(self._sorted(), **arguments))
        self._results = self._in_order()

    def __len__(self) -> int:
        return len(self._texts)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
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
    model: Any  # a MultiHeadModel; naming it here would be an import in a circle
    tokenizer: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # truncation and padding are a state of the object: another thread that uses the caller's would change them
        self.tokenizer = copy.deepcopy(self.tokenizer)
        check_vocabulary(self.model.config, self.tokenizer)

    def _sanitize_parameters(
        self,
        heads: str | list[str] | None = None,
        top_k: int | str | None = "",
        threshold: Any = None,
        return_all_scores: bool | None = None,
        function_to_apply: str | None = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        forward = {} if heads is None else {"heads": heads}
        if function_to_apply is not None:
            one_of("function_to_apply", function_to_apply, (*_FUNCTIONS, "default"))
            function_to_apply = None if function_to_apply == "default" else function_to_apply
        # (left out, and not None: transformers' own pipelines have it so)
        if top_k is None:
            return_all_scores = True
        given = {
            "top_k": None if top_k == "" else top_k,
            "threshold": threshold,
            "return_all_scores": return_all_scores,
            "function_to_apply": function_to_apply,
        }
        return {}, forward, {name: value for name, value in given.items() if value is not None}

    def __call__(self, inputs: Any, **kwargs: Any) -> Any:
        """Predict the labels of one text or many; with a `batch_size`, texts of similar lengths share a batch.

        Args:
            inputs: A text, or a list, generator or torch Dataset of texts, or a data frame, of which the columns of the
                training are read, else `text`. A text is a string, a dict `{"text": …, "text_pair": …}`, or a row with
                the columns of the training (`config.text_columns`, else `text`) and any other columns.
            **kwargs: Options of `Pipeline`, and:

                - `heads`: names of the heads to compute; all by default.
                - `top_k`: return the `top_k` best labels of each head instead of the predicted ones; `top_k=None`
                    returns
                  all of them, as in the pipelines of transformers.
                - `threshold`: a number for all multi-label heads, or a dict head → number, list in label order or dict
                    by
                  label name, instead of the saved thresholds.
                - `return_all_scores`: return every label with its score, best first.
                - `function_to_apply`: function that turns logits into scores: `"sigmoid"`, `"softmax"`, `"none"`
                    (logits
                  before calibration) or `"default"` (the head's). The predicted labels stay the same.

        Returns:
            For one text a list with one dict head → list of `{"label": …, "score": …}`, for a list of texts a list of
            such dicts, and for a generator or a dataset an iterable of them.
        """
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
            found = super().__call__([inputs[row] for row in order], **kwargs)
            return _back(found, order)
        if isinstance(inputs, (Dataset, GeneratorType)) and batch_size > 1 and not workers:
            return _InOrder(super().__call__, inputs, _SORTED_BATCHES * batch_size, kwargs)
        return super().__call__(inputs, **kwargs)

    def preprocess(self, text: Any) -> dict[str, torch.Tensor]:
        """Tokenize one text.

        Args:
            text: A text, as for `__call__`.

        Returns:
            Encoder input → tensor of shape (1, length), or (1, windows, length) with `truncation="windows"`.
        """
        config = self.model.config
        texts = text_parts(text, config.text_columns)
        limit = token_limit(config, self.tokenizer)
        encoded, _ = encode_texts(
            self.tokenizer,
            *([part] for part in texts),
            max_length=limit,
            **text_settings(config),
        )
        if config.truncation != "windows":
            return {key: torch.tensor(value) for key, value in encoded.items()}
        # of one length, so that the base class can put texts with different numbers of windows into one batch
        windows = {key: value[0] for key, value in encoded.items()}
        padded = self.tokenizer.pad(windows, padding="max_length", max_length=limit, return_tensors="pt")
        return {key: value.unsqueeze(0) for key, value in padded.items()}  # (1, windows, length)

    def _forward(self, inputs: dict[str, torch.Tensor], heads: Any = None) -> dict[str, torch.Tensor]:
        mask = inputs["attention_mask"]
        if mask.dim() == 3:  # windows are padded to the limit, which no text of this batch may need
            used = mask.flatten(0, 1).any(0).nonzero().flatten()
            begin, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
            inputs = {key: value[..., begin:end] for key, value in inputs.items()}
        with evaluating(self.model):  # a model that was just trained is in training mode
            found = self.model(**inputs, heads=heads, return_dict=True).logits
        # flat tensors with names of their own: the base class cuts batches apart by key and treats some keys specially
        return {f"logits {name}": logits for name, logits in found.items()}

    def postprocess(
        self,
        outputs: dict[str, torch.Tensor],
        top_k: int | None = None,
        threshold: Any = None,
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
        found = {name: prediction.entries(0) for name, prediction in predictions.items()}
        if function_to_apply is not None:
            for name, entries in found.items():
                values = _FUNCTIONS[function_to_apply](logits[name][0].float()).tolist()
                own = dict(zip(self.model.config.heads[name].labels, values, strict=True))
                for entry in entries:
                    entry["score"] = own[entry["label"]]
        return found

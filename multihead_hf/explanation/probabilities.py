"""Probabilities of a head in scikit-learn's form, for LIME, SHAP and other tools that take a classifier."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..data.collator import pad_tokens
from ..model.decoding_multihead import check_finite, probabilities
from ..model.head_multihead import is_a, near_names
from ..model.modeling_multihead import MultiHeadModel
from ..model.modes_multihead import evaluating
from ..model.texts_multihead import text_parts
from ..model.truncation_multihead import token_limit
from ..model.values_multihead import whole_number
from ..prediction.tokenizing import encode_different, size_of

Text = str | tuple[str, str]
Probabilities = npt.NDArray[np.float64] | list[npt.NDArray[np.float64]]


def predict_proba(
    model: MultiHeadModel,
    tokenizer: PreTrainedTokenizerBase,
    head: str,
    label: str | None = None,
    batch_size: int = 32,
) -> Callable[[Sequence[Any]], Any]:
    """Return a function from texts to a head's calibrated probabilities, like a scikit-learn `predict_proba`.

    The probabilities are those of the pipeline: texts are read with the model's prefix, maximum length and windows.
    Batches are formed by length, duplicate texts are computed once, and rows are in the order given. The model is left
    unchanged.

    Args:
        model: the model.
        tokenizer: tokenizer of the model.
        head: name of a head.
        label: for a multi-label head, the label whose probabilities are returned.
        batch_size: number of texts computed at a time.

    Returns:
        A function `texts → array`; a text is a string, or a pair of strings.

        - single-label head: (texts, labels), rows add up to 1;
        - multi-label head with a `label`: (texts, 2), `[1 − p, p]`;
        - multi-label head without: a list with such an array for each label, as scikit-learn's `MultiOutputClassifier`.

    Raises:
        ValueError: If a head or label does not exist; when the function is called, if a text is not a string or a pair.

    Example:
        >>> from multihead_hf import MultiHeadModel, predict_proba
        >>> from transformers import AutoTokenizer
        >>> model = MultiHeadModel.from_pretrained("complaints")
        >>> probabilities = predict_proba(model, AutoTokenizer.from_pretrained("complaints"), "mood")(["Late again"])
        >>> probabilities.shape == (1, model.config.heads["mood"].num_labels)
        True
    """
    check_model(model)
    model.check_head(head, "predict_proba")
    settings = model.config.heads[head]
    number = None if label is None else label_number(model, head, label)

    def function(texts: Sequence[Any]) -> Probabilities:
        scores = label_scores(model, tokenizer, head, read_texts(texts, model.config.text_columns), batch_size)
        if not settings.multi_label:
            return scores
        both = np.stack([1 - scores, scores], axis=-1)  # (texts, labels, 2)
        return list(both.transpose(1, 0, 2)) if number is None else both[:, number]

    return function


def label_scores(
    model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase, head: str, texts: Sequence[Text], batch_size: int
) -> npt.NDArray[np.float64]:
    """Return the calibrated probabilities (texts, labels) of a head."""
    logits = label_logits(model, tokenizer, head, texts, batch_size)
    return probabilities(model.config.heads[head], logits).numpy()


def label_logits(
    model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase, head: str, texts: Sequence[Text], batch_size: int
) -> Tensor:
    """Return the logits (texts, labels) of a head, float64 on the CPU, before calibration."""
    batch_size = whole_number("batch_size", batch_size, 1)
    config = model.config
    encoded = encode_different(tokenizer, config, [_parts(text) for text in texts], token_limit(config, tokenizer))
    logits = torch.empty(len(encoded.rows), config.heads[head].num_labels, dtype=torch.float64)
    order = sorted(range(len(encoded.rows)), key=lambda row: size_of(encoded.rows[row]))
    with evaluating(model), torch.no_grad():
        for begin in range(0, len(order), batch_size):
            chosen = order[begin : begin + batch_size]
            batch = pad_tokens(tokenizer, [encoded.rows[row] for row in chosen])
            batch = {name: values.to(model.device) for name, values in batch.items()}
            logits[chosen] = model(**batch, heads=[head], return_dict=True).logits[head].double().cpu()
    check_finite(head, logits)
    return logits[torch.from_numpy(encoded.of)]


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def read_texts(texts: Iterable[object], columns: Sequence[str] | None) -> list[Text]:
    """Return texts, or pairs of them, as plain strings.

    Raises:
        ValueError: If `texts` is one text, an entry is no text, or no pair for a model of pairs, or both are mixed.
    """
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise ValueError("give a list of texts: [text]")
    plain_texts = [read_text_or_pair(text, columns, f"text {row}: ") for row, text in enumerate(texts)]
    if len({type(text) for text in plain_texts}) > 1:
        raise ValueError("some of the inputs are texts and some are pairs of texts: give one kind at a time")
    return plain_texts


def read_text_or_pair(text: object, columns: Sequence[str] | None, where: str = "") -> Text:
    """Return a text as a plain string, or a pair of texts as a tuple of two.

    Raises:
        ValueError: If it is neither, or one text for a model whose training had two text `columns`.
    """
    if isinstance(text, str):
        try:
            return text_parts(str(text), columns)[0]
        except ValueError as error:
            raise ValueError(f"{where}{error}") from None
    parts = list(text) if isinstance(text, (tuple, list, np.ndarray)) else []
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{where}a text must be a string, or a pair of strings, not {type(text).__name__}: {text!r}")
    one, other = (text_parts(str(part), None)[0] for part in parts)
    return one, other


def check_model(model: object) -> None:
    """Check that this is a multi-head model.

    Raises:
        ValueError: If it is not a `MultiHeadModel`.
    """
    if not is_a(model, MultiHeadModel):
        raise ValueError(
            f"a {type(model).__name__} is not a multi-head model: give MultiHeadModel.from_pretrained(...), or the "
            "`.model` of a trainer or pipeline"
        )


def label_number(model: MultiHeadModel, head: str, label: str) -> int:
    """Return the index of a label among those of a head.

    Raises:
        ValueError: If the head has no such label; the message suggests similar names.
    """
    labels = model.config.heads[head].labels
    if label not in labels:
        raise ValueError(f"head {head!r} has no label {label!r}.{near_names(label, labels)} Its labels: {labels}")
    return labels.index(label)

"""Record of the heads, tokenizer and text settings that rows were prepared with, to compare with a model."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig
from ..model.truncation_multihead import text_settings, token_limit
from .rows_like import PreparedRows

logger = logging.get_logger(__name__)

_KEY = "multihead_hf"
# a text that different tokenizers tokenize differently
_TRIED = "Where's the 17:45 bus? Straße – naïve café, 日本語, running unbelievably late!"
_SHOWN = 10


def keep_record(
    dataset: Dataset | IterableDataset,
    heads: Mapping[str, HeadConfig],
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """Store the record in the description of prepared rows.

    The record stays when rows are selected, shuffled, mapped, saved and concatenated, but not when a table becomes a
    stream.

    Args:
        dataset: the prepared rows.
        heads: heads to which the targets belong.
        tokenizer: tokenizer that made the tokens.
        texts: the text columns.
        settings: the maximum length and the other text settings.
    """
    record = {
        "labels": {name: head.labels for name, head in heads.items()},
        "tokens": _tokens(tokenizer),
        "text_columns": list(texts),
        **settings,
    }
    parts = [part for part in (dataset.info.description or "").split("\n\n") if part]
    dataset.info.description = "\n\n".join([*parts, json.dumps({_KEY: record})])


def check_record(
    dataset: PreparedRows, config: MultiHeadConfig, tokenizer: PreTrainedTokenizerBase | None, what: str
) -> None:
    """Compare the record of prepared rows with a model; warn if texts were read, truncated or prefixed in another way.

    Args:
        dataset: rows; those without a record are accepted.
        config: configuration of the model.
        tokenizer: tokenizer of the model.
        what: name of the rows in messages.

    Raises:
        ValueError: If the rows were prepared for other labels, or the same in another order, or with another tokenizer.
    """
    records = list(_records(dataset))
    if not records and dataset is not None:
        logger.warning_once(
            f"{what}: these prepared rows do not say for which labels and tokenizer they were prepared (a list, or a "
            "table that became a stream, does not, and of files only those of save_to_disk do), so this cannot be "
            "checked. The order of the labels must be the model's"
        )
    for record in records:
        for name, head in config.heads.items():
            _check_labels(name, head, record["labels"].get(name), what)
        if tokenizer is None:
            continue
        if record["tokens"] != _tokens(tokenizer):
            raise ValueError(
                f"{what} was prepared with a tokenizer other than the model's: prepare the raw rows for this model "
                "(prepare_dataset), or pass the raw rows"
            )
        read, known = record.get("text_columns"), config.text_columns
        if read and known and len(read) != len(known):
            kinds = {1: "single texts", 2: "text pairs"}
            logger.warning(
                f"{what} was prepared from {kinds[len(read)]} (text_columns={read}), but predictions will read "
                f"{kinds[len(known)]} (text_columns={known}): set text_columns of the training arguments to what the "
                "model is to read"
            )
        now = {"max_length": token_limit(config, tokenizer), **text_settings(config)}
        other = [
            f"{name} {record[name]!r} (the model has {value!r})"
            for name, value in now.items()
            if name in record and record[name] != value
        ]
        if other:
            logger.warning(
                f"{what} was prepared with {', '.join(other)}, so the model would read different tokens in predictions"
            )


def _check_labels(name: str, head: HeadConfig, labels: Sequence[str] | None, what: str) -> None:
    # (ids stay valid for a single-label head that was extended with labels)
    if labels is None or labels == head.labels or (not head.multi_label and labels == head.labels[: len(labels)]):
        return
    if sorted(labels) == sorted(head.labels):
        index = next(index for index, (one, other) in enumerate(zip(labels, head.labels, strict=True)) if one != other)
        difference = f"label {index} was {labels[index]!r}, but is {head.labels[index]!r} in the model"
    else:
        difference = f"the labels were {_shown(labels)}, but the model has {_shown(head.labels)}"
    raise ValueError(
        f"head {name!r}: {what} was prepared for other labels, or for the same labels in another order: {difference}. "
        "Prepare the raw rows for this model (prepare_dataset), or pass the raw rows"
    )


def _shown(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - _SHOWN:,} more" if len(labels) > _SHOWN else ""
    return f"{list(labels[:_SHOWN])}{more}"


def _tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(_TRIED, add_special_tokens=True, truncation=False, verbose=False)["input_ids"])


def _records(dataset: object) -> Iterator[dict[str, Any]]:
    if not isinstance(dataset, (Dataset, IterableDataset)):
        return
    for part in (dataset.info.description or "").split("\n\n"):
        if part.startswith(f'{{"{_KEY}": '):
            try:
                record = json.loads(part)[_KEY]
            except json.JSONDecodeError as error:
                logger.warning(f"the record of how these rows were prepared cannot be read ({error})")
                continue
            if isinstance(record, dict) and isinstance(record.get("labels"), dict):
                yield record

"""Rows with equal texts: they stay in one split, and are counted where they are in several."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from datasets import Dataset, DatasetDict
from transformers.utils import logging

from ..model.head_multihead import HeadConfig
from .encoding import find_text_columns
from .sources import column_batches
from .splits import stratified_split

logger = logging.get_logger(__name__)
_GROUP = "_rows_of_equal_texts"


def text_key(texts: Iterable[str | None]) -> tuple[str, ...] | None:
    """Return a text, or the two of a pair, as they are compared: in lower case with single blanks; `None` if empty."""
    key = tuple(" ".join((text or "").split()).casefold() for text in texts)
    return key if any(key) else None


def text_keys(rows: Dataset, text_columns: str | Sequence[str] | None) -> list[str | None]:
    """Return the text of each row as `text_key` does, with a line for each column."""
    columns = find_text_columns(rows.features, text_columns)
    keys: list[str | None] = []
    for batch in column_batches(rows, columns):
        for texts in zip(*(batch[column] for column in columns), strict=True):
            key = text_key(texts)
            keys.append(None if key is None else "\n".join(key))
    return keys


def split_by_text(
    rows: Dataset,
    heads: Mapping[str, HeadConfig],
    fractions: Mapping[str, float],
    seed: int,
    text_columns: str | Sequence[str] | None,
    reading: Mapping[str, Any],
) -> DatasetDict:
    """Split rows as `stratified_split`, with the rows of equal texts in one split, and say how many there are.

    Otherwise a model would be evaluated on texts that it was trained on. Where the rows cannot be split so, they are
    split without regard to their texts, with a warning.

    Raises:
        ValueError: As for `stratified_split`.
    """
    keys = text_keys(rows, text_columns)
    known = [key for key in keys if key is not None]
    repeated = len(known) - len(set(known))
    if not repeated:
        return stratified_split(rows, heads, fractions, seed, **reading)
    found = f"{repeated:,} of {len(rows):,} rows have the text of an earlier row"
    try:
        split = stratified_split(rows.add_column(_GROUP, keys), heads, fractions, seed, _GROUP, **reading)
    except ValueError:
        split = stratified_split(rows, heads, fractions, seed, **reading)
        logger.warning(f"{found}, and they do not fit into one split: scores on texts of the training are optimistic")
        return split
    logger.warning(f"{found}: rows with equal texts were put into one split")
    return split.remove_columns(_GROUP)


def warn_of_shared_texts(parts: Mapping[str, Any], text_columns: str | Sequence[str] | None) -> None:
    """Warn of evaluation rows whose texts are also training rows; streams and several datasets are not checked.

    Args:
        parts: `train`, and `validation` and `test` where there are such rows.
        text_columns: one or two columns; by default `"text"`.
    """
    tables = {part: rows for part, rows in parts.items() if isinstance(rows, Dataset)}
    train = tables.pop("train", None)
    if train is None or not tables:
        return
    trained = set(text_keys(train, text_columns))
    for part, rows in tables.items():
        keys = text_keys(rows, text_columns)
        shared = sum(key is not None and key in trained for key in keys)
        if shared:
            logger.warning(
                f"{shared:,} of the {len(keys):,} {part} rows have the text of a training row, so scores on them are "
                "optimistic"
            )

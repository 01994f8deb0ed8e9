"""Texts in the values that a user gives: strings, pairs, rows, data frames.

This file travels with every saved model. It needs the standard library only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from .values_multihead import near_names

_Given = TypeVar("_Given")
_FRAMES = ("DataFrame", "LazyFrame")  # classes of pandas and polars, which are optional


def listed(texts: _Given, columns: Sequence[str] | None) -> _Given | list[dict[str, Any]]:
    """Return the rows of a pandas or polars data frame as a list; anything else as it is.

    Args:
        texts: The value that the user gave.
        columns: Text columns of the training; a data frame without them is read as `text` (and `text_pair`, if
            they are two).

    Raises:
        ValueError: The data frame has no such column; the message lists its columns. Or it has pairs, and the text
            columns of the training are not known.
    """
    library, kind = type(texts).__module__.partition(".")[0], type(texts).__name__
    if library not in ("pandas", "polars") or kind not in _FRAMES:
        return texts
    frame: Any = texts
    frame = frame.collect() if kind == "LazyFrame" else frame
    trained = list(columns or ["text"])
    known = trained if set(trained) <= set(frame.columns) else ["text"]
    if known == ["text"] and "text_pair" in frame.columns:
        if columns is None:
            raise ValueError(
                "the data frame has the columns 'text' and 'text_pair', and the model does not remember whether it was "
                'trained on pairs: pass frame["text"], or for pairs frame[["text", "text_pair"]].to_dict("records")'
            )
        known = ["text", "text_pair"][: len(trained)]
    missing = [column for column in known if column not in frame.columns]
    if missing:
        raise ValueError(
            f"the data frame has no column {trained[0]!r}.{near_names(trained[0], map(str, frame.columns))} Its "
            f"columns are {list(frame.columns)}; texts are read from {trained}: frame.rename(columns={{...}}), or "
            'frame["..."].to_list()'
        )
    twice = next((column for column in known if list(frame.columns).count(column) > 1), None)
    if twice is not None:
        raise ValueError(f"the data frame has two columns called {twice!r}: drop or rename one of them")
    return frame[known].to_dicts() if library == "polars" else frame[known].to_dict("records")


def text_parts(text: object, columns: Sequence[str] | None) -> list[str]:
    """Return the text, or the two texts of a pair, in a value that a user gave.

    Args:
        text: A string, a dict `{"text": …, "text_pair": …}`, or a row with the columns of the training and any other
            columns.
        columns: Text columns of the training; `None` means `"text"`.

    Returns:
        One or two texts.

    Raises:
        ValueError: `text` is something else; the message gives what was expected.
    """
    parts: list[Any] = [text]
    if isinstance(text, Mapping):
        known = trained = list(columns or ["text"])
        if not all(column in text for column in trained) or trained == ["text"]:
            known = ["text", "text_pair"] if "text_pair" in text else ["text"]
            further = [str(key) for key in text if key not in known]
            # another key may be a misspelt second text
            misspelt = "text_pair" not in known and near_names("text_pair", further, cutoff=0.8)
            if not set(known) <= set(text) or misspelt or (further and trained != ["text"]):
                raise ValueError(
                    "a text given as a dict must have the keys 'text' and 'text_pair', or the columns used in "
                    f"training ({trained}); this one has {list(text)}"
                )
        parts = [text[column] for column in known]
    if not all(isinstance(part, str) for part in parts):
        if isinstance(text, Mapping):
            column, part = next(pair for pair in zip(known, parts, strict=True) if not isinstance(pair[1], str))
            raise ValueError(
                f"a text must be a string, but {column!r} is {shortened(part)}. An empty text is '' (in a data frame "
                "by fillna(''))"
            )
        raise ValueError(
            "a text must be a string, a dict {'text': …, 'text_pair': …}, or a row with the columns "
            f"{columns or ['text']}; not {type(text).__name__}: {shortened(text)}. An empty text is '' (in a data "
            "frame by fillna(''))"
        )
    if columns is not None and len(columns) > len(parts):
        first, second = columns
        raise ValueError(
            f"the model reads pairs of texts, {{{first!r}: …, {second!r}: …}}, but this is a single text: "
            f"{shortened(text)}"
        )
    for part in parts:
        if not part.isascii() and any("\ud800" <= letter <= "\udfff" for letter in part):
            raise ValueError(f"a text contains a lone surrogate and cannot be encoded as UTF-8: {part!r}")
    return parts


def shortened(value: object) -> str:
    """Return the beginning of a value in one line, for messages."""
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:60]}…"


def several(texts: Iterable[Any]) -> Iterator[Any]:
    """Return an iterator over several texts; `ValueError` for one text, or something that is not iterable."""
    try:  # also true for objects with `__getitem__` only, such as a KeyDataset
        iterator = None if isinstance(texts, (str, Mapping)) else iter(texts)
    except TypeError:
        iterator = None
    if iterator is None:
        raise ValueError("give a list of texts: [text]")
    return iterator

"""Checks of single values, with messages that say what was expected.

This file travels with every saved model. It needs the standard library only.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, TypeGuard, TypeVar

_Known = TypeVar("_Known")
_Value = TypeVar("_Value")

# thresholds of one head (for all its labels, in label order, or by label name), and of the heads of a model
Thresholds = float | Iterable[float] | Mapping[str, float]
ThresholdsOfHeads = float | Mapping[str, Thresholds]

_MOST = 3.4e38  # larger numbers are infinite in float32


class OpenSettings(dict[str, Any]):
    """Settings of the loss that `infer_heads` chose, which give way to any other loss and to `pos_weight`."""

    def of_the_user(self) -> dict[str, Any]:
        """Return the settings that were added since."""
        return {name: value for name, value in self.items() if name != "gamma_negative"}


def near_names(name: object, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ` Did you mean 'x'?` for a misspelt name, or an empty string if there is no near name."""
    names = {str(each).casefold(): each for each in reversed(list(known))}
    matches = [names[near] for near in difflib.get_close_matches(str(name).casefold(), names, n=2, cutoff=cutoff)]
    return f" Did you mean {' or '.join(repr(match) for match in matches)}?" if matches else ""


def is_a(value: object, known: type[_Known]) -> TypeGuard[_Known]:
    """Return whether a value is of a class, which may also be its copy in a saved model's custom code."""
    return any(base.__name__ == known.__name__ for base in type(value).__mro__)


def one_of(setting: str, value: _Value, known: tuple[str, ...]) -> _Value:
    """Return `value` if it is one of the known values.

    Raises:
        ValueError: It is not; the message suggests similar values.
    """
    if value not in known:
        raise ValueError(f"unknown {setting} {value!r}.{near_names(value, known, 0.5)} Known: {', '.join(known)}")
    return value


_KINDS: dict[type, str] = {bool: "True or False", str: "a string", int: "a whole number", Mapping: "a dict"}


def of_kind(setting: str, value: _Value, kind: type, several: bool = False) -> _Value:
    """Return `value` if it has a type, or, with `several`, is a list of such values; `None` has every type.

    Raises:
        ValueError: It has another type.
    """
    values = value if several else [value]
    fits = isinstance(values, (list, tuple)) and all(
        isinstance(item, kind) and (kind is bool or not isinstance(item, bool)) for item in values
    )
    if value is not None and not fits:
        expected = f"a list in which each item is {_KINDS[kind]}" if several else _KINDS[kind]
        name = type(value).__name__
        raise ValueError(f"{setting} {value!r}: give {expected}, not {'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}")
    return value


def plain_number(value: object) -> object:
    """Return the number in a tensor or an array with one number; return any other value unchanged."""
    if getattr(value, "ndim", None) == 0 and callable(item := getattr(value, "item", None)):
        return item()
    return value


def whole_number(setting: str, value: object, low: int, high: int | None = None) -> int:
    """Return `value` as an int if it is a whole number from `low` to `high`.

    Raises:
        ValueError: It is not.
    """
    plain = plain_number(value)
    if isinstance(plain, bool) or not isinstance(plain, int) or plain < low or (high is not None and plain > high):
        limits = f"of {low} or more" if high is None else f"from {low} to {high}"
        raise ValueError(f"{setting} {value!r}: give a whole number {limits}")
    return plain


def is_blank(text: str) -> bool:
    """Return whether a text has no visible character; a zero-width space, for example, is invisible."""
    return not any(char.isprintable() and not char.isspace() for char in text)


def check_text(what: str, text: str) -> None:
    """Check that a name can be used and saved.

    Raises:
        ValueError: The text has no visible character, or contains a lone surrogate and cannot be encoded as UTF-8.
    """
    if is_blank(text):
        raise ValueError(f"{what} {text!r} is empty: a name needs at least one visible character")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{what} {text!r} contains a lone surrogate and cannot be saved as UTF-8")


def number(
    setting: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """Return `value` as a float if it is finite, `low <= value <= high` and `above < value < below`."""
    plain = plain_number(value)
    limits = []
    if max(low, above) > -math.inf:
        limits.append(f"of {low:g} or more" if low > above else f"above {above:g}")
    if min(high, below) < math.inf:
        limits.append(f"of {high:g} or less" if high < below else f"below {below:g}")
    expected = f"give a number {' and '.join(limits)}".strip()
    if not isinstance(plain, Real) or isinstance(plain, bool):
        raise ValueError(f"{setting} {value!r}: {expected}")
    size: Any = abs(plain)
    if not size <= _MOST:
        raise ValueError(f"{setting} {_short(plain)}: {expected if limits else 'give a number below 3.4e38'}")
    value = float(plain)
    if not (low <= value <= high and above < value < below):
        raise ValueError(f"{setting} {plain!r}: {expected}")
    return value


def label_names(labels: Iterable[str]) -> list[str]:
    """Return the names of labels as a list.

    Raises:
        ValueError: There are no names, or a name is not a string, is empty, or is duplicated.
    """
    if isinstance(labels, (str, set, frozenset)) or not isinstance(labels, Iterable):
        raise ValueError(f"labels {labels!r}: give a list of names; their order is that of the logits")
    names = list(labels)
    if not names:
        raise ValueError("a head needs labels: give the list of their names")
    seen: set[str] = set()
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"label {name!r} is not a string: labels are names, such as {str(name)!r}")
        check_text("label", name)
        if name in seen:
            raise ValueError(f"label {name!r} is given twice; labels are unique")
        seen.add(name)
    return names


def relative_weight(setting: str, value: object) -> float:
    """Return a weight as a float if it is 0 or a number from 1e-9 to 1e9.

    Sums of such weights are exact enough in float32; other weights could make losses 0 or NaN.

    Raises:
        ValueError: It is not.
    """
    weight = number(setting, value, low=0.0)
    if weight and not 0.999e-9 <= weight <= 1.001e9:  # (rounding to float32 may exceed the limits slightly)
        raise ValueError(f"{setting} {weight!r}: weights are relative, so give 0 or a number from 1e-9 to 1e9")
    return weight


def _short(value: object) -> str:
    if isinstance(value, int) and abs(value) > _MOST:
        return f"10 ** {math.floor(math.log10(abs(value)))}"
    return repr(value)

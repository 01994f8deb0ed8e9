"""How the labels of a head are read from a table.

This file travels with every saved model. It needs the standard library only.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .values_multihead import is_a, near_names, one_of

EMPTY = ("missing", "none")


@dataclass(frozen=True)
class LabelReading:
    """How the labels of one head are read from a table; `None` leaves a setting open.

    Args:
        column: Column that holds the labels, or a list of columns, one for each label.
        sep: Separator between the labels in a cell, such as `"|"` in `"roads|noise"`.
        empty: Meaning of an empty cell of joined labels, or of a column for one label: `"missing"` (unknown) or
            `"none"` (the label does not apply).
        multi_hot: Whether lists of integers hold 0 or 1 for each label (`True`) or label ids (`False`).

    Raises:
        ValueError: A setting has a value of another kind.

    Example:
        >>> from multihead_hf import LabelReading
        >>> LabelReading(sep="|", empty="none").to_dict()
        {'sep': '|', 'empty': 'none'}
    """

    column: str | list[str] | None = None
    sep: str | None = None
    empty: str | None = None
    multi_hot: bool | None = None

    def __post_init__(self) -> None:
        if isinstance(self.column, (list, tuple)):
            object.__setattr__(self, "column", list(self.column))
        columns = self.column if isinstance(self.column, list) else [self.column]
        if self.column is not None and not (columns and all(isinstance(name, str) and name for name in columns)):
            raise ValueError(f"column {self.column!r}: give the name of a column, or a list of columns")
        if self.sep is not None and not (isinstance(self.sep, str) and self.sep):
            raise ValueError(f"sep {self.sep!r}: give the text between the labels, such as '|'")
        if self.empty is not None:
            one_of("empty", self.empty, EMPTY)
        if self.multi_hot is not None and not isinstance(self.multi_hot, bool):
            raise ValueError(f"multi_hot {self.multi_hot!r}: give True or False")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that are not `None`.

        Returns:
            A dict setting → value.
        """
        values = {field.name: getattr(self, field.name) for field in fields(LabelReading)}
        return {name: copy.copy(value) for name, value in values.items() if value is not None}

    @classmethod
    def of(cls, value: "LabelReading | Mapping[str, Any]") -> "LabelReading":
        """Return a `LabelReading`, from one or from a dict of its settings.

        Args:
            value: The `LabelReading` or the dict.

        Returns:
            The `LabelReading`.

        Raises:
            ValueError: `value` is neither, or a key of the dict is not a setting.
        """
        settings = value.to_dict() if is_a(value, LabelReading) else value
        known = [field.name for field in fields(cls)]
        if not isinstance(settings, Mapping):
            raise ValueError(f"reading {value!r}: give a LabelReading, or a dict with {', '.join(known)}")
        for name in settings:
            if name not in known:
                raise ValueError(
                    f"reading: unknown setting {name!r}.{near_names(name, known)} Known: {', '.join(known)}"
                )
        return cls(**settings)

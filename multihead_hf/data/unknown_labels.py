"""Labels of rows that a head does not have."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from datasets import Dataset

if TYPE_CHECKING:
    from .labels import LabelEncoder


class UnknownLabel(ValueError):
    """Error for a label that the head does not have; `message` contains head, column and row."""

    def __init__(self, message: str, label: str, head: str) -> None:
        super().__init__(message, label, head)  # all arguments, so that the error can be pickled between processes
        self.label, self.head = label, head

    def __str__(self) -> str:
        return str(self.args[0])


class _AnyLabel(dict[str, int]):
    """Ids that accept any label, and record the labels that they do not have."""

    def __init__(self, known: Mapping[str, int]) -> None:
        super().__init__(known)
        self.unknown: set[str] = set()

    def __contains__(self, label: object) -> bool:
        return True

    def __missing__(self, label: str) -> int:
        self.unknown.add(label)
        return 0


def further_unknown(rows: Dataset, encoder: "LabelEncoder", first: str) -> str:
    """Return the part of the message about all labels that the head does not have."""
    counts: dict[str, int] = {}
    columns = [encoder.column] if isinstance(encoder.column, str) else encoder.column
    for index, row in enumerate(rows.select_columns(columns).with_format(None)):
        ids = _AnyLabel(encoder.ids)
        try:
            encoder._replace(ids=ids).encode({column: [row[column]] for column in columns}, [index])
        except ValueError:
            continue  # another kind of error: only the first error is reported
        for label in ids.unknown:
            counts[label] = counts.get(label, 0) + 1
    others = sorted((label for label in counts if label != first), key=lambda label: (-counts[label], label))
    message = f". {counts.get(first, 0):,} of {len(rows):,} rows have it"
    if not others:
        return f"{message}."
    shown = ", ".join(repr(label) for label in others[:10]) + (", …" if len(others) > 10 else "")
    more = "1 other label is" if len(others) == 1 else f"{len(others):,} other labels are"
    return f"{message}; {more} not among the head's labels either: {shown}."

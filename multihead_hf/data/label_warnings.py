"""Warnings about labels that are probably a mistake."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping

from transformers.utils import logging

from ..model.head_multihead import HeadConfig
from ..model.reading_multihead import LabelReading
from ..utils.messages import counted
from .reading import Number, split_joined

logger = logging.get_logger(__name__)

# separators that are looked for where none is given; those after the first two occur in many label names
SEPARATORS = "|;,\n/+&；"
_CLEAR = "|;"
_SHOWN = 5
_ENOUGH_ROWS = 20
# as pandas reads them from a CSV file by default, and as PyTorch and datasets mark a missing class
_GAPS = {"#N/A", "-", "--", "<NA>", "?", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
_NEGATIVE = {"-1", "-100"}

ONLY_POSITIVE = "every known cell is 1, and the others are unknown"
EMPTY_ADVICE = 'If an empty cell means that the label does not apply, read it so: empty="none" (--empty none).'


def warn_of_labels(name: str, counts: Mapping[str, int], labelled: int) -> None:
    """Warn of labels that are likely a mistake.

    Args:
        name: name of the head.
        counts: label → number of rows that have it.
        labelled: number of labelled rows.
    """
    present = [label for label, count in counts.items() if count]
    if len(present) == 1 and counts[present[0]] == labelled:
        logger.warning(
            f"head {name!r}: all {labelled:,} labelled rows have the label {present[0]!r}, so there is nothing to learn"
        )
    _warn_of_gaps(name, present, counts)
    if labelled >= _ENOUGH_ROWS and len(present) > labelled / 2 and max(counts.values()) < labelled / 2:
        logger.warning(
            f"head {name!r}: {len(present):,} different labels in {labelled:,} labelled rows, so most of them cannot "
            "be learned. Is this a column of ids, numbers or free text?"
        )
    alike = near_equal_labels(present)
    if alike:
        shown = "; ".join(" and ".join(map(repr, labels)) for labels in alike[:_SHOWN])
        logger.warning(
            f"head {name!r}: labels that differ only in case, blanks or Unicode form are different labels: "
            f"{shown}{'; …' if len(alike) > _SHOWN else ''}. If they mean the same, give them one spelling in the "
            "data"
        )


def warn_of_another_column(name: str, head: HeadConfig, reading: LabelReading, column: str | list[str]) -> None:
    """Warn if a head's labels are not read from the column that it was trained on.

    Args:
        name: name of the head.
        head: the head, which remembers its column.
        reading: how the labels are read now.
        column: the column that is read now.
    """
    trained = None if head.reading is None else head.reading.column
    if trained is None or reading.column is not None:
        return
    logger.warning(
        f"head {name!r}: its labels were in the column {trained!r} in the training, which these rows lack. They are "
        f"read from {column!r}. If those are other labels, name the column: label_columns={{{name!r}: ...}} "
        "(--label-column NAME=COLUMN)"
    )


def warn_of_another_spelling(what: str, value: Number, label: str) -> None:
    """Warn, once for each value, that a number is read as a label with other characters: 7 as `007`, 1.1 as `1.10`.

    Args:
        what: head and column.
        value: the number of a cell.
        label: the label with this value.
    """
    logger.warning_once(
        f"{what}: the number {value} is read as the label {label!r}, which has the same value. If it is another label, "
        "store the labels of this column as text (pandas.read_csv(path, dtype=str))"
    )


def joined_labels(name: str, counts: Mapping[str, int], separators: str) -> tuple[str, bool] | None:
    """Return a message if some labels look like several labels joined into one string, and whether most of them do.

    Args:
        name: name of the head.
        counts: label → number of rows that have it.
        separators: characters that may separate several labels in one string; empty if labels are not strings.
    """
    present = [label for label, count in counts.items() if count]
    lists = [label for label in present if separators and label[:1] + label[-1:] in ("[]", "{}")]
    if lists:
        message = (
            f"head {name!r}: {len(lists):,} of its {len(present):,} labels look like lists or objects written "
            f"as text, such as {lists[0]!r}, and each is read as one label. If a row may have several labels, write "
            'them with a separator between them ("a|b", and sep="|") or as JSON Lines or Parquet, which keep '
            "lists"
        )
        return message, 2 * len(lists) > len(present)
    for sep in separators:
        joined = [label for label in present if sep in label]
        parts = _known_parts(joined, present, sep)
        if parts:
            shown = ", ".join(map(repr, parts[:_SHOWN])) + (", …" if len(parts) > _SHOWN else "")
            hold = "hold" if len(joined) > 1 else "holds"
            option = "" if sep == "\n" else f' (--sep "{name}={sep}")'
            message = (
                f"head {name!r}: {len(joined):,} of its {len(present):,} labels {hold} {sep!r}, and their parts "
                f"also occur in other labels ({shown}). If a row may have several labels, set sep={{{name!r}: "
                f"{sep!r}}}{option}"
            )
            return message, 2 * len(joined) > len(present)
    return None


def _warn_of_gaps(name: str, present: list[str], counts: Mapping[str, int]) -> None:
    """Warn of labels that often stand for an unlabelled row."""
    numbers = [label for label in present if label.isdecimal()]
    gaps = [label for label in present if label in _GAPS or (label in _NEGATIVE and len(numbers) > 1)]
    if gaps and len(gaps) < len(present):
        shown = ", ".join(f"{label!r} ({counted(counts[label], 'row')})" for label in gaps)
        logger.warning(
            f"head {name!r}: {shown}: read as labels like any other. If they mean that a row is not labelled, empty "
            "these cells (pandas.read_csv does so with texts such as NA)"
        )


def near_equal_labels(labels: Iterable[str]) -> list[list[str]]:
    """Return groups of labels that differ only in case, blanks or Unicode form."""
    groups: dict[str, list[str]] = {}
    for label in sorted(labels):
        # (format characters, such as a zero-width space, are invisible)
        seen = "".join(char for char in unicodedata.normalize("NFKC", label) if unicodedata.category(char) != "Cf")
        groups.setdefault(" ".join(seen.split()).casefold(), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def _known_parts(joined: Iterable[str], labels: Iterable[str], sep: str) -> list[str]:
    """Return the parts of joined labels that are probably labels.

    These are the parts that are whole labels of other rows or, with a separator that hardly occurs in labels, parts of
    several joined labels.
    """
    whole = set(labels)
    parts = Counter(part for label in joined for part in set(split_joined(label, sep)) if part != label)
    return sorted(part for part, count in parts.items() if part in whole or (sep in _CLEAR and count > 1))

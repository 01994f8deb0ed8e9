"""Stratified splits: splits of a dataset with the same shares of every head's labels."""

import heapq
import math
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

from datasets import Dataset, DatasetDict

from ..model.configuration_multihead import HeadsLike, MultiHeadConfig
from ..model.head_multihead import HeadConfig
from ..model.losses_multihead import MISSING
from ..model.modeling_multihead import MultiHeadModel, heads_of
from .columns import check_column
from .covers import find_cover
from .labels import LabelEncoder, label_encoders
from .reading import ReadingOptions, check_keywords, is_missing, string_columns
from .rows_like import RowsLike
from .sources import PARTS, column_batches, in_part, read_dataset, training_part

if TYPE_CHECKING:
    from typing_extensions import Unpack

_SHOWN = 10  # labels in a message


def stratified_split(
    dataset: RowsLike,
    heads: MultiHeadModel | MultiHeadConfig | HeadsLike,
    fractions: Mapping[str, float] | Sequence[float],
    seed: int = 42,
    groups: str | None = None,
    **options: "Unpack[ReadingOptions]",
) -> DatasetDict:
    """Split rows so that every label of all heads has the same share in each split, as far as whole rows allow.

    Iterative stratification: the rarest label that is left goes first, each of its rows to the split that lacks it
    most. Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011; here with
    groups of rows in place of rows, missing labels ignored, and each head's labelled rows as one more label. Where this
    leaves the training split without a label, rows that hold all labels are put there first; a small table can only be
    split in so many ways.

    Args:
        dataset: rows, or files of them, as `read_dataset` takes; raw or prepared.
        heads: the model, its configuration, or the heads by name.
        fractions: split → share, the shares adding up to 1; or two shares (train, validation) or three (and test).
        seed: seed of the order in which rows are taken; the same seed gives the same splits.
        groups: a column; rows with the same value there stay together (those without a value stay by themselves).
        options: how labels are read, as for `prepare_dataset`.

    Returns:
        The splits by name, their rows in the order of the dataset. `split_report` shows the shares of the labels.

    Raises:
        ValueError: If the fractions or columns are invalid, labels are not those of the heads, a split would get no
            row, or the training split (`train`, else the first) would get no example of some labels; the message lists
            these labels.

    Example:
        >>> from multihead_hf import MultiHeadModel, stratified_split
        >>> splits = stratified_split("complaints.csv", MultiHeadModel.from_pretrained("complaints"), [0.8, 0.2])
        >>> list(splits), sum(map(len, splits.values()))
        (['train', 'validation'], 40)
    """
    shares = _check_fractions(fractions)
    check_keywords(options, stratified_split)
    by_name = heads_of(heads)
    source = read_dataset(dataset, strings=string_columns(by_name, options))
    if not isinstance(source, Dataset):
        raise ValueError(f"a split needs all rows at once: pass one datasets.Dataset, not a {type(source).__name__}")
    labels = label_ids(source, by_name, options)
    units = [[row] for row in range(len(source))]
    if groups is not None:
        check_column(source.column_names, groups, "groups")
        units_by_group: dict[Any, list[int]] = {}
        for row, group in enumerate(source.with_format(None)[groups]):
            if isinstance(group, (list, dict)):
                raise ValueError(f"groups: column {groups!r} holds {type(group).__name__}s; a group must be one value")
            units_by_group.setdefault(("row", row) if is_missing(group) or group == "" else group, []).append(row)
        units = list(units_by_group.values())
    training = training_part(shares)
    index = list(shares).index(training)
    parts = split_units(units, labels, list(shares.values()), seed, index)
    _check_training_part(by_name, labels, parts[index], training, groups is not None)
    for part, part_rows in zip(shares, parts, strict=True):
        if not part_rows:
            raise ValueError(
                f"split {part!r} would get no row of {len(source)}: give it a larger fraction, or more rows"
                f"{', or smaller groups' if groups is not None else ''}"
            )
    return DatasetDict({name: source.select(sorted(rows)) for name, rows in zip(shares, parts, strict=True)})


def _check_fractions(fractions: Mapping[str, float] | Sequence[float]) -> dict[str, float]:
    if not isinstance(fractions, (Mapping, Sequence)) or isinstance(fractions, str):
        raise ValueError(
            f"fractions {fractions!r}: give {{'train': 0.8, 'validation': 0.1, 'test': 0.1}}, or [0.8, 0.2]"
        )
    if not isinstance(fractions, Mapping):
        values = list(fractions)
        if len(values) not in (2, 3):
            raise ValueError(f"fractions {values}: name the splits, {{'train': 0.8, 'validation': 0.1, 'test': 0.1}}")
        fractions = dict(zip(PARTS[: len(values)], values, strict=True))
    for part, share in fractions.items():
        if not isinstance(share, Real) or not 0 < share < 1:
            raise ValueError(f"fraction {share} of split {part!r}: give a number above 0 and below 1")
    if not math.isclose(sum(fractions.values()), 1.0, abs_tol=1e-6):
        raise ValueError(f"fractions {dict(fractions)} add up to {sum(fractions.values()):g}, not 1")
    return dict(fractions)


Label = tuple[str, int]  # head, label id; see the negative ones below
LABELLED, IN_PART = -1, -2  # the row is labelled for the head; some of its cells are unknown


def label_ids(
    dataset: Dataset,
    heads: Mapping[str, HeadConfig],
    options: Mapping[str, Any],
    require_labels: bool = True,
) -> list[list[Label]]:
    """Return the labels of each row; soft labels count from 0.5."""
    labels: list[list[Label]] = [[] for _ in range(len(dataset))]
    for name, targets in _targets(dataset, heads, options, require_labels):
        for row, target in targets:
            if isinstance(target, (list, tuple)):
                labels[row] += [(name, label) for label, cell in enumerate(target) if cell is not None and cell >= 0.5]
                known = len(target) - target.count(MISSING) - target.count(None)
                labels[row] += [(name, LABELLED)] * (known > 0) + [(name, IN_PART)] * (0 < known < len(target))
            elif target is not None and target != MISSING:
                labels[row] += [(name, target), (name, LABELLED)]
    return labels


def _targets(
    dataset: Dataset,
    heads: Mapping[str, HeadConfig],
    options: Mapping[str, Any],
    require_labels: bool,
) -> Iterator[tuple[str, Iterator[tuple[int, Any]]]]:
    """Return each head with the rows and their targets, of a raw or prepared dataset."""
    if "labels" in dataset.column_names and "input_ids" in dataset.column_names:
        prepared = dataset.with_format(None).select_columns(["labels"])
        for name in heads:
            yield name, ((row, values["labels"].get(name)) for row, values in enumerate(prepared))
        return
    for name, encoder in label_encoders(dataset, heads, options, require_labels).items():
        columns = [encoder.column] if isinstance(encoder.column, str) else encoder.column

        def targets(encoder: LabelEncoder = encoder, columns: list[str] = columns) -> Iterator[tuple[int, Any]]:
            begin = 0
            for batch in column_batches(dataset, columns):
                rows = range(begin, begin + len(batch[columns[0]]))
                begin = rows.stop
                yield from zip(rows, encoder.encode(batch, rows), strict=True)

        yield name, targets()


def split_units(
    units: list[list[int]], labels: list[list[Label]], shares: list[float], seed: int, training: int
) -> list[list[int]]:
    """Return the rows of each split: every label in the training split and a row in each split, where possible.

    Args:
        units: rows that stay together.
        labels: labels of each row, as `label_ids` returns them.
        shares: shares of the splits.
        seed: seed of the order in which units are taken.
        training: index of the training split.
    """
    parts = _filled(_assign(units, labels, shares, seed, training), units, labels, training)
    if _lacking(labels, parts[training]) or not all(parts):
        cover = _cover(units, labels, shares, training)
        if cover is not None:
            free_units = [unit for unit in units if unit[0] not in cover]
            return _filled(_assign(units, labels, shares, seed, training, cover), free_units, labels, training)
    return parts


def _assign(
    units: list[list[int]],
    labels: list[list[Label]],
    shares: list[float],
    seed: int,
    training: int,
    first: Collection[int] = (),
) -> list[list[int]]:
    """Return the rows of each split; units that begin with a row of `first` go to the training split."""
    units = list(units)
    order = random.Random(seed)
    order.shuffle(units)
    units.sort(key=len, reverse=True)  # large groups first, while every split has room for them
    counts: list[dict[Label, int]] = []
    left: dict[Label, int] = {}
    units_by_label: dict[Label, list[int]] = {}
    for index, rows in enumerate(units):
        unit_counts: dict[Label, int] = {}
        for row in rows:
            for label in labels[row]:
                unit_counts[label] = unit_counts.get(label, 0) + 1
        counts.append(unit_counts)
        for label, count in unit_counts.items():
            left[label] = left.get(label, 0) + count
            units_by_label.setdefault(label, []).append(index)
    quotas = {label: [count * share for share in shares] for label, count in left.items()}
    room = [sum(map(len, units)) * share for share in shares]
    parts: list[list[int]] = [[] for _ in shares]
    taken = [False] * len(units)

    def put(index: int, part: int) -> None:
        taken[index] = True
        parts[part].extend(units[index])
        room[part] -= len(units[index])
        for label, count in counts[index].items():
            left[label] -= count
            quotas[label][part] -= count

    def with_room(index: int) -> list[int]:
        fitting = [part for part in range(len(shares)) if room[part] >= len(units[index]) - 0.5]
        return fitting or [part for part in range(len(shares)) if room[part] > 0] or list(range(len(shares)))

    for index, rows in enumerate(units):
        if rows[0] in first:
            put(index, training)
    heap = [(count, label) for label, count in left.items()]
    heapq.heapify(heap)
    while heap:
        count, label = heapq.heappop(heap)
        if count != left[label]:  # rows with this label were assigned for other labels meanwhile
            if left[label]:
                heapq.heappush(heap, (left[label], label))
            continue
        for index in units_by_label[label]:
            if not taken[index]:
                put(index, max(with_room(index), key=lambda part: (quotas[label][part], part == training, room[part])))
    for index in range(len(units)):
        if not taken[index]:
            put(index, max(with_room(index), key=room.__getitem__))
    return parts


def _labels_of(labels: list[list[Label]], rows: Iterable[int]) -> set[Label]:
    return {label for row in rows for label in labels[row] if label[1] >= 0}


def _lacking(labels: list[list[Label]], rows: list[int]) -> set[Label]:
    """Return the labels that occur, but in none of these rows."""
    return _labels_of(labels, range(len(labels))) - _labels_of(labels, rows)


def _cover(
    units: list[list[int]], labels: list[list[Label]], shares: list[float], training: int
) -> Collection[int] | None:
    """Return the first rows of units that contain every label and leave rows for other splits, if such units exist."""
    rows, others = sum(map(len, units)), len(shares) - 1
    sizes = [len(unit) for unit in units]
    unit_labels = [_labels_of(labels, unit) for unit in units]
    cover = find_cover(unit_labels, sizes, math.ceil(rows * shares[training] - 1e-9), len(units) - others)
    if cover is None and max(sizes) > 1:
        cover = find_cover(unit_labels, sizes, rows - others, len(units) - others)
    return None if cover is None else {units[index][0] for index in cover}


def _filled(
    parts: list[list[int]], units: list[list[int]], labels: list[list[Label]], training: int
) -> list[list[int]]:
    """Return the splits, with a unit of a larger split in each empty one, while the training split has every label."""
    for part in parts:
        if part or _lacking(labels, parts[training]):
            continue
        for donor in sorted(range(len(parts)), key=lambda index: -len(parts[index])):
            rows = set(parts[donor])
            candidates = sorted((unit for unit in units if unit[0] in rows and len(unit) < len(rows)), key=len)
            for unit in candidates:
                rest = [row for row in parts[donor] if row not in unit]
                if donor != training or not _lacking(labels, rest):
                    parts[donor][:], part[:] = rest, unit
                    break
            if part:
                break
    return parts


def _check_training_part(
    heads: Mapping[str, HeadConfig], labels: list[list[Label]], rows: list[int], part: str, grouped: bool
) -> None:
    lacking = [f"{name}: {heads[name].labels[label]!r}" for name, label in sorted(_lacking(labels, rows))]
    if lacking:
        more = f", and {len(lacking) - _SHOWN:,} more" if len(lacking) > _SHOWN else ""
        advice = "or more and smaller groups" if grouped else "or leave out labels of so few rows"
        raise ValueError(
            f"split {part!r} would get no example of some labels ({', '.join(lacking[:_SHOWN])}{more}): give it a "
            f"larger fraction, {advice}"
        )


@dataclass
class SplitReport:
    """Label shares of the splits of a dataset. `print(report)` shows a table.

    Args:
        rows: split → number of rows.
        counts: head → label → split → number of rows with the label.
        labelled: head → split → number of labelled rows.

    Example:
        >>> from multihead_hf import MultiHeadModel, split_report
        >>> report = split_report({"all": "complaints.csv"}, MultiHeadModel.from_pretrained("complaints"))
        >>> report.rows
        {'all': 40}
    """

    rows: dict[str, int]
    counts: dict[str, dict[str, dict[str, int]]]
    labelled: dict[str, dict[str, int]]

    def share(self, head: str, label: str, part: str) -> float:
        """Return the share of a label among the labelled rows of a split.

        Args:
            head: name of the head.
            label: name of the label.
            part: name of the split.

        Returns:
            A share between 0 and 1; 0 where no row is labelled.
        """
        return self.counts[head][label][part] / max(self.labelled[head][part], 1)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values.

        Returns:
            A dict with `rows`, `counts` and `labelled`.
        """
        return {"rows": self.rows, "counts": self.counts, "labelled": self.labelled}

    def __str__(self) -> str:
        width = max([len(f"  {label}") for label_counts in self.counts.values() for label in label_counts] + [10])
        lines = [f"{'':{width}}" + "".join(f"{part:>18}" for part in self.rows)]
        lines.append(f"{'rows':{width}}" + "".join(f"{count:>18,}" for count in self.rows.values()))
        for head, labels in self.counts.items():
            lines.append(f"{head:{width}}" + "".join(f"{self.labelled[head][part]:>18,}" for part in self.rows))
            for label, counts in labels.items():
                cells = "".join(f"{counts[part]:>10,} {self.share(head, label, part):>7.2%}" for part in self.rows)
                lines.append(f"{'  ' + label:{width}}{cells}")
        return "\n".join(lines)


def split_report(
    splits: Mapping[str, Any],
    heads: MultiHeadModel | MultiHeadConfig | HeadsLike,
    **options: "Unpack[ReadingOptions]",
) -> SplitReport:
    """Count how often each label of every head occurs in each split.

    Args:
        splits: split → rows, raw or prepared, as `stratified_split` returns.
        heads: the model, its configuration, or the heads by name.
        options: how labels are read, as for `prepare_dataset`.

    Returns:
        A `SplitReport` with the number of rows, labels and labelled rows of each split.

    Raises:
        ValueError: If the rows cannot be read, as for `read_dataset` and `prepare_dataset`.

    Example:
        >>> from multihead_hf import MultiHeadModel, split_report
        >>> split_report({"all": "complaints.csv"}, MultiHeadModel.from_pretrained("complaints")).rows
        {'all': 40}
    """
    check_keywords(options, split_report)
    by_name = heads_of(heads)
    strings = string_columns(by_name, options)
    ids = {}
    for split, rows in splits.items():
        with in_part(split):
            ids[split] = label_ids(read_dataset(rows, strings=strings), by_name, options, False)
    return report_of(ids, by_name)


def report_of(ids: Mapping[str, list[list[Label]]], heads: Mapping[str, HeadConfig]) -> SplitReport:
    """Return the report from the `label_ids` of each split."""
    counts: dict[str, dict[str, dict[str, int]]] = {
        name: {label: dict.fromkeys(ids, 0) for label in head.labels} for name, head in heads.items()
    }
    labelled = {name: dict.fromkeys(ids, 0) for name in heads}
    for part, rows in ids.items():
        for row in rows:
            for name, label in row:
                if label == LABELLED:
                    labelled[name][part] += 1
                elif label >= 0:
                    counts[name][heads[name].labels[label]][part] += 1
    return SplitReport({part: len(rows) for part, rows in ids.items()}, counts, labelled)

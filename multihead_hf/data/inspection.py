"""Inspection of a dataset before training."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from ..model.configuration_multihead import HeadsLike, MultiHeadConfig
from ..model.head_multihead import HeadConfig
from ..model.modeling_multihead import MultiHeadModel, config_of, heads_of
from ..model.truncation_multihead import encode_texts, token_limit
from ..utils.messages import counted
from .columns import features_of
from .encoding import check_text_is_no_label, find_text_columns
from .labels import LabelEncoder, label_encoders
from .reading import ReadingOptions, check_keywords, string_columns
from .rows_like import RowsLike
from .sources import in_part, read_dataset, training_part
from .splits import IN_PART, LABELLED, Label, SplitReport, label_ids, report_of
from .text_groups import text_key

if TYPE_CHECKING:
    from typing_extensions import Unpack

PERCENTILES = (50, 90, 95, 99, 100)
_SHOWN = 20  # maximum number of list entries shown in the table


@dataclass
class DatasetReport:
    """Findings of `inspect_dataset`. `print(report)` shows them as tables, `to_dict()` returns plain values.

    Args:
        splits: split → `rows`, `empty_texts` (numbers of their rows), `lengths` (percentile → tokens, or words without
            a tokenizer) and `longer` (share of texts longer than `max_length`; `None` without a limit).
        unit: unit of the lengths, `"tokens"` or `"words"`.
        max_length: the limit to which `longer` refers.
        labels: counts of every head's labels in each split.
        absent_labels: head → labels that occur in no row of the `train` split (else the first).
        rare: head → labels that occur in that split, but in fewer than `rare_below` rows.
        rare_below: number of rows below which a label is rare.
        absent_in_a_batch: head → share of its labels without a positive row in a batch of `batch_size` rows of that
            split, on average. Macro Soft-F1 learns nothing about them from that batch.
        batch_size: number of rows of such a batch.
        contradictions: texts that occur several times with different labels: `text`, `heads`, `rows` as (split, row).
            `text` is in lower case with single blanks, as it is compared.
        in_several_splits: texts that occur in several splits: `text` and `rows`.
        heads: head → `task`, `labels` (their number), `labelled` (split → labelled rows), `no_label` (split → labelled
            rows to which no label applies; multi-label heads only), and how the labels were read: `column`, and `sep`,
            `empty` and `multi_hot` where they mattered.
        missing_columns: split → heads for which no column was found; they count as unlabelled.

    Example:
        >>> from multihead_hf import MultiHeadModel, inspect_dataset
        >>> report = inspect_dataset("complaints.csv", MultiHeadModel.from_pretrained("complaints"))
        >>> report.unit, report.heads["topics"]["task"]
        ('words', 'multi-label')
    """

    splits: dict[str, dict[str, Any]]
    unit: str
    max_length: int | None
    labels: SplitReport
    absent_labels: dict[str, list[str]]
    rare: dict[str, list[str]]
    rare_below: int
    absent_in_a_batch: dict[str, float]
    batch_size: int
    contradictions: list[dict[str, Any]]
    in_several_splits: list[dict[str, Any]]
    heads: dict[str, dict[str, Any]]
    missing_columns: dict[str, list[str]]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values (keys of objects are strings).

        Returns:
            A dict with one entry for each field of the report.
        """
        return json.loads(json.dumps({**self.__dict__, "labels": self.labels.to_dict()}))

    def __str__(self) -> str:
        lines = [f"{'':24}" + "".join(f"{part:>14}" for part in self.splits)]

        def line(title: str, cells: list[str]) -> None:
            lines.append(f"{title:24}" + "".join(f"{cell:>14}" for cell in cells))

        line("rows", [f"{facts['rows']:,}" for facts in self.splits.values()])
        line("empty texts", [f"{len(facts['empty_texts']):,}" for facts in self.splits.values()])
        for percentile in PERCENTILES:
            title = "longest" if percentile == 100 else f"{percentile} % up to"
            line(f"{self.unit}: {title}", [f"{facts['lengths'][percentile]:,}" for facts in self.splits.values()])
        if self.max_length is not None:
            line(f"longer than {self.max_length}", [f"{facts['longer']:.1%}" for facts in self.splits.values()])
        lines += ["", *_head_lines(self.heads), "", str(self.labels), ""]
        for part, names in self.missing_columns.items():
            where = f" in {part}" if part else ""
            lines.append(
                f"no column{where} for the heads {names}: if another column holds their labels, name that column"
            )
        unlabelled_heads = self.missing_columns.get(training_part(self.splits), [])
        for name, share in self.absent_in_a_batch.items():
            if name in unlabelled_heads:
                continue
            lines.append(
                f"{name}: on average, {share:.0%} of the labels have no row in a batch of {self.batch_size} rows"
            )
            rare = f"with fewer than {self.rare_below} rows"
            for labels, what in ((self.absent_labels[name], "without rows"), (self.rare[name], rare)):
                if labels:
                    more = ", …" if len(labels) > _SHOWN else ""
                    shown = ", ".join(labels[:_SHOWN])
                    lines.append(f"{name}: {counted(len(labels), 'label')} {what}: {shown}{more}")
        for entries, what in (
            (self.contradictions, "several times with different labels"),
            (self.in_several_splits, "in several splits"),
        ):
            lines.append(f"{counted(len(entries), 'text')} {what}")
            for entry in entries[:_SHOWN]:
                where = ", ".join(f"{part} {row}" if part else f"row {row}" for part, row in entry["rows"][:4])
                heads = f" ({', '.join(entry['heads'])})" if "heads" in entry else ""
                lines.append(f"  {entry['text'][:60]!r}{heads}: {where}{', …' if len(entry['rows']) > 4 else ''}")
        return "\n".join(lines)


def inspect_dataset(
    dataset: RowsLike,
    heads: MultiHeadModel | MultiHeadConfig | HeadsLike,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    max_length: int | None = None,
    batch_size: int = 16,
    rare_below: int = 10,
    text_columns: str | Sequence[str] | None = None,
    **options: "Unpack[ReadingOptions]",
) -> DatasetReport:
    """Inspect a raw dataset: tasks, lengths, label counts, rare labels, duplicates and empty texts.

    Args:
        dataset: rows, or a dict of splits, as `read_dataset` takes.
        heads: the model or its configuration (then its text settings apply too), or the heads by name.
        tokenizer: tokenizer that counts tokens, special ones included; without it words are counted.
        max_length: length after which texts are truncated; by default the model's, if one is given with a tokenizer.
        batch_size: rows of a batch, to find labels without a positive row in some batches.
        rare_below: number of rows below which a label is rare.
        text_columns: one or two text columns, as for `prepare_dataset`.
        options: how labels are read, as for `prepare_dataset`.

    Returns:
        A `DatasetReport`; lengths are in tokens, or in words without a tokenizer.

    Raises:
        ValueError: If the rows cannot be read, as for `read_dataset` and `prepare_dataset`, or are a stream.

    Example:
        >>> from multihead_hf import MultiHeadModel, inspect_dataset
        >>> report = inspect_dataset("complaints.csv", MultiHeadModel.from_pretrained("complaints"))
        >>> report.splits[""]["rows"], sorted(report.rare)
        (40, ['mood', 'topics'])
    """
    check_keywords(options, inspect_dataset)
    config, by_name = config_of(heads), heads_of(heads)
    source = read_dataset(dataset, strings=string_columns(by_name, options))
    parts: dict[str, Any] = dict(source) if isinstance(source, Mapping) else {"": source}
    if not all(isinstance(rows, Dataset) for rows in parts.values()):
        raise ValueError("duplicates need all rows at once: pass datasets with a length, not streams")
    if max_length is None and config is not None and tokenizer is not None:
        max_length = token_limit(config, tokenizer)
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size}: give a whole number above 0")
    facts: dict[str, dict[str, Any]] = {}
    ids: dict[str, list[list[Label]]] = {}
    places: dict[tuple[str, ...], list[tuple[str, int]]] = {}
    encoders: dict[str, dict[str, LabelEncoder]] = {}
    for part, rows in parts.items():
        if not len(rows):
            raise ValueError(f"{f'split {part!r}' if part else 'the dataset'} has no rows: leave it out")
        columns = find_text_columns(features_of(rows), text_columns or (config and config.text_columns))
        values = [[text or "" for text in rows.with_format(None)[column]] for column in columns]
        texts = list(zip(*values, strict=True))
        lengths = _lengths(values, tokenizer, config.text_prefix if config is not None else None)
        facts[part] = {
            "rows": len(texts),
            "empty_texts": [row for row, text in enumerate(texts) if not any(map(str.strip, text))],
            "lengths": {p: int(np.percentile(lengths, p, method="higher")) for p in PERCENTILES},
            "longer": None if max_length is None else float((lengths > max_length).mean()),
        }
        with in_part(part):
            encoders[part] = label_encoders(rows, by_name, options, False)
            check_text_is_no_label(encoders[part], columns)
            ids[part] = label_ids(rows, by_name, options, require_labels=False)
        for row, text in enumerate(texts):
            if (key := text_key(text)) is not None:
                places.setdefault(key, []).append((part, row))
    labels = report_of(ids, by_name)
    first = training_part(parts)
    counts = {name: {label: by_part[first] for label, by_part in labels.counts[name].items()} for name in by_name}
    repeated = {text: rows for text, rows in places.items() if len(rows) > 1}
    shared_texts = [text for text, rows in repeated.items() if len({part for part, _ in rows}) > 1]
    return DatasetReport(
        splits=facts,
        unit="words" if tokenizer is None else "tokens",
        max_length=max_length,
        labels=labels,
        absent_labels={
            name: [label for label, count in label_counts.items() if not count] for name, label_counts in counts.items()
        },
        rare={
            name: [label for label, count in label_counts.items() if 0 < count < rare_below]
            for name, label_counts in counts.items()
        },
        rare_below=rare_below,
        absent_in_a_batch={
            name: float(np.mean([_absent(count, facts[first]["rows"], batch_size) for count in label_counts.values()]))
            for name, label_counts in counts.items()
        },
        batch_size=batch_size,
        contradictions=[
            {"text": " ".join(text), "heads": differing, "rows": rows}
            for text, rows in repeated.items()
            if (differing := _differing([ids[part][row] for part, row in rows], list(by_name)))
        ],
        in_several_splits=[{"text": " ".join(text), "rows": repeated[text]} for text in shared_texts],
        heads={name: _head_facts(name, ids, encoders, head) for name, head in by_name.items()},
        missing_columns={
            part: names
            for part, part_encoders in encoders.items()
            if (names := [name for name in by_name if name not in part_encoders])
        },
    )


def _head_facts(
    name: str,
    ids: Mapping[str, list[list[Label]]],
    encoders: Mapping[str, Mapping[str, LabelEncoder]],
    head: HeadConfig,
) -> dict[str, Any]:
    """Return what the report shows about a head, with the reading of the first split that has a column for it."""
    labels = {
        part: [{label for head_name, label in row if head_name == name} for row in rows] for part, rows in ids.items()
    }
    facts: dict[str, Any] = {
        "task": "multi-label" if head.multi_label else "single-label",
        "labels": head.num_labels,
        "labelled": {part: sum(LABELLED in row for row in rows) for part, rows in labels.items()},
    }
    if head.multi_label:
        no_label = {LABELLED}  # labelled, without any label and without unknown cells
        facts["no_label"] = {part: sum(row == no_label for row in rows) for part, rows in labels.items()}
    encoder = next((part_encoders[name] for part_encoders in encoders.values() if name in part_encoders), None)
    if encoder is not None:
        facts["column"] = encoder.column
        facts.update(encoder.read_with())
    return facts


def _head_lines(heads: Mapping[str, Mapping[str, Any]]) -> list[str]:
    lines = [f"{'head':24}{'task':>14}{'labels':>9}{'labelled rows':>15}{'none apply':>15}  read from"]
    for name, facts in heads.items():
        no_label = f"{sum(facts['no_label'].values()):,}" if "no_label" in facts else ""
        reading = [f"{key} {facts[key]!r}" for key in ("column", "sep", "empty", "multi_hot") if key in facts]
        lines.append(
            f"{name:24}{facts['task']:>14}{facts['labels']:>9,}{sum(facts['labelled'].values()):>15,}{no_label:>15}  "
            f"{', '.join(reading) or 'no column'}"
        )
    return lines


def _lengths(
    columns: list[list[str]], tokenizer: PreTrainedTokenizerBase | None, prefix: str | None
) -> npt.NDArray[np.int64]:
    if tokenizer is None:
        return np.array([sum(len(text.split()) for text in row) for row in zip(*columns, strict=True)])
    lengths: list[int] = []
    for begin in range(0, len(columns[0]), 1000):
        batch = [column[begin : begin + 1000] for column in columns]
        lengths += map(len, encode_texts(tokenizer, *batch, prefix=prefix)[0]["input_ids"])
    return np.array(lengths)


def _absent(positives: int, rows: int, batch_size: int) -> float:
    """Return the probability that a batch drawn without replacement contains none of the rows (hypergeometric)."""
    batch = min(batch_size, rows)
    if positives + batch > rows:
        return 0.0
    without = math.lgamma(rows - positives + 1) - math.lgamma(rows - positives - batch + 1)
    return math.exp(without - math.lgamma(rows + 1) + math.lgamma(rows - batch + 1))


def _differing(labels: list[list[Label]], heads: list[str]) -> list[str]:
    """Return the heads whose labels differ between rows; a row partly unlabelled for a head is ignored for it."""
    different = []
    for name in heads:
        label_sets = [frozenset(label for head, label in row if head == name) for row in labels]
        if len({label_set for label_set in label_sets if label_set and IN_PART not in label_set}) > 1:
            different.append(name)
    return different

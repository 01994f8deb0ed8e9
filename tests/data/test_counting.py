"""Counts of labels in prepared rows, by column."""

import time

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch
from datasets import Dataset

from multihead_hf import HeadConfig, prepare_dataset
from multihead_hf.data.counting import can_be_counted, head_counts
from multihead_hf.data.label_warnings import near_equal_labels

HEADS = tiny.two_heads()


def test_counts_are_those_of_the_rows() -> None:
    rows = prepare_dataset(tiny.table(80), tiny.tokenizer(), HEADS)
    for part in (rows, rows.shuffle(seed=1).select(range(30)), rows.with_format("torch")):
        counts, by_row = head_counts(part, HEADS), head_counts(list(part.with_format(None)), HEADS)
        assert can_be_counted(part)
        for name, own in counts.items():
            for field in ("positives", "sums", "known"):
                assert getattr(own, field).tolist() == getattr(by_row[name], field).tolist()
            assert (own.labelled, own.none) == (by_row[name].labelled, by_row[name].none)
            assert own.labelled + own.unlabelled == len(part)
        topics = [row["topic"] for row in part.with_format(None)["labels"]]
        assert counts["topic"].none == sum(targets is not None and not any(targets) for targets in topics) > 0
        assert counts["mood"].none == 0


def test_unknown_cells_missing_rows_and_soft_targets() -> None:
    topic = [[0.5, None, 0.0], [-100.0, -100.0, -100.0], None, [0.4, 0.0, -100.0], [None, None, None]]
    rows = Dataset.from_dict({"labels": [{"topic": own, "mood": -100 if own is None else 1} for own in topic]})
    counts = head_counts(rows, {**HEADS, "new": HeadConfig(labels=["a"])})
    assert counts["topic"].positives.tolist() == [1, 0, 0]
    assert (counts["topic"].labelled, counts["topic"].unlabelled, counts["topic"].none) == (2, 3, 1)
    assert (counts["mood"].positives.tolist(), counts["mood"].unlabelled) == ([0, 4], 1)
    assert (counts["new"].labelled, counts["new"].unlabelled) == (0, 5)


def test_what_has_to_be_read_row_by_row() -> None:
    rows = prepare_dataset(tiny.table(8), tiny.tokenizer(), HEADS)
    whole = head_counts(rows, HEADS)
    stream, part = rows.to_iterable_dataset(), torch.utils.data.Subset(rows, list(range(8)))
    for other in (stream, list(rows), part):
        assert not can_be_counted(other)
        assert head_counts(other, HEADS)["topic"].positives.tolist() == whole["topic"].positives.tolist()
    assert not can_be_counted(tiny.table(8))
    assert not can_be_counted(rows.with_transform(lambda batch: batch))


def test_a_head_of_which_no_row_has_a_label() -> None:
    rows = Dataset.from_dict({"labels": [{"topic": None, "mood": None}] * 3})
    counts = head_counts(rows, HEADS)
    assert [(own.labelled, own.unlabelled) for own in counts.values()] == [(0, 3), (0, 3)]


def test_rows_of_another_head_are_refused() -> None:
    rows = Dataset.from_dict({"labels": [{"topic": [1.0, 0.0]}]})
    with pytest.raises(
        ValueError, match=r"head 'topic': a prepared row has 2 cells, but the head has 3 labels: prepare"
    ):
        head_counts(rows, HEADS)
    with pytest.raises(ValueError, match=r"head 'mood': a prepared row has the label id 2, .* 0 to 1: prepare"):
        head_counts(Dataset.from_dict({"labels": [{"mood": 2}]}), HEADS)
    with pytest.raises(ValueError, match=r"head 'topic': a prepared row has a label id, but the head is multi_label_"):
        head_counts(Dataset.from_dict({"labels": [{"topic": 1}]}), HEADS)
    with pytest.raises(ValueError, match=r"head 'mood': a prepared row has a list of cells, but the head is single_"):
        head_counts(Dataset.from_dict({"labels": [{"mood": [1.0, 0.0]}]}), HEADS)


def test_a_hundred_thousand_rows_are_no_delay() -> None:
    count, labels = 100_000, 50
    cells = pa.array(np.zeros(count * labels, np.float32))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, count * labels + 1, labels, dtype=np.int32)), cells)
    rows = Dataset(pa.table({"labels": pa.StructArray.from_arrays([lists], names=["topic"])}))
    heads = {"topic": HeadConfig(labels=[str(i) for i in range(labels)], problem_type="multi_label_classification")}
    begin = time.process_time()
    counts = head_counts(rows, heads)
    assert time.process_time() - begin < 2  # (row by row it takes ten times as long)
    assert counts["topic"].none == count


def test_labels_that_look_alike() -> None:
    labels = ["alarm", "Alarm ", "music", "ALARM", "play  music", "Play music", "mus ic"]
    assert near_equal_labels(labels) == [["ALARM", "Alarm ", "alarm"], ["Play music", "play  music"]]
    assert near_equal_labels(["a", "b", "a b"]) == []

"""Counts of labels in prepared rows, by column."""

import time

import numpy as np
import pyarrow as pa
import pytest
import tiny
import torch
from datasets import Dataset

from multihead_hf import HeadConfig, prepare_dataset
from multihead_hf.data.counting import head_counts
from multihead_hf.data.heads import count_labels, near_equal_labels

HEADS = tiny.two_heads()


def test_counts_are_those_of_the_rows() -> None:
    rows = prepare_dataset(tiny.table(80), tiny.tokenizer(), HEADS)
    for part in (rows, rows.shuffle(seed=1).select(range(30)), rows.with_format("torch")):
        counts = head_counts(part, HEADS)
        assert counts is not None
        by_row = count_labels(part.with_format(None), HEADS)
        for name, own in counts.items():
            assert own.positives.tolist() == by_row[name][0]
            assert own.labelled == by_row[name][1][0]
            assert own.labelled + own.unlabelled == len(part)
        topics = [row["topic"] for row in part.with_format(None)["labels"]]
        assert counts["topic"].none == sum(targets is not None and not any(targets) for targets in topics) > 0
        assert counts["mood"].none == 0


def test_unknown_cells_missing_rows_and_soft_targets() -> None:
    topic = [[0.5, None, 0.0], [-100.0, -100.0, -100.0], None, [0.4, 0.0, -100.0], [None, None, None]]
    rows = Dataset.from_dict({"labels": [{"topic": own, "mood": -100 if own is None else 1} for own in topic]})
    counts = head_counts(rows, {**HEADS, "new": HeadConfig(labels=["a"])})
    assert counts is not None
    assert counts["topic"].positives.tolist() == [1, 0, 0]
    assert (counts["topic"].labelled, counts["topic"].unlabelled, counts["topic"].none) == (2, 3, 1)
    assert (counts["mood"].positives.tolist(), counts["mood"].unlabelled) == ([0, 4], 1)
    assert (counts["new"].labelled, counts["new"].unlabelled) == (0, 5)


def test_what_would_have_to_be_read_row_by_row_is_not_counted() -> None:
    rows = prepare_dataset(tiny.table(8), tiny.tokenizer(), HEADS)
    assert head_counts(rows.to_iterable_dataset(), HEADS) is None
    assert head_counts(list(rows), HEADS) is None
    assert head_counts(torch.utils.data.Subset(rows, [0, 1]), HEADS) is None
    assert head_counts(tiny.table(8), HEADS) is None


def test_rows_of_another_head_are_refused() -> None:
    rows = Dataset.from_dict({"labels": [{"topic": [1.0, 0.0]}]})
    with pytest.raises(
        ValueError, match=r"head 'topic': a prepared row has 2 cells, and the head has 3 labels: prepare"
    ):
        head_counts(rows, HEADS)


def test_a_hundred_thousand_rows_are_no_delay() -> None:
    count, labels = 100_000, 50
    cells = pa.array(np.zeros(count * labels, np.float32))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(0, count * labels + 1, labels, dtype=np.int32)), cells)
    rows = Dataset(pa.table({"labels": pa.StructArray.from_arrays([lists], names=["topic"])}))
    heads = {"topic": HeadConfig(labels=[str(i) for i in range(labels)], problem_type="multi_label_classification")}
    begin = time.process_time()
    counts = head_counts(rows, heads)
    assert time.process_time() - begin < 2  # (row by row it takes ten times as long)
    assert counts is not None
    assert counts["topic"].none == count


def test_labels_that_look_alike() -> None:
    labels = ["alarm", "Alarm ", "music", "ALARM", "play  music", "Play music", "mus ic"]
    assert near_equal_labels(labels) == [("alarm", "Alarm "), ("alarm", "ALARM"), ("play  music", "Play music")]
    assert near_equal_labels(["a", "b", "a b"]) == []

"""What is in a dataset: lengths, rare labels, duplicates and empty texts."""

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
from datasets import Dataset, DatasetDict

from multihead_hf import HeadConfig, inspect_dataset

HEADS = {
    "topic": HeadConfig(labels=["roads", "waste", "noise", "parks"], problem_type="multi_label_classification"),
    "mood": HeadConfig(labels=["angry", "calm"]),
}
TRAIN = [
    {"text": "w1 w2 w3", "topic": ["roads"], "mood": "calm"},
    {"text": "W1  w2 w3", "topic": ["roads", "waste"], "mood": None},  # the same text, and another topic
    {"text": "w4", "topic": [], "mood": "calm"},
    {"text": "w4", "topic": None, "mood": "angry"},
    {"text": "  ", "topic": ["roads"], "mood": "calm"},
    {"text": "w5 w6 w7 w8 w9", "topic": ["noise"], "mood": "calm"},
]
TEST = [
    {"text": "w5 w6 w7 w8 w9", "topic": ["noise"], "mood": "calm"},
    {"text": "w10", "topic": ["parks"], "mood": None},
]
PARTS = DatasetDict(train=Dataset.from_list(TRAIN), test=Dataset.from_list(TEST))


def test_everything_is_found() -> None:
    report = inspect_dataset(PARTS, HEADS, tiny.tokenizer(), max_length=5, batch_size=2, rare_below=3)
    assert report.unit == "tokens"
    assert report.splits["train"] == {
        "rows": 6,
        "empty_texts": [4],
        "lengths": {50: 5, 90: 7, 95: 7, 99: 7, 100: 7},  # [CLS] and [SEP] count
        "longer": pytest.approx(1 / 6),
    }
    assert report.labels.counts["topic"]["roads"] == {"train": 3, "test": 0}
    assert report.absent_labels == {"topic": ["parks"], "mood": []}
    assert report.rare == {"topic": ["waste", "noise"], "mood": ["angry"]}
    assert [(entry["text"], entry["heads"]) for entry in report.contradictions] == [
        ("w1 w2 w3", ["topic"]),
        ("w4", ["mood"]),  # one of the two rows is not labelled for topic: that contradicts nothing
    ]
    assert report.contradictions[0]["rows"] == [("train", 0), ("train", 1)]
    assert report.in_several_splits == [{"text": "w5 w6 w7 w8 w9", "rows": [("train", 5), ("test", 0)]}]


def test_labels_without_a_positive_in_a_batch() -> None:
    """Against drawing batches."""
    rows = Dataset.from_list(TRAIN * 10)
    found = inspect_dataset(rows, HEADS, batch_size=4).absent_in_a_batch["topic"]
    rng = np.random.default_rng(0)
    has = np.array([[label in (row["topic"] or []) for label in HEADS["topic"].labels] for row in TRAIN * 10])
    drawn = np.mean([~has[rng.choice(60, 4, replace=False)].any(0) for _ in range(20000)])
    assert found == pytest.approx(drawn, abs=0.01)


def test_a_table_and_json_values(tmp_path: Path) -> None:
    PARTS["train"].to_json(tmp_path / "rows.jsonl")
    report = inspect_dataset(tmp_path / "rows.jsonl", HEADS, rare_below=3)
    assert report.unit == "words"
    assert report.max_length is None
    assert json.loads(json.dumps(report.to_dict()))["labels"]["counts"]["mood"]["angry"] == {"": 1}
    text = str(report)
    assert "words: longest" in text
    assert "topic: 1 label without rows: parks" in text
    assert "topic: 2 labels with fewer than 3 rows: waste, noise" in text
    assert "2 texts several times with different labels" in text
    assert "'w1 w2 w3' (topic): row 0, row 1" in text
    assert "0 texts in several splits" in text
    assert "longer than" not in text


def test_the_models_own_settings() -> None:
    model = tiny.model(heads=HEADS, max_length=6, text_columns=["complaint"], text_prefix="w1 w1 ")
    rows = PARTS["train"].rename_column("text", "complaint")
    report = inspect_dataset(rows, model, tiny.tokenizer())
    assert report.max_length == 6
    assert report.splits[""]["lengths"][100] == 9
    without_labels = DatasetDict(train=rows, test=rows.select_columns("complaint"))
    assert inspect_dataset(without_labels, model).labels.labelled["mood"] == {"train": 5, "test": 0}


def test_pairs_and_cells_that_are_not_known() -> None:
    rows = Dataset.from_dict({"a": ["w1", "w1"], "b": ["w2 w3", "w2 w3"], "topic": [[1.0, None], [1.0, 1.0]]})
    heads = {"topic": HeadConfig(labels=["x", "y"], problem_type="multi_label_classification")}
    report = inspect_dataset(rows, heads, tiny.tokenizer(), text_columns=["a", "b"])
    assert report.splits[""]["lengths"][100] == 6  # [CLS] w1 [SEP] w2 w3 [SEP]
    assert not report.contradictions


def test_wrong_columns_and_streams() -> None:
    model = tiny.model(heads=HEADS, text_columns=["complaint"])
    rows = PARTS["train"].rename_column("text", "complaint")
    with pytest.raises(ValueError, match=r"there is no text column 'txt'"):
        inspect_dataset(rows, model, text_columns="txt")
    with pytest.raises(ValueError, match=r"duplicates need all rows at once"):
        inspect_dataset(rows.to_iterable_dataset(), model)


def test_pairs_are_not_their_joined_texts() -> None:
    heads = {"mood": HEADS["mood"]}
    first = Dataset.from_dict({"a": ["a b"], "b": ["c"], "mood": ["calm"]})
    second = Dataset.from_dict({"a": ["a"], "b": ["b c"], "mood": ["angry"]})
    report = inspect_dataset(DatasetDict(train=first, test=second), heads, text_columns=["a", "b"])
    assert not report.contradictions
    assert not report.in_several_splits
    report = inspect_dataset(DatasetDict(train=first, test=first), heads, text_columns=["a", "b"])
    assert [each["text"] for each in report.in_several_splits] == ["a b c"]


def test_an_empty_part_and_an_empty_batch() -> None:
    rows = PARTS["train"]
    with pytest.raises(ValueError, match=r"split 'test' has no rows: leave it out"):
        inspect_dataset(DatasetDict(train=rows, test=rows.select([])), HEADS)
    with pytest.raises(ValueError, match=r"batch_size 0: give a whole number above 0"):
        inspect_dataset(rows, HEADS, batch_size=0)

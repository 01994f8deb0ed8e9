"""Prepared rows to padded tensors."""

import numpy as np
import pytest
import tiny
import torch

from multihead_hf import MultiHeadDataCollator, prepare_dataset

ROWS = [
    {"input_ids": [2, 5, 3], "attention_mask": [1, 1, 1], "length": 3, "labels": {"topic": [1, 0, None], "mood": None}},
    {"input_ids": [2, 3], "attention_mask": [1, 1], "length": 2, "labels": {"topic": None, "mood": 1}},
    {"input_ids": [2, 6, 7, 3], "attention_mask": [1, 1, 1, 1], "length": 4},
]


def test_whole_tensors() -> None:
    batch = MultiHeadDataCollator(tiny.tokenizer(), tiny.two_heads())(ROWS)
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert batch["input_ids"].tolist() == [[2, 5, 3, 0], [2, 3, 0, 0], [2, 6, 7, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"]["topic"].tolist() == [[1, 0, -100], [-100] * 3, [-100] * 3]
    assert batch["labels"]["topic"].dtype == torch.float32
    assert batch["labels"]["mood"].tolist() == [-100, 1, -100]
    assert batch["labels"]["mood"].dtype == torch.int64


def test_numpy_and_torch_targets() -> None:
    rows = prepare_dataset(tiny.table(8), tiny.tokenizer(), tiny.two_heads())
    collate = MultiHeadDataCollator(tiny.tokenizer(), tiny.two_heads())
    expected = collate([rows[i] for i in range(4)])["labels"]
    given = {"topic": [row["labels"]["topic"] for row in rows][:4], "mood": [row["labels"]["mood"] for row in rows][:4]}
    for make in (np.array, torch.tensor):
        made = [
            {**ROWS[0], "labels": {name: None if v[i] is None else make(v[i]) for name, v in given.items()}}
            for i in range(4)
        ]
        found = collate(made)["labels"]
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_left_padding_and_multiples() -> None:
    collate = MultiHeadDataCollator(tiny.tokenizer(padding_side="left"), tiny.model(), pad_to_multiple_of=8)
    batch = collate(ROWS)
    assert batch["input_ids"].shape == (3, 8)
    assert batch["input_ids"][1].tolist() == [0, 0, 0, 0, 0, 0, 2, 3]


def test_prepared_rows_train_a_model() -> None:
    model = tiny.model()
    rows = prepare_dataset(tiny.table(8), tiny.tokenizer(), model)
    batch = MultiHeadDataCollator(tiny.tokenizer(), model.config)([rows[i] for i in range(8)])
    model(**batch).loss.backward()
    assert model.heads["topic"].layers[-1].weight.grad.any()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"moods": 1}, r"row 0 of the batch: the model has no head 'moods'.*'mood'"),
        ({"mood": 2}, r"head 'mood', row 0 of the batch: label id 2 is not 0 to 1"),
        (1, r"row 0 of the batch: labels must be a dict head → target, not 1"),
        ({"topic": 1}, r"head 'topic', row 0 of the batch: .* not 1; see prepare_dataset"),
        ({"topic": [0, 7, 0]}, r"head 'topic', row 0 of the batch: cell 'waste' is 7, not between 0 and 1"),
        ({"mood": [1]}, r"head 'mood', row 0 of the batch: the label of a prepared row is an id, not \[1\]"),
        (
            {"topic": [1, 0]},
            r"head 'topic', row 0 of the batch: the target of a prepared row is a list of 3 cells.*\[1, 0\]",
        ),
    ],
)
def test_bad_targets(labels: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiHeadDataCollator(tiny.tokenizer(), tiny.two_heads())([{**ROWS[0], "labels": labels}])

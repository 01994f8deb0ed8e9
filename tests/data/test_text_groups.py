"""Rows with equal texts stay in one split, and texts that are in several splits are said."""

import pytest
from datasets import Dataset

from multihead_hf import infer_heads
from multihead_hf.data.text_groups import split_by_text, text_keys, warn_of_shared_texts

FRACTIONS = {"train": 0.6, "validation": 0.2, "test": 0.2}


def the_rows(texts: list[str]) -> Dataset:
    return Dataset.from_dict({"text": texts, "mood": [("calm", "angry")[row % 2] for row in range(len(texts))]})


def split(rows: Dataset) -> dict[str, Dataset]:
    return dict(split_by_text(rows, infer_heads(rows, ["mood"]), FRACTIONS, 42, None, {}))


def test_equal_texts_stay_together(caplog: pytest.LogCaptureFixture) -> None:
    rows = the_rows([f"Text {row // 4}" if row % 2 else f" text  {row // 4}" for row in range(80)] + ["", ""])
    parts = split(rows)
    assert sum(map(len, parts.values())) == 82
    texts = {part: set(text_keys(part_rows, ["text"])) for part, part_rows in parts.items()}
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert texts[one] & texts[other] <= {None}
    assert parts["train"].column_names == rows.column_names
    assert "60 of 82 rows have the text of an earlier row: rows with equal texts were put into one split" in caplog.text
    caplog.clear()
    warn_of_shared_texts(parts, None)
    assert not caplog.text


def test_without_equal_texts_nothing_changes(caplog: pytest.LogCaptureFixture) -> None:
    from multihead_hf import stratified_split

    rows = the_rows([f"text {row}" for row in range(40)])
    usual = stratified_split(rows, infer_heads(rows, ["mood"]), FRACTIONS)
    assert {part: part_rows["text"][:] for part, part_rows in split(rows).items()} == {
        part: part_rows["text"][:] for part, part_rows in usual.items()
    }
    assert not caplog.text


def test_one_text_for_all_rows_cannot_be_kept_together(caplog: pytest.LogCaptureFixture) -> None:
    parts = split(the_rows(["a text"] * 40))
    assert [len(rows) for rows in parts.values()] == [24, 8, 8]
    assert "39 of 40 rows have the text of an earlier row, and they do not fit into one split" in caplog.text


def test_texts_in_several_splits_are_said(caplog: pytest.LogCaptureFixture) -> None:
    parts = {"train": the_rows(["a", "b", ""]), "validation": the_rows(["c", ""]), "test": the_rows([" A", "d", "b"])}
    warn_of_shared_texts(parts, None)
    assert [record.message for record in caplog.records] == [
        "2 of the 3 test rows have the text of a training row, so scores on them are optimistic"
    ]

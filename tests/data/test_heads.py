"""What kind of head a column is, and its labels."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import tiny
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, IterableDatasetDict, List, Value

from multihead_hf import MultiHeadConfig, MultiHeadModel, infer_heads
from multihead_hf.data.counting import head_counts

SINGLE, MULTI = "single_label_classification", "multi_label_classification"


@pytest.mark.parametrize(
    ("feature", "values", "labels", "problem_type"),
    [
        (Value("string"), ["b", None, "a", "b"], ["a", "b"], SINGLE),
        (Value("bool"), [True, None, True, True], ["False", "True"], SINGLE),
        (Value("int64"), [10, 9, None, -1], ["-1", "9", "10"], SINGLE),
        (Value("float64"), [10.0, 9.0, None, 10.0], ["9", "10"], SINGLE),
        (ClassLabel(names=["z", "a"]), [1, None, 1, 1], ["z", "a"], SINGLE),
        (List(Value("string")), [["b"], [], None, ["c", "a"]], ["a", "b", "c"], MULTI),
        (List(ClassLabel(names=["z", "a", "m"])), [[0], [], None, [2]], ["z", "a", "m"], MULTI),
        (List(Value("int64")), [[2, 0], [], None, [2]], ["0", "1", "2"], MULTI),
        (List(Value("bool")), [[True, False], None, [False, False], [True, True]], ["0", "1"], MULTI),
        (List(Value("float32")), [[0.0, 1.0, 0.5], None, None, None], ["0", "1", "2"], MULTI),
    ],
)
def test_every_kind_of_column(feature: object, values: list, labels: list[str], problem_type: str) -> None:
    rows = Dataset.from_dict({"column": values}, features=Features({"column": feature}))
    (head,) = infer_heads(rows, ["column"]).values()
    assert head.labels == labels
    assert head.problem_type == problem_type


def test_heads_are_named_by_column_or_as_asked() -> None:
    rows = tiny.table()
    assert list(infer_heads(rows, ["mood", "topic_labels"])) == ["mood", "topic_labels"]
    assert list(infer_heads(rows, {"topic": "topic_labels"})) == ["topic"]
    assert infer_heads(rows, "mood")["mood"].labels == tiny.MOODS


def test_a_dataset_dict_is_read_off_its_train_part() -> None:
    parts = DatasetDict(test=Dataset.from_dict({"x": ["b"]}), train=Dataset.from_dict({"x": ["b", "a"]}))
    assert infer_heads(parts, ["x"])["x"].labels == ["a", "b"]


def test_errors_name_the_column() -> None:
    rows = Dataset.from_dict(
        {"text": ["a"], "label": [None]}, features=Features(text=Value("string"), label=Value("string"))
    )
    with pytest.raises(ValueError, match=r"head 'labl': there is no column 'labl'.*'label'.*Columns"):
        infer_heads(rows, ["labl"])
    with pytest.raises(ValueError, match=r"head 'label', column 'label': no row has a label"):
        infer_heads(rows, ["label"])
    images = Dataset.from_dict({"x": [b"1"]}, features=Features(x=Value("binary")))
    with pytest.raises(ValueError, match=r"head 'x', column 'x': labels must be strings"):
        infer_heads(images, ["x"])


def test_counts_leave_out_what_is_missing() -> None:
    rows = [
        {"labels": {"topic": [1.0, 0.0, -100], "mood": 1}},
        {"labels": {"topic": [1.0, 0.5, None], "mood": -100}},
        {"labels": {"topic": None, "mood": None}},
        {},
    ]
    counts = head_counts(rows, tiny.two_heads())
    assert counts["topic"].sums.tolist() == [2.0, 0.5, 0.0]
    assert counts["topic"].known.tolist() == [2, 2, 0]
    assert counts["mood"].sums.tolist() == [0.0, 1.0]
    assert counts["mood"].known.tolist() == [1, 1]


def test_one_column_per_label() -> None:
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "waste": [1, 0, None], "roads": [True, False, None]})
    heads = infer_heads(rows, {"topic": ["waste", "roads"]})
    assert heads["topic"].labels == ["waste", "roads"]
    assert heads["topic"].multi_label
    with pytest.raises(
        ValueError,
        match=r"head 'topic', column 'text': a column for one label must hold booleans, 0/1.*in place of a text",
    ):
        infer_heads(rows, {"topic": ["waste", "text"]})
    with pytest.raises(ValueError, match=r"head 'topic': there is no column 'raods'.*'roads'"):
        infer_heads(rows, {"topic": ["waste", "raods"]})
    with pytest.raises(ValueError, match=r"head 'waste'.*no row has a label"):
        infer_heads(rows.select([2]), {"waste": ["waste"]})


def test_labels_outside_the_training_part_are_listed() -> None:
    parts = DatasetDict(
        train=Dataset.from_dict({"x": [["b"], ["a"]]}), validation=Dataset.from_dict({"x": [["b", "q"], ["p"]]})
    )
    with pytest.raises(
        ValueError, match=r"head 'x', column 'x': labels that occur in 'validation' but not in 'train': \['p', 'q'\]"
    ):
        infer_heads(parts, ["x"])
    parts["validation"] = Dataset.from_dict({"text": ["no such column there"]})
    assert infer_heads(parts, ["x"])["x"].labels == ["a", "b"]


def test_a_stream_and_what_was_decided(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "multihead_hf")
    stream = tiny.table(64).to_iterable_dataset()
    assert infer_heads(stream, ["topic_labels", "mood"]) == infer_heads(tiny.table(64), ["topic_labels", "mood"])
    assert "head 'mood': single-label, 2 labels from ClassLabel, 59 of 64 rows labelled: 'calm' " in caplog.text
    assert "head 'topic_labels': multi-label, 3 labels from lists of strings" in caplog.text


@pytest.mark.parametrize(
    ("feature", "train", "validation"),
    [
        (ClassLabel(names=["a", "b"]), [0, -1], [1, 0]),
        (Value("bool"), [False, None], [True, False]),
        (List(Value("bool")), [[True, False]], [[True, True]]),
    ],
)
def test_a_label_that_only_validation_has(feature: object, train: list, validation: list) -> None:
    parts = DatasetDict(
        train=Dataset.from_dict({"x": train}, features=Features({"x": feature})),
        validation=Dataset.from_dict({"x": validation}, features=Features({"x": feature})),
    )
    with pytest.raises(ValueError, match=r"occur in 'validation' but not in 'train'"):
        infer_heads(parts, ["x"])
    missing = Dataset.from_dict({"x": [-1, -1]}, features=Features({"x": ClassLabel(names=["a", "b"])}))
    with pytest.raises(ValueError, match=r"no row has a label"):
        infer_heads(missing, ["x"])


@pytest.mark.parametrize(
    ("late", "sep"),
    [([["b"], ["a"]], None), ([[0.0, 1.0]], None), (["a|b"], "|"), ([True], None), ([3, 10, 2], None)],
)
def test_a_stream_that_does_not_say_its_types(late: list, sep: str | None) -> None:
    rows = [{"text": "w1", "other": "x"}] * 1200 + [{"text": "w1", "y": value} for value in late]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    table = Dataset.from_list([{"y": None, **row} for row in rows])
    assert stream.features is None
    options: dict[str, Any] = {"sep": sep, "empty": "missing"}
    assert infer_heads(stream, ["y"], **options) == infer_heads(table, ["y"], **options)


def test_a_stream_of_mixed_types_names_the_row() -> None:
    rows = [{"text": "w1", "y": "b"}] * 1200 + [{"text": "w1", "y": 3}]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    with pytest.raises(ValueError, match=r"split 'train': the stream, column 'y': mixed types, .* and 3 in row 1200"):
        infer_heads(IterableDatasetDict(train=stream), ["y"])


def test_a_separator_for_no_head() -> None:
    with pytest.raises(ValueError, match=r"sep: there is no head 'topics'. Did you mean 'topic'"):
        infer_heads(Dataset.from_dict({"topic": ["a|b"]}), ["topic"], sep={"topics": "|"})


def warnings_of(labels: list, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    infer_heads(Dataset.from_dict({"text": list(map(str, range(len(labels)))), "mood": labels}), ["mood"])
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


def test_labels_that_often_stand_for_an_unlabelled_row_are_said(caplog: pytest.LogCaptureFixture) -> None:
    (said,) = warnings_of(["calm", "angry", "NA", "NA"], caplog)
    assert said.startswith("head 'mood': 'NA' (2 rows): read as labels like any other. If they mean")
    (said,) = warnings_of([0, 1, 1, -1], caplog)
    assert said.startswith("head 'mood': '-1' (1 row): read as labels")
    assert warnings_of([-1, 1, 1, -1], caplog) == []  # (a usual pair)


def test_a_column_of_ids_is_said(caplog: pytest.LogCaptureFixture) -> None:
    (said,) = warnings_of([f"id {row // 2}" for row in range(20)] + ["other"], caplog)
    assert said.startswith("head 'mood': 11 different labels in 21 labelled rows")
    assert warnings_of([f"label {row // 3}" for row in range(21)], caplog) == []


@pytest.mark.parametrize(
    ("cells", "options", "loss"),
    [
        ([["a"], ["b", "a"]], {}, "asymmetric"),
        ([[True, False], [True, True]], {}, "asymmetric"),
        ([[1.0, 0.0], None], {}, "asymmetric"),
        ([[1.0, 0.3], [0.0, 1.0]], {}, "bce"),
        (["a|b", "b"], {"sep": "|"}, "asymmetric"),
        (["a", "b"], {}, "cross_entropy"),
    ],
)
def test_multi_label_heads_have_the_asymmetric_loss_except_for_shares(cells: Any, options: Any, loss: str) -> None:
    rows = Dataset.from_dict({"text": ["w1", "w2"], "label": cells})
    assert infer_heads(rows, ["label"], **options)["label"].loss == loss


@pytest.mark.parametrize(("share", "loss"), [(0.0, "asymmetric"), (0.5, "bce")])
def test_the_loss_of_columns_of_one_label_each(share: float, loss: str) -> None:
    rows = Dataset.from_dict({"text": ["w1", "w2"], "a": [1.0, 0.0], "b": [share, 1.0]})
    assert infer_heads(rows, {"label": ["a", "b"]})["label"].loss == loss


def test_the_chosen_loss_gives_way() -> None:
    rows = Dataset.from_dict({"text": ["w1", "w2"], "label": [["a"], ["b"]]})
    head = infer_heads(rows, ["label"])["label"]
    assert head.loss_kwargs == {"gamma_negative": 2.0}
    for changes, loss in (
        ({"loss": "bce"}, "bce"),
        ({"loss": "soft_f1"}, "soft_f1"),
        ({"pos_weight": "balanced"}, "bce"),
    ):
        assert (replace(head, **changes).loss, replace(head, **changes).loss_kwargs) == (loss, {})
    assert replace(head, loss_weight=2).loss_kwargs == {"gamma_negative": 2.0}
    with pytest.raises(ValueError, match="loss 'bce' has no setting 'gamma_negative'"):
        replace(head, loss="bce", loss_kwargs={"gamma_negative": 2.0})
    changed = infer_heads(rows, ["label"])["label"]
    changed.loss = "soft_f1_bce"
    changed.loss_kwargs["alpha"] = 0.3
    assert replace(changed).loss_kwargs == {"alpha": 0.3}
    head.loss = "bce"  # (heads that were changed are checked again)
    model = MultiHeadModel(MultiHeadConfig(encoder=tiny.bert_config(0.0), heads={"label": head}))
    assert (model.config.heads["label"].loss, model.config.heads["label"].loss_kwargs) == ("bce", {})


@pytest.mark.parametrize("sep", ["\n", "/", " / ", "+", "&", "；"])
def test_labels_joined_in_another_way_are_said(sep: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"text": ["a"] * 4, "topic": ["roads", "waste", f"roads{sep}waste", "roads"]})
    with caplog.at_level(logging.WARNING):
        assert not infer_heads(rows, ["topic"])["topic"].multi_label
    assert f"1 of its 3 labels holds {sep.strip(' ')!r}, and their parts also occur in other labels" in caplog.text


def test_objects_written_as_text_are_said(caplog: pytest.LogCaptureFixture) -> None:
    cells = ['{"choices": ["a", "b"]}', "a", "b", "a"]
    with caplog.at_level(logging.WARNING):
        infer_heads(Dataset.from_dict({"text": ["w"] * 4, "topic": cells}), ["topic"])
    assert "1 of its 3 labels look like lists or objects written as text" in caplog.text

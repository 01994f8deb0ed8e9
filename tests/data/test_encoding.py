"""Raw rows to prepared rows: every kind of value, missing ones, and bad ones."""

import logging
from typing import Any

import pytest
import tiny
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, List, Value
from peft import LoraConfig, get_peft_model

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadDataCollator, inspect_dataset, prepare_dataset

MULTI = "multi_label_classification"


def prepare(columns: dict[str, list], features: dict[str, Any], heads: Any = None, **options: Any) -> list[dict]:
    rows = len(next(iter(columns.values())))
    data = {"text": ["w1 w2"] * rows, **columns}
    dataset = Dataset.from_dict(data, features=Features({"text": Value("string"), **features}))
    return list(prepare_dataset(dataset, tiny.tokenizer(), heads or tiny.two_heads(), **options))


def targets(head: HeadConfig, feature: Any, values: list) -> list:
    return [row["labels"]["x"] for row in prepare({"x": values}, {"x": feature}, {"x": head})]


def test_a_prepared_row() -> None:
    (row,) = prepare_dataset(tiny.table(1), tiny.tokenizer(), tiny.two_heads())
    assert set(row) == {"input_ids", "attention_mask", "length", "labels"}
    assert row["length"] == len(row["input_ids"]) == len(row["attention_mask"])
    assert list(row["labels"]) == ["topic", "mood"]
    assert len(row["labels"]["topic"]) == 3
    assert row["labels"]["mood"] in (0, 1)


@pytest.mark.parametrize(
    ("labels", "feature", "values", "expected"),
    [
        (["a", "b"], Value("string"), ["b", None, "a"], [1, None, 0]),
        (["False", "True"], Value("bool"), [True, None, False], [1, None, 0]),
        (["9", "10"], Value("int64"), [10, None, 9], [1, None, 0]),
        (["9", "10"], Value("float64"), [10.0, float("nan"), None], [1, None, None]),
        (["z", "a"], ClassLabel(names=["a", "z"]), [0, None, 1], [1, None, 0]),
        (["a", "b"], ClassLabel(names=["a", "b"]), [-1, 1, 0], [-100, 1, 0]),
    ],
)
def test_single_label_values(labels: list[str], feature: Any, values: list, expected: list) -> None:
    assert targets(HeadConfig(labels=labels), feature, values) == expected


@pytest.mark.parametrize(
    ("feature", "values", "expected"),
    [
        (List(Value("string")), [["c", "a"], [], None], [[1, 0, 1], [0, 0, 0], None]),
        (List(ClassLabel(names=["c", "b", "a"])), [[0], [], None], [[0, 0, 1], [0, 0, 0], None]),
        (List(Value("int64")), [[0, 2], [], None], [[1, 0, 1], [0, 0, 0], None]),
        (List(Value("bool")), [[True, False, None], None, [False] * 3], [[1, 0, -100], None, [0, 0, 0]]),
        (List(Value("float32")), [[1, 0.25, -100], None, [0, 0, 0]], [[1, 0.25, -100], None, [0, 0, 0]]),
    ],
)
def test_multi_label_values(feature: Any, values: list, expected: list) -> None:
    assert targets(HeadConfig(labels=["a", "b", "c"], problem_type=MULTI), feature, values) == expected


def test_columns_without_any_value() -> None:
    rows = prepare({"mood": [None, None], "topic": [[], None]}, {"mood": Value("null"), "topic": List(Value("null"))})
    assert [row["labels"] for row in rows] == [{"topic": [0, 0, 0], "mood": None}, {"topic": None, "mood": None}]


def test_lists_of_integers_as_multi_hot() -> None:
    feature = {"topic": List(Value("int64"))}
    rows = prepare({"topic": [[0, 1, 1], None]}, feature, multi_hot=True)
    assert [row["labels"]["topic"] for row in rows] == [[0, 1, 1], None]
    with pytest.raises(
        ValueError, match=r"head 'topic', column 'topic', row 0: label id 2 is given twice.*multi_hot=True"
    ):
        prepare({"topic": [[0, 2, 2]]}, feature)


def test_columns_by_name_suffix_and_argument() -> None:
    for column, options in (
        ("mood", {}),
        ("mood_label", {}),
        ("mood_labels", {}),
        ("feeling", {"label_columns": {"mood": "feeling"}}),
    ):
        rows = prepare(
            {column: ["angry"]}, {column: Value("string")}, {"mood": HeadConfig(labels=tiny.MOODS)}, **options
        )
        assert rows[0]["labels"] == {"mood": 1}


def test_a_head_without_a_column_is_not_labelled(caplog: pytest.LogCaptureFixture) -> None:
    library = logging.getLogger("transformers")
    propagate, library.propagate = library.propagate, True
    with caplog.at_level(logging.WARNING):
        rows = prepare({"mood": ["angry"]}, {"mood": Value("string")})
    library.propagate = propagate
    assert rows[0]["labels"] == {"topic": None, "mood": 1}
    assert "no column for the heads ['topic']" in caplog.text
    unlabelled = prepare({"other": ["x"]}, {"other": Value("string")}, require_labels=False)
    assert unlabelled[0]["labels"] == {"topic": None, "mood": None}


def test_text_pairs_prefix_and_length() -> None:
    config = MultiHeadConfig(
        encoder=tiny.encoder_config(), heads=tiny.two_heads(), max_length=6, text_columns=["a", "b"], text_prefix="w9 "
    )
    data = Dataset.from_dict({"a": ["w1 w2"], "b": ["w3 w4 w5 w6"], "mood": ["calm"]})
    types = tiny.tokenizer(model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    (row,) = prepare_dataset(data, types, config)
    assert row["length"] == 6
    assert row["input_ids"][1] == tiny.VOCAB["w9"]
    assert row["token_type_ids"][-1] == 1
    (longer,) = prepare_dataset(data, tiny.tokenizer(), config, max_length=8)
    assert longer["length"] == 8


def test_empty_texts_are_texts() -> None:
    data = Dataset.from_dict({"text": ["", "w1"], "mood": ["calm", "angry"]})
    rows = list(prepare_dataset(data, tiny.tokenizer(), tiny.two_heads()))
    assert rows[0]["input_ids"] == [tiny.VOCAB["[CLS]"], tiny.VOCAB["[SEP]"]]
    bare = tiny.tokenizer()
    bare.backend_tokenizer.post_processor = None
    rows = list(prepare_dataset(data, bare, tiny.two_heads()))
    assert rows[0]["input_ids"] == [tiny.VOCAB["[SEP]"]]
    assert rows[0]["attention_mask"] == [1]


def test_sample_weights_travel_to_the_batch() -> None:
    data = Dataset.from_dict({"text": ["w1", "w2"], "mood": ["calm", "angry"], "sample_weight": [2, 0.5]})
    rows = prepare_dataset(data, tiny.tokenizer(), tiny.two_heads())
    batch = MultiHeadDataCollator(tiny.tokenizer(), tiny.two_heads())([rows[0], rows[1]])
    assert batch["sample_weight"].tolist() == [2, 0.5]
    for wrong in (None, -1.0, float("nan")):
        bad = data.remove_columns("sample_weight").add_column("sample_weight", [1.0, wrong])
        with pytest.raises(
            ValueError, match=r"row 1, column 'sample_weight'.*: (give a number|weights are relative).* rename it if"
        ):
            prepare_dataset(bad, tiny.tokenizer(), tiny.two_heads())


def test_a_dataset_dict_keeps_its_parts() -> None:
    parts = DatasetDict(train=tiny.table(4), test=tiny.table(3, seed=1))
    prepared = prepare_dataset(parts, tiny.tokenizer(), tiny.model())
    assert {part: len(rows) for part, rows in prepared.items()} == {"train": 4, "test": 3}


def test_max_length_beyond_the_encoders_positions() -> None:
    config = MultiHeadConfig(encoder=tiny.encoder_config(), heads=tiny.two_heads(), max_length=600)
    with pytest.raises(ValueError, match=r"max_length 600 is more than the encoder's 512 positions"):
        prepare_dataset(tiny.table(2), tiny.tokenizer(), config)
    rotary = MultiHeadConfig(encoder=tiny.encoder_config("modernbert"), heads=tiny.two_heads(), max_length=10**5)
    assert len(prepare_dataset(tiny.table(2), tiny.tokenizer(), rotary)) == 2


@pytest.mark.parametrize(
    ("columns", "features", "message"),
    [
        ({"mood": ["calm", "angri"]}, {"mood": Value("string")}, r"head 'mood', column 'mood', row 1: 'angri' is not one.*Did you mean 'angry'"),
        ({"mood": [3]}, {"mood": Value("int64")}, r"head 'mood', column 'mood', row 0: '3' is not one of the head's 2 labels"),
        ({"mood": [["calm"]]}, {"mood": List(Value("string"))}, r"head 'mood', column 'mood': the column holds lists.*one label"),
        ({"topic": ["roads"]}, {"topic": Value("string")}, r"head 'topic', column 'topic': the column holds one label per row.*list"),
        ({"topic": [[], ["rods"]]}, {"topic": List(Value("string"))}, r"head 'topic', column 'topic', row 1: 'rods'.*'roads'"),
        ({"topic": [[], [3]]}, {"topic": List(Value("int64"))}, r"head 'topic', column 'topic', row 1: label id 3 is out of range.*0 to 2"),
        ({"topic": [[-1]]}, {"topic": List(ClassLabel(names=tiny.TOPICS))}, r"row 0: class -1 is out of range: the column has 3"),
        ({"topic": [[-1]]}, {"topic": List(Value("int64"))}, r"row 0: label id -1 is out of range"),
        ({"topic": [[1.0, 0.0]]}, {"topic": List(Value("float32"))}, r"row 0: a multi-hot list of 2 cells, but the head has 3"),
        ({"topic": [[1.0, 0.0, 7.0]]}, {"topic": List(Value("float32"))}, r"row 0: cell 'noise' is 7.0"),
        ({"topic": [["roads", None]]}, {"topic": List(Value("string"))}, r"row 0: .* holds a missing label"),
        ({"moods": ["calm"]}, {"moods": Value("string")}, r"no column holds labels of the heads \['topic', 'mood'\]"),
    ],
)  # fmt: skip
def test_bad_labels_name_head_column_and_row(columns: dict, features: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare(columns, features)


def test_rows_are_counted_over_the_whole_dataset() -> None:
    values = ["calm"] * 1500 + ["clam"]
    with pytest.raises(ValueError, match=r"row 1500: 'clam' is not"):
        prepare({"mood": values}, {"mood": Value("string")})


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ({"tekst": ["a"], "mood": ["calm"]}, {}, r"there is no text column 'text'.*'tekst'"),
        ({"text": [1], "mood": ["calm"]}, {}, r"text column 'text' is not text"),
        ({"text": [None], "mood": ["calm"]}, {}, r"text column 'text' is empty in all rows"),
        ({"text": ["a", None], "mood": ["calm", "calm"]}, {}, r"row 1, column 'text': the text is None.*fillna\(''\)"),
        ({"text": ["a"], "mood": ["calm"]}, {"text_columns": ["text"] * 3}, r"one column, or two for text pairs"),
        ({"text": [], "mood": []}, {}, r"the dataset is empty"),
        ({"text": ["a"], "mood": ["calm"]}, {"label_columns": {"moood": "mood"}}, r"no head 'moood'.*'mood'"),
        ({"text": ["a"], "mood": ["calm"]}, {"label_columns": {"mood": "mod"}}, r"head 'mood': there is no column 'mod'.*'mood'"),
    ],
)  # fmt: skip
def test_bad_tables(data: dict, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_dataset(Dataset.from_dict(data), tiny.tokenizer(), tiny.two_heads(), **options)


def test_one_column_per_label_by_the_labels_names_or_as_asked() -> None:
    columns = {"waste": [1, 0, None], "noise": [0.5, None, None], "roads": [True, False, None]}
    features = {"waste": Value("int64"), "noise": Value("float32"), "roads": Value("bool")}
    for options in ({}, {"label_columns": {"topic": ["waste", "roads", "noise"]}}):
        rows = prepare(columns, features, **options)
        assert [row["labels"]["topic"] for row in rows] == [[1, 1, 0.5], [0, 0, -100], None]
    with pytest.raises(
        ValueError, match=r"head 'topic': a list of columns must have one column for each label.*'noise'"
    ):
        prepare(columns, features, label_columns={"topic": ["waste", "roads"]})
    with pytest.raises(ValueError, match=r"head 'topic', column .*row 0: cell 'waste' is 3.0"):
        prepare({**columns, "waste": [3, 0, 0]}, features)


def test_joined_strings_are_asked_for() -> None:
    features = {"topic": Value("string")}
    for empty, targets in (("missing", None), ("none", [0, 0, 0]), ({"topic": "none"}, [0, 0, 0])):
        rows = prepare({"topic": ["waste; roads", "", None, "  "]}, features, sep=";", empty=empty)
        assert [row["labels"]["topic"] for row in rows] == [[1, 1, 0], targets, targets, targets]
    with pytest.raises(
        ValueError, match=r"head 'topic', column 'topic'.*takes a list of labels \(for strings .*sep='\|'\)"
    ):
        prepare({"topic": ["waste; roads"]}, features)
    with pytest.raises(ValueError, match=r"head 'topic', column 'topic', row 0: 'waste; roads' is not one"):
        prepare({"topic": ["waste; roads"]}, features, sep="|")
    with pytest.raises(ValueError, match=r"unknown empty 'nothing'"):
        prepare({"topic": ["waste"]}, features, sep="|", empty="nothing")


def test_a_stream_is_prepared_as_it_comes() -> None:
    table = tiny.table(20)
    stream = prepare_dataset(table.to_iterable_dataset(), tiny.tokenizer(), tiny.two_heads())
    assert list(stream) == list(prepare_dataset(table, tiny.tokenizer(), tiny.two_heads()))


@pytest.mark.parametrize("truncation", ["tail", "head+tail"])
def test_what_is_cut_is_said(truncation: str, caplog: pytest.LogCaptureFixture) -> None:
    words = [f"w{i}" for i in range(10)]
    rows = Dataset.from_dict({"text": [" ".join(words), "w1", " ".join(words[:5])]})
    config = MultiHeadConfig(encoder=tiny.encoder_config(), heads=tiny.two_heads(), max_length=7, truncation=truncation)
    prepared = prepare_dataset(rows, tiny.tokenizer(), config, require_labels=False, name="train_dataset")
    kept = words[:5] if truncation == "tail" else words[:3] + words[-2:]
    assert prepared[0]["input_ids"] == [2, *(tiny.VOCAB[word] for word in kept), 3]
    assert prepared[1]["length"] == 3
    assert prepared[2]["input_ids"] == [2, *(tiny.VOCAB[word] for word in words[:5]), 3]
    assert set(prepared.column_names) == {"input_ids", "attention_mask", "length", "labels"}
    assert "train_dataset: 1 of 3 texts (33.3%) are longer than 7 tokens and were truncated" in caplog.text


def test_the_middle_of_text_pairs_is_not_cut() -> None:
    config = MultiHeadConfig(
        encoder=tiny.encoder_config(), heads=tiny.two_heads(), truncation="head+tail", text_columns=["a", "b"]
    )
    rows = Dataset.from_dict({"a": ["w1"], "b": ["w2"]})
    with pytest.raises(ValueError, match=r"'head\+tail' is for single texts"):
        prepare_dataset(rows, tiny.tokenizer(), config, require_labels=False)


def test_a_dataset_in_another_format() -> None:
    table = tiny.table(6)
    expected = list(prepare_dataset(table, tiny.tokenizer(), tiny.two_heads()))
    assert list(prepare_dataset(table.with_format("torch"), tiny.tokenizer(), tiny.two_heads())) == expected


@pytest.mark.parametrize("num_proc", [None, 2])
def test_all_labels_that_the_head_lacks_are_listed(num_proc: int | None) -> None:
    moods = ["calm", "furious", None, "furious", "glad", "angry", "sad"]
    rows = Dataset.from_dict({"text": ["w1"] * 7, "mood": moods})
    with pytest.raises(ValueError, match="row 1: 'furious' is not one of the head's 2 labels") as error:
        prepare_dataset(rows, tiny.tokenizer(), tiny.two_heads(), num_proc=num_proc)
    assert "2 of 7 rows have it; 2 other labels are not among the head's labels either: 'glad', 'sad'." in str(
        error.value
    )


def test_a_label_in_other_letters_is_suggested() -> None:
    rows = Dataset.from_dict({"text": ["w1"], "mood": ["CALM"]})
    with pytest.raises(ValueError, match=r"'CALM' is not one of the head's 2 labels\. Did you mean 'calm'\?"):
        prepare_dataset(rows, tiny.tokenizer(), tiny.two_heads())


def test_another_separator_is_suggested() -> None:
    rows = Dataset.from_dict({"text": ["w1", "w2"], "topic": ["roads;noise", "roads"]})
    with pytest.raises(ValueError, match=r"'roads;noise' .*Its labels are joined by ';': sep=';' \(--sep ';'\)"):
        prepare_dataset(rows, tiny.tokenizer(), tiny.two_heads(), sep={"topic": "|"}, empty="none")


@pytest.mark.parametrize(("texts", "count"), [(["a", "", " \n", "b"], "2 of 4"), (["a", "b", "c"], None)])
def test_empty_texts_are_said(texts: list[str], count: str | None, caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"text": texts, "mood": ["calm"] * len(texts)})
    done = prepare_dataset(rows, tiny.tokenizer(), tiny.two_heads())
    assert {"was_cut", "is_empty"}.isdisjoint(done.column_names)
    assert ("texts are empty" in caplog.text) == (count is not None)
    if count is not None:
        assert f"{count} texts are empty (the first of them is row 1 of these) and count like any other" in caplog.text


def test_every_label_of_a_row_is_looked_at() -> None:
    rows = Dataset.from_dict({"text": ["w1"] * 4, "topic": [["zzz", "roads"], ["yyy", "zzz"], ["yyy", "zzz"], ["xxx"]]})
    with pytest.raises(ValueError, match="'zzz' is not one of the head's 3 labels") as error:
        prepare_dataset(rows, tiny.tokenizer(), tiny.two_heads())
    assert "3 of 4 rows have it; 2 other labels are not among the head's labels either: 'yyy', 'xxx'." in str(
        error.value
    )


@pytest.mark.parametrize("late", [[0.0, 1.0], [False, True]])
def test_cells_of_a_stream_that_does_not_say_its_types(late: list) -> None:
    rows = [{"text": "w1", "x": None}] * 1200 + [{"text": "w1", "x": late}, {"text": "w1", "x": ["b"]}]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    head = {"x": HeadConfig(labels=["b", "c"], problem_type=MULTI)}
    found = [row["labels"]["x"] for row in prepare_dataset(stream, tiny.tokenizer(), head)]
    assert found[-3:] == [None, [0.0, 1.0], [1.0, 0.0]]


def test_joined_strings_of_a_stream_that_does_not_say_its_types() -> None:
    rows = [{"text": "w1", "x": None}] * 1200 + [{"text": "w1", "x": "c|b"}]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    head = {"x": HeadConfig(labels=["b", "c"], problem_type=MULTI)}
    prepared = list(prepare_dataset(stream, tiny.tokenizer(), head, sep="|", empty="missing"))
    assert [prepared[0]["labels"], prepared[-1]["labels"]] == [{"x": None}, {"x": [1.0, 1.0]}]


def test_errors_of_parts_name_the_part() -> None:
    parts = DatasetDict(train=Dataset.from_dict({"text": ["w1"], "mood": ["calm"]}))
    parts["validation"] = Dataset.from_dict({"text": ["w1"], "mood": ["zzz"]})
    with pytest.raises(ValueError, match=r"split 'validation': head 'mood', column 'mood', row 0: 'zzz'"):
        prepare_dataset(parts, tiny.tokenizer(), tiny.two_heads())


def test_a_separator_for_no_head() -> None:
    with pytest.raises(ValueError, match=r"sep: there is no head 'topics'. Did you mean 'topic'"):
        prepare({"topic": ["waste|roads"]}, {"topic": Value("string")}, sep={"topics": "|"})


def test_a_column_that_has_another_heads_name_is_that_heads() -> None:
    heads = {"x": HeadConfig(labels=["a", "b"]), "x_labels": HeadConfig(labels=["a", "b"])}
    (row,) = prepare({"x_labels": ["b"]}, {"x_labels": Value("string")}, heads)
    assert row["labels"] == {"x": None, "x_labels": 1}


def test_heads_of_an_adapted_model_and_of_something_else() -> None:
    adapted = get_peft_model(tiny.model(), LoraConfig(target_modules=["query"]))
    assert set(prepare_dataset(tiny.table(8), tiny.tokenizer(), adapted)[0]["labels"]) == {"topic", "mood"}
    with pytest.raises(ValueError, match=r"needs heads: .*, not a "):
        prepare_dataset(tiny.table(8), tiny.tokenizer(), tiny.tokenizer())


def test_the_text_is_no_label_column() -> None:
    with pytest.raises(ValueError, match=r"head 'mood': the column 'mood' would be both text and labels"):
        prepare_dataset(
            Dataset.from_dict({"mood": ["calm", "angry"], "text": ["w1", "w2"]}),
            tiny.tokenizer(),
            {"mood": HeadConfig(labels=tiny.MOODS)},
            text_columns="mood",
        )
    with pytest.raises(ValueError, match=r"text_columns \['text', 'text'\]: the same column is given twice"):
        prepare_dataset(tiny.table(4), tiny.tokenizer(), tiny.two_heads(), text_columns=["text", "text"])


def test_a_stream_asks_about_empty_cells_of_one_label() -> None:
    head = HeadConfig(labels=["A", "B"], problem_type="multi_label_classification")
    rows = [{"text": "w1", "A": 1, "B": None}, {"text": "w2", "A": None, "B": 1}] * 20
    for stream in (IterableDataset.from_generator(lambda: iter(rows)), Dataset.from_list(rows).to_iterable_dataset()):
        with pytest.raises(ValueError, match=r"head 'y'.*empty=\"none\""):
            prepare_dataset(stream, tiny.tokenizer(), {"y": head})
        prepared = prepare_dataset(stream, tiny.tokenizer(), {"y": head}, empty="none")
        assert next(iter(prepared))["labels"]["y"] == [1, 0]


def test_weights_that_the_first_rows_of_a_stream_lack() -> None:
    first = [{"text": "w1", "mood": "calm"}] * 1100
    rows = [*first, *({**row, "sample_weight": 0.5} for row in first)]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    prepared = prepare_dataset(stream, tiny.tokenizer(), {"mood": HeadConfig(labels=tiny.MOODS)})
    with pytest.raises(ValueError, match=r"of the stream have the column 'sample_weight'"):
        list(prepared)


def test_labels_from_another_column_than_in_the_training_are_said(caplog: pytest.LogCaptureFixture) -> None:
    head = HeadConfig(labels=tiny.MOODS, reading={"column": "mood2"})
    table = Dataset.from_dict({"text": ["w1"], "mood": ["calm"]})
    prepare_dataset(table, tiny.tokenizer(), {"mood": head})
    assert "head 'mood': its labels were in the column 'mood2' in the training, which these rows lack" in caplog.text
    caplog.clear()
    prepare_dataset(table, tiny.tokenizer(), {"mood": head}, label_columns={"mood": "mood"})
    prepare_dataset(table.rename_column("mood", "mood2"), tiny.tokenizer(), {"mood": head})
    assert not caplog.records


def test_a_text_column_with_the_name_of_a_head_has_no_labels() -> None:
    rows, head = Dataset.from_dict({"mood": ["w1 w2"]}), {"mood": HeadConfig(labels=tiny.MOODS)}
    prepared = prepare_dataset(rows, tiny.tokenizer(), head, text_columns="mood", require_labels=False)
    assert prepared[0]["labels"] == {"mood": None}
    with pytest.raises(ValueError, match="would be both text and labels"):
        inspect_dataset(rows, head, text_columns="mood")

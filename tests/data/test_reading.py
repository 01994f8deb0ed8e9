"""How labels are read: asked where it is not clear, said once, remembered, and the same wherever the rows are."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars
import pytest
import tiny
from command_line import cli
from datasets import ClassLabel, Dataset, DatasetDict, Features, IterableDataset, List, Value

from multihead_hf import (
    HeadConfig,
    LabelReading,
    infer_heads,
    inspect_dataset,
    prepare_dataset,
    read_dataset,
    split_report,
    stratified_split,
)

LOSS: Any = {"loss": "asymmetric", "loss_kwargs": {"gamma_negative": 2.0}}
MULTI = "multi_label_classification"
CSV = "text,topics,mood\nw1,date|time,calm\nw2,,angry\nw3,time,\nw4,  ,calm\n"
ASKED = (
    r"head 'topics', column 'topics': 2 of 4 cells are empty \(the first is row 1\)\. Say what an empty cell means: "
    r'empty="none" if none of the labels applies, empty="missing" if the row is not labelled '
    r"\(on the command line --empty none or --empty missing\)\."
)
SOURCES = ("path", "pandas", "polars", "from_csv", "from_pandas")
COLUMNS = ["topics", "mood"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "rows.csv").write_text(CSV)
    return tmp_path / "rows.csv"


def rows_as(kind: str, path: Path) -> Any:
    if kind == "path":
        return str(path)
    if kind == "polars":
        return polars.read_csv(path)
    if kind == "from_csv":
        return Dataset.from_csv(str(path), cache_dir=str(path.parent / "cache"))
    frame = pd.read_csv(path)
    return frame if kind == "pandas" else Dataset.from_pandas(frame)


def labels_of(rows: Any, heads: Any, **options: Any) -> list[Any]:
    return [row["labels"]["topics"] for row in prepare_dataset(rows, tiny.tokenizer(), heads, **options)]


def topics(labels: list[str] | None = None, **reading: Any) -> dict[str, HeadConfig]:
    return {"topics": HeadConfig(labels or ["date", "time"], MULTI, reading=LabelReading(**reading))}


# ---- empty cells ----


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize(("empty", "target"), [("none", [0, 0]), ("missing", None)])
def test_one_file_gives_the_same_labels_however_it_comes(path: Path, kind: str, empty: str, target: Any) -> None:
    rows = rows_as(kind, path)
    heads = infer_heads(rows, COLUMNS, sep="|", empty=empty)
    assert heads["topics"] == HeadConfig(["date", "time"], MULTI, **LOSS, reading={"sep": "|", "empty": empty})
    assert heads["mood"] == HeadConfig(["angry", "calm"])
    assert labels_of(rows, heads) == [[1, 1], target, [0, 1], target]
    flags = ["--label-column", "topics", "--label-column", "mood", "--sep", "|", "--empty", empty]
    printed = json.loads(cli("inspect", path, *flags, "--json").stdout)
    assert printed == inspect_dataset(rows, heads).to_dict()
    assert printed["heads"]["topics"]["labelled"] == {"": 4 if empty == "none" else 2}


@pytest.mark.parametrize("kind", SOURCES)
def test_what_an_empty_cell_means_is_asked_and_not_guessed(path: Path, kind: str) -> None:
    """A model that was trained on the labelled rows alone reported F1 0.66, and had 0.10 on all of them."""
    rows, heads = rows_as(kind, path), topics(sep="|")
    for ask in (
        lambda: infer_heads(rows, COLUMNS, sep={"topics": "|"}),
        lambda: prepare_dataset(rows, tiny.tokenizer(), heads),
        lambda: prepare_dataset(rows, tiny.tokenizer(), heads, require_labels=False),
        lambda: stratified_split(rows, heads, [0.5, 0.5]),
        lambda: split_report({"": rows}, heads),
        lambda: inspect_dataset(rows, heads),
    ):
        with pytest.raises(ValueError, match=ASKED):
            ask()


def test_an_empty_cell_that_pandas_reads_as_nan_is_none_of_the_labels(path: Path) -> None:
    frame = pd.read_csv(path)
    assert frame["topics"].isna().sum() == 1
    heads = infer_heads(frame, ["topics"], sep="|", empty="none")
    assert labels_of(frame, heads) == labels_of(path, heads) == [[1, 1], [0, 0], [0, 1], [0, 0]]


def test_empty_cells_of_another_file_are_asked_about(path: Path, tmp_path: Path) -> None:
    train = tmp_path / "train.csv"
    train.write_text("text,topics\nw1,date|time\nw2,time\n")
    heads = infer_heads(train, ["topics"], sep="|")
    assert heads["topics"].reading == LabelReading(sep="|")
    with pytest.raises(ValueError, match=ASKED):
        prepare_dataset(path, tiny.tokenizer(), heads)
    parts = {"train": str(train), "validation": str(path)}
    with pytest.raises(ValueError, match=f"split 'validation': {ASKED}"):
        infer_heads(parts, ["topics"], sep="|")
    assert infer_heads(parts, ["topics"], sep="|", empty="none")["topics"].reading.empty == "none"


def test_an_empty_cell_of_a_stream_names_its_row(path: Path) -> None:
    stream = read_dataset(path).to_iterable_dataset()
    prepared = prepare_dataset(stream, tiny.tokenizer(), topics(sep="|"))
    with pytest.raises(ValueError, match=r"column 'topics': the cell of row 1 is empty\. Say what an empty cell means"):
        list(prepared)
    assert labels_of(stream, topics(sep="|"), empty="missing") == [[1, 1], None, [0, 1], None]


def test_nothing_is_asked_where_there_are_no_labels(path: Path) -> None:
    rows = read_dataset(path).select_columns("text")
    (row, *_) = prepare_dataset(rows, tiny.tokenizer(), topics(sep="|"), require_labels=False)
    assert row["labels"] == {"topics": None}


def test_a_column_without_any_value(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,topics\nw1,\nw2,\n")
    assert labels_of(path, topics(sep="|"), empty="none") == [[0, 0], [0, 0]]
    assert labels_of(pd.read_csv(path), topics(sep="|", empty="missing")) == [None, None]
    with pytest.raises(ValueError, match=r"2 of 2 cells are empty \(the first is row 0\)"):
        prepare_dataset(path, tiny.tokenizer(), topics(sep="|"))


# ---- with a separator a cell is a joined string, whatever it looks like ----


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["1|2", "2"], ["1", "2"]),
        (["1", "2"], ["1", "2"]),
        (["1.10", "1.1"], ["1.1", "1.10"]),
        (["007", "7"], ["007", "7"]),
        (["true", "TRUE"], ["TRUE", "true"]),
    ],
)
def test_joined_numbers_stay_as_they_are_written(tmp_path: Path, cells: list[str], labels: list[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,topics,mood\n" + "".join(f"w1,{cell},{place}\n" for place, cell in enumerate(cells)))
    heads = infer_heads(path, COLUMNS, sep={"topics": "|"})
    assert heads["topics"].labels == labels
    assert heads["mood"].labels == ["0", "1"]
    targets = [[float(label in cell.split("|")) for label in labels] for cell in cells]
    assert labels_of(path, heads) == targets
    found = json.loads(
        cli("inspect", path, "--label-column", "topics", "--label-column", "mood", "--sep", "topics=|", "--json").stdout
    )
    assert list(found["labels"]["counts"]["topics"]) == labels


def test_numbers_and_class_labels_of_other_sources() -> None:
    heads = topics(["1", "2"], sep="|", empty="none")
    for values, feature in (
        ([2, None], Value("int64")),
        ([2.0, float("nan")], Value("float64")),
        ([1, -1], ClassLabel(names=["1", "2"])),
    ):
        rows = Dataset.from_dict(
            {"text": ["w1", "w2"], "topics": values}, Features(text=Value("string"), topics=feature)
        )
        assert labels_of(rows, heads) == [[0, 1], [0, 0]]
        assert infer_heads(rows, ["topics"], sep="|", empty="none")["topics"].labels == ["2"]


# ---- lists of 0 and 1 ----


ZEROS_AND_ONES = [[1, 0], [0, 1], None]


@pytest.mark.parametrize("inner", ["int64", "uint8"])
@pytest.mark.parametrize("stream", [False, True])
def test_lists_of_zeros_and_ones_are_asked_about(inner: str, stream: bool) -> None:
    features = Features(text=Value("string"), topics=List(Value(inner)))
    table = Dataset.from_dict({"text": ["w1"] * 3, "topics": ZEROS_AND_ONES}, features)
    rows = table.to_iterable_dataset() if stream else table
    message = (
        r"head 'topics', column 'topics': all 2 lists hold 2 integers, each of them 0 or 1 \(the first is \[1, 0\] in "
        r"row 0\)\. Say what they are: multi_hot=True if .*multi_hot=False if they are label ids \(.* --no-multi-hot\)"
    )
    with pytest.raises(ValueError, match=message):
        infer_heads(rows, ["topics"])
    with pytest.raises(ValueError, match=message):
        prepare_dataset(rows, tiny.tokenizer(), topics())
    for multi_hot, targets in ((True, [[1, 0], [0, 1], None]), (False, [[1, 1], [1, 1], None])):
        heads = infer_heads(rows, ["topics"], multi_hot=multi_hot)
        assert heads["topics"] == HeadConfig(["0", "1"], MULTI, **LOSS, reading=LabelReading(multi_hot=multi_hot))
        assert labels_of(rows, heads) == labels_of(rows, topics(), multi_hot={"topics": multi_hot}) == targets


def test_lists_of_zeros_and_ones_far_down_a_stream() -> None:
    rows = [{"text": "w1", "topics": None}] * 1200 + [{"text": "w1", "topics": [1, 0]}]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    prepared = prepare_dataset(stream, tiny.tokenizer(), topics())
    with pytest.raises(ValueError, match=r"the list holds 2 integers, .* \(the first is \[1, 0\] in row 1200\)"):
        list(prepared)
    assert labels_of(stream, topics(), multi_hot=True)[-1] == [1, 0]
    lacking = IterableDataset.from_generator(lambda: iter([{"text": "w1"}, {"text": "w1", "topics": [0]}]))
    assert labels_of(lacking, topics()) == [None, [1, 0]]


@pytest.mark.parametrize("values", [[[1, 0], [0, 1], []], [[], [1, 1]]])
@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_list_beside_lists_of_zeros_and_ones(values: list, stream: bool) -> None:
    """Ids are in order and not repeated; an empty list may be a row that is not labelled."""
    table = Dataset.from_dict({"text": ["w1"] * len(values), "topics": values})
    rows = table.to_iterable_dataset() if stream else table
    with pytest.raises(ValueError, match=r"that are not empty hold 2 integers|the list holds 2 integers"):
        infer_heads(rows, ["topics"])
    with pytest.raises(ValueError, match=r"Say what they are: multi_hot=True"):
        labels_of(rows, topics())


def test_lists_of_one_integer_for_a_head_of_one_label() -> None:
    rows = Dataset.from_dict({"text": ["w1"] * 2, "topics": [[0], [0]]})
    with pytest.raises(
        ValueError, match=r"column 'topics': all 2 lists hold 1 integer, each of them 0 or 1 \(the first"
    ):
        labels_of(rows, topics(["spam"]))
    assert labels_of(rows, topics(["spam"]), multi_hot=True) == [[0], [0]]
    assert labels_of(rows, topics(["spam"]), multi_hot=False) == [[1], [1]]


@pytest.mark.parametrize("values", [[[0, 1], [1]], [[0, 1], []], [[0], [1]], [[0, 2], [1, 0]], [["0", "1"]]])
def test_other_lists_are_not_asked_about(values: list) -> None:
    rows = Dataset.from_dict({"text": ["w1"] * len(values), "topics": values})
    heads = infer_heads(rows, ["topics"])
    assert heads["topics"].reading == (None if isinstance(values[0][0], str) else LabelReading(multi_hot=False))
    assert len(labels_of(rows, heads)) == len(values)


def test_two_of_many_label_ids_are_not_asked_about() -> None:
    rows = Dataset.from_dict({"text": ["w1"], "topics": [[0, 1]]})
    assert labels_of(rows, topics(["a", "b", "c"])) == [[1, 1, 0]]
    with pytest.raises(ValueError, match=r"row 1: label id 1 is given twice in \[1, 1, 2\].*multi_hot=True"):
        infer_heads(Dataset.from_dict({"topics": [[0], [1, 1, 2]]}), ["topics"])


# ---- said, remembered, and which wins ----


def test_what_is_said_wins_over_what_is_remembered() -> None:
    rows = Dataset.from_dict({"text": ["w1", "w2"], "a": ["x|y", ""], "b": ["y;x", "x"]})
    heads = infer_heads(rows, {"topics": "a"}, sep="|", empty="none")
    assert heads["topics"].reading == LabelReading("a", "|", "none")
    assert labels_of(rows, heads) == [[1, 1], [0, 0]]
    assert labels_of(rows, heads, empty="missing") == [[1, 1], None]
    assert labels_of(rows, heads, label_columns={"topics": "b"}, sep=";") == [[1, 1], [1, 0]]
    ready = {"topics": LabelReading(column="b", sep=";")}
    assert labels_of(rows, heads, reading=ready) == labels_of(rows, heads, sep="|", reading=ready) == [[1, 1], [1, 0]]
    assert infer_heads(rows, ["topics"], reading=ready)["topics"].reading == ready["topics"]
    split = split_report({"all": rows}, heads, reading={"topics": {"empty": "missing"}})
    assert split.labelled == {"topics": {"all": 1}}


def test_a_remembered_column_that_is_not_there_falls_back_to_the_name() -> None:
    heads = topics(column="a", sep="|")
    rows = Dataset.from_dict({"text": ["w1"], "topics_labels": ["date"]})
    assert labels_of(rows, heads) == [[1, 0]]
    with pytest.raises(ValueError, match=r"head 'topics': there is no column 'a'\. Columns"):
        prepare_dataset(rows, tiny.tokenizer(), heads, label_columns={"topics": "a"})


def test_one_column_that_two_heads_remember() -> None:
    heads = {
        "spam": HeadConfig(["no", "yes"], reading={"column": "label"}),
        "irony": HeadConfig(["no", "yes"], reading={"column": "label"}),
    }
    rows = Dataset.from_dict({"text": ["w1"], "label": ["yes"]})
    message = r"the heads 'spam' and 'irony' would both read their labels from the column 'label': choose the head .*'irony': 'label'"
    with pytest.raises(ValueError, match=message):
        prepare_dataset(rows, tiny.tokenizer(), heads)
    (row,) = prepare_dataset(rows, tiny.tokenizer(), heads, label_columns={"irony": "label"})
    assert row["labels"] == {"spam": None, "irony": 1}


@pytest.mark.parametrize("column", ["mood", "mood_labels", "mood_label"])
def test_a_column_that_was_given_to_one_head_is_not_read_for_another(column: str) -> None:
    heads = {"a": HeadConfig(["no", "yes"]), "mood": HeadConfig(["no", "yes"])}
    rows = Dataset.from_dict({"text": ["w1"], column: ["yes"]})
    for name in heads:
        (row,) = prepare_dataset(rows, tiny.tokenizer(), heads, label_columns={name: column})
        assert row["labels"] == {**dict.fromkeys(heads), name: 1}
    (row,) = prepare_dataset(rows, tiny.tokenizer(), heads, label_columns={"a": column, "mood": column})
    assert row["labels"] == {"a": 1, "mood": 1}


def test_columns_of_labels_that_were_given_to_one_head_are_not_read_for_another() -> None:
    multi = {"problem_type": "multi_label_classification"}
    heads = {"a": HeadConfig(["x", "y"], **multi), "b": HeadConfig(["x", "y"], **multi)}
    rows = Dataset.from_dict({"text": ["w1"], "x": [1], "y": [0]})
    (row,) = prepare_dataset(rows, tiny.tokenizer(), heads, label_columns={"b": ["x", "y"]})
    assert row["labels"] == {"a": None, "b": [1, 0]}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sep": {"topic": "|"}}, r"sep: there is no head 'topic'\. Did you mean 'topics'\? Heads: \['topics'\]"),
        ({"empty": {"topic": "none"}}, r"empty: there is no head 'topic'"),
        ({"reading": {"topic": LabelReading()}}, r"reading: there is no head 'topic'"),
        ({"empty": "nothing"}, r"^unknown empty 'nothing'\. Did you mean 'none'"),
        ({"sep": ""}, r"^sep '': give the text between the labels, such as '\|'"),
        ({"multi_hot": "yes"}, r"^multi_hot 'yes': give True or False"),
        ({"label_columns": {"topics": []}}, r"label_columns: column \[\]: give the name of a column"),
        (
            {"reading": {"topics": {"separator": "|"}}},
            r"head 'topics': reading: unknown setting 'separator'\. Known: column, sep",
        ),
        (
            {"label_sep": "|"},
            r"Unexpected keyword argument 'label_sep'\. .* for the labels label_columns, sep, empty, multi",
        ),
        ({"empty_labels": "none"}, r"Unexpected keyword argument 'empty_labels'\. Did you mean .*'empty'\?"),
    ],
)
def test_wrong_options_are_the_same_error_everywhere(options: dict[str, Any], message: str) -> None:
    rows, heads = Dataset.from_dict({"text": ["w1"], "topics": ["date"]}), topics()
    for call in (
        lambda: infer_heads(rows, ["topics"], **options),
        lambda: prepare_dataset(rows, tiny.tokenizer(), heads, **options),
        lambda: stratified_split(rows, heads, [0.5, 0.5], **options),
        lambda: split_report({"": rows}, heads, **options),
        lambda: inspect_dataset(rows, heads, **options),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_misspelt_argument_of_the_function_itself() -> None:
    rows: Any = tiny.table(2)
    options: dict[str, Any] = {"max_lenght": 5}
    with pytest.raises(ValueError, match=r"Unexpected keyword argument 'max_lenght'\. Did you mean 'max_length'\?"):
        prepare_dataset(rows, tiny.tokenizer(), tiny.two_heads(), **options)


# ---- what infer_heads says ----


def test_a_separator_that_the_column_does_not_have(caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"topics": ["a;b", "a", "b", ""], "single": ["a", "b", "c", "a"]})
    for_head = {"topics": "|"}
    heads = infer_heads(rows, ["topics"], sep=for_head, empty="none")
    assert heads["topics"].labels == ["a", "a;b", "b"]  # taken at its word
    assert "1 of its 3 labels holds ';', and their parts also occur in other labels ('a', 'b')" in caplog.text
    assert '--sep "topics=;"' in caplog.text
    caplog.clear()
    infer_heads(rows, ["single"], sep={"single": "|"})
    assert "column 'single': the separator '|' occurs in none of 4 rows, so no row has several labels." in caplog.text
    caplog.clear()
    infer_heads(rows, ["topics"], sep=";", empty="none")
    assert not caplog.records
    most = Dataset.from_dict({"topics": ["a;b", "a;c", "b;c", "a", "a; b;c"]})
    with pytest.raises(ValueError, match=r"the separator '\|' occurs in none of 5 rows; .*4 of its 5 .*topics=;"):
        infer_heads(most, ["topics"], sep=for_head)
    mixed = Dataset.from_dict({"topics": ["a;b", "a|c", "b", "c, d", "d"]})
    infer_heads(mixed, ["topics"], sep={"topics": "|"})
    assert "1 of its 6 labels holds ';'" in caplog.text
    assert "','" not in caplog.text


def test_a_separator_for_lists_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"topics": [["a", "b"], ["a"]], "joined": ["a|b", "a"]})
    infer_heads(rows, ["topics"], sep={"topics": "|"})
    assert "column 'topics': sep='|' changes nothing, as the cells are lists of labels" in caplog.text
    caplog.clear()
    infer_heads(rows, ["topics", "joined"], sep="|")  # (it is for the other head)
    assert not caplog.records


def test_empty_that_changes_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"topics": ["a|b", "a", ""], "mood": ["calm", "angry", None]})
    infer_heads(rows, ["mood"], empty="none")
    assert (
        "empty='none' changes nothing: it is for joined labels and for columns of one label each, and for 'mood' "
        "no separator" in caplog.text
    )
    caplog.clear()
    infer_heads(rows, COLUMNS, sep={"topics": "|"}, empty={"mood": "none", "topics": "none"})
    infer_heads(rows, COLUMNS, sep={"topics": "|"}, empty="none")
    assert "changes nothing" not in caplog.text


def test_one_separator_for_several_columns(caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict(
        {"topics": ["a|b", "a"], "mood": ["calm", "angry"], "lists": [["x|y"], ["y"]], "age": [1, 2]}
    )
    heads = infer_heads(rows, ["topics", "mood", "lists", "age"], sep="|")
    assert [head.multi_label for head in heads.values()] == [True, False, True, False]
    assert heads["mood"].reading is None
    assert "head 'mood', column 'mood': the separator '|' occurs in none of 2 rows, so the head is single-label." in (
        caplog.text
    )
    assert "sep={'mood': '|'} (--sep \"mood=|\")" in caplog.text
    assert "'lists'" not in caplog.text
    own = {"topics": "|", "mood": "|"}
    assert all(head.multi_label for head in infer_heads(rows, COLUMNS, sep=own).values())  # taken at its word
    assert infer_heads(rows, ["mood"], sep="|")["mood"].multi_label


@pytest.mark.parametrize(
    ("labels", "warning"),
    [
        (
            ["roads", "waste", "roads|noise", "roads|waste"],
            "2 of its 4 labels hold '|', and their parts also occur in other labels ('roads', 'waste'). If a row may "
            "have several labels, set sep={'topics': '|'} (--sep \"topics=|\")",
        ),
        (["a;b", "b;c"], "2 of its 2 labels hold ';', and their parts also occur in other labels ('b')"),
        (["a", "b", "a, b"], "1 of its 3 labels holds ',', and their parts also occur in other labels ('a', 'b')"),
        (["Smith, John", "Smith, Jane", "Doe, John"], None),
        (["a|b", "c|d"], None),
        (["calm, kind", "angry"], None),
    ],
)
def test_a_forgotten_separator(labels: list[str], warning: str | None, caplog: pytest.LogCaptureFixture) -> None:
    rows = Dataset.from_dict({"topics": labels})
    assert infer_heads(rows, ["topics"])["topics"].labels == sorted(labels)
    assert ("If a row may have several labels" in caplog.text) == (warning is not None)
    assert warning is None or f"head 'topics': {warning}" in caplog.text


def test_twins_and_a_sole_label_are_said(caplog: pytest.LogCaptureFixture) -> None:
    moods = ["alarm", "Alarm ", "caf\u00e9", "cafe\u0301", "calm", None]
    infer_heads(Dataset.from_dict({"mood": moods}), ["mood"])
    assert "'Alarm ' and 'alarm'; 'cafe\u0301' and 'caf\u00e9'. If they mean the same" in caplog.text
    assert "nothing to learn" not in caplog.text
    infer_heads(Dataset.from_dict({"mood": ["calm", "calm", None]}), ["mood"])
    assert "head 'mood': all 2 labelled rows have the label 'calm', so there is nothing to learn" in caplog.text
    caplog.clear()
    infer_heads(Dataset.from_dict({"spam": [["yes"], []]}), ["spam"])
    assert not caplog.text


# ---- other frames ----


def test_polars_frames() -> None:
    frame = polars.DataFrame(
        {
            "text": ["w1", "w2"],
            "topics": [["date"], []],
            "mood": polars.Series(["calm", None], dtype=polars.Categorical),
            "age": [3, None],
        }
    )
    expected = Dataset.from_dict(
        {"text": ["w1", "w2"], "topics": [["date"], []], "mood": ["calm", None], "age": [3, None]}
    )
    assert read_dataset(frame).to_list() == read_dataset(frame.lazy()).to_list() == expected.to_list()
    columns = ["topics", "mood", "age"]
    assert infer_heads(frame, columns) == infer_heads(expected, columns)
    with pytest.raises(ValueError, match=r"the data frame has no rows; its columns are \['text'\]"):
        read_dataset(polars.DataFrame({"text": []}))
    with pytest.raises(ValueError, match=r"a pandas or polars data frame"):
        read_dataset(7)


# ---- inspect ----


def test_inspect_shows_the_task_of_each_head_and_how_it_is_read(path: Path) -> None:
    parts = DatasetDict(train=read_dataset(path), test=read_dataset(path).select([0, 1]))
    heads = infer_heads(parts, {"topics": "topics", "feeling": "mood"}, sep={"topics": "|"}, empty="none")
    report = inspect_dataset(parts, {**heads, "other": HeadConfig(["a", "b"])})
    assert report.to_dict()["heads"] == {
        "topics": {
            "task": "multi-label",
            "labels": 2,
            "labelled": {"train": 4, "test": 2},
            "no_label": {"train": 2, "test": 1},
            "column": "topics",
            "sep": "|",
            "empty": "none",
        },
        "feeling": {"task": "single-label", "labels": 2, "labelled": {"train": 3, "test": 2}, "column": "mood"},
        "other": {"task": "single-label", "labels": 2, "labelled": {"train": 0, "test": 0}},
    }
    lines = [line.split() for line in str(report).splitlines()]
    assert ["topics", "multi-label", "2", "6", "3", "column", "'topics',", "sep", "'|',", "empty", "'none'"] in lines
    assert ["feeling", "single-label", "2", "5", "column", "'mood'"] in lines
    assert ["other", "single-label", "2", "0", "no", "column"] in lines


def test_streams_without_types_are_read_alike() -> None:
    rows = [{"text": "w1", "topics": None}] * 3 + [{"text": "w1", "topics": "date|time"}]
    stream = IterableDataset.from_generator(lambda: iter(rows))
    heads = infer_heads(stream, ["topics"], sep="|", empty="none")
    assert labels_of(stream, heads) == [[0, 0]] * 3 + [[1, 1]]


LABELS = {"topic": ["roads", "waste"]}


def label_columns(**columns: list) -> Dataset:
    return Dataset.from_dict({"text": [f"text {row}" for row in range(4)], **columns})


def test_columns_of_1_and_empty_cells_are_asked_about() -> None:
    rows = label_columns(roads=[1, None, 1, None], waste=[None, 1, None, None])
    question = r"head 'topic', one column for each label: no cell says that a label does not apply \(0\), and 5 of 8"
    with pytest.raises(ValueError, match=question):
        infer_heads(rows, LABELS)
    head = HeadConfig(labels=["roads", "waste"], problem_type="multi_label_classification")
    with pytest.raises(ValueError, match=question):
        prepare_dataset(rows, tiny.tokenizer(), {"topic": head}, label_columns=LABELS)
    heads = infer_heads(rows, LABELS, empty="none")
    assert heads["topic"].reading == LabelReading(column=["roads", "waste"], empty="none")
    labels = prepare_dataset(rows, tiny.tokenizer(), heads)["labels"]
    assert [row["topic"] for row in labels] == [[1, 0], [0, 1], [1, 0], [0, 0]]
    heads = infer_heads(rows, LABELS, empty="missing")
    labels = prepare_dataset(rows, tiny.tokenizer(), heads)["labels"]
    assert [row["topic"] for row in labels] == [[1, -100], [-100, 1], [1, -100], None]


def test_columns_with_zeros_are_read_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    rows = label_columns(roads=[1, None, 0, 0], waste=[0, 1, None, 0])
    heads = infer_heads(rows, LABELS)
    labels = prepare_dataset(rows.select([0, 1]), tiny.tokenizer(), heads)["labels"]  # (it remembers what is meant)
    assert [row["topic"] for row in labels] == [[1, 0], [-100, 1]]
    assert "no cell" not in caplog.text
    infer_heads(label_columns(roads=[1, None, 1, None], waste=[0, 1, None, 0]), LABELS)
    assert "no cell of the columns 'roads' is 0, and some are empty, which counts as unknown" in caplog.text
    full = infer_heads(label_columns(roads=[1, 1, 1, 0], waste=[1, 1, 1, 1]), LABELS)
    assert full["topic"].reading == LabelReading(column=["roads", "waste"])

"""Files that are uploaded to the demo page, and the files that come back."""

import csv
import json
import re
from pathlib import Path

import pandas as pd
import pytest

from multihead_hf import read_dataset
from multihead_hf.demo.demo_table import MAX_COLUMNS, read_rows, write_rows


def given(tmp_path: Path, content: str | bytes, name: str = "rows.csv") -> str:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(path: str, columns: tuple[str, ...] = ("text",), max_rows: int = 10, max_chars: int = 50) -> list[dict]:
    return read_rows(path, columns, max_rows, max_chars)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", 'id,text\n01,"a, ""b"""\n2,\n'),
        ("rows.CSV", '\ufeffid,text\r\n01,"a, ""b"""\r\n2,\r\n'),
        ("rows.csv", 'id;text\n01;"a, ""b"""\n\n2;\n'),
        ("rows.csv", 'id\ttext\n01\t"a, ""b"""\n2\t\n'),
        ("rows.tsv", 'id\ttext\n01\t"a, ""b"""\n2\t\n'),
        ("rows.jsonl", '{"id": "01", "text": "a, \\"b\\""}\n\n{"id": "2", "text": ""}\n'),
    ],
)
def test_values_are_as_they_were_written(tmp_path: Path, name: str, content: str) -> None:
    assert read(given(tmp_path, content, name)) == [{"id": "01", "text": 'a, "b"'}, {"id": "2", "text": ""}]


def test_pairs(tmp_path: Path) -> None:
    path = given(tmp_path, "answer,question\nyes,why\n")
    assert read(path, ("question", "answer")) == [{"answer": "yes", "question": "why"}]
    with pytest.raises(ValueError, match="row 1 has no column 'reply'; it has 'answer', 'question'"):
        read(path, ("question", "reply"))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.xlsx", "text\na\n", "rows.xlsx: give a file that ends in .csv, .tsv, .jsonl"),
        ("rows.csv", "", "has no rows"),
        ("rows.csv", "text\n", "has no rows"),
        ("rows.csv", "Text,id\na,1\n", "row 1 has no column 'text'; it has 'Text', 'id'. Is it 'Text'"),
        ("rows.csv", "text,id\na,1\nb,2,3\n", "row 2 has 3 cells, but the header has 2 ('text', 'id'): put quotes"),
        ("rows.csv", "id,text\n1\n", "row 1 has no column 'text'; it has 'id'"),
        ("rows.csv", "text," * 2_000 + "\na,b\n", "two columns called 'text'"),
        ("rows.csv", 'text\n"a\n', "cannot be read as CSV: unexpected end of data"),
        ("rows.csv", "text\n" + "a\n" * 11, "more than 10 rows"),
        ("rows.csv", "text\na\n" + "b" * 51 + "\n", "row 2: 'text' has 51 characters, but the maximum is 50"),
        ("rows.csv", b"text\ncaf\xe9\n", "not in UTF-8"),
        (
            "rows.csv",
            ",".join(map(str, range(MAX_COLUMNS))) + ",text\n" + "a," * MAX_COLUMNS + "b\n",
            "more than 1,000 columns",
        ),
        ("rows.jsonl", '{"text": "a"}\n["b"]\n', "row 2 is not a JSON object"),
        ("rows.jsonl", '{"text": "a"}\n{"text": \n', "row 2 is not a JSON object"),
        ("rows.jsonl", "[" * 100_000, "row 1 is not a JSON object"),
        ("rows.jsonl", '{"text": null}\n', "row 1: 'text' is None, not a text"),
        ("rows.jsonl", '{"text": 3}\n', "row 1: 'text' is 3, not a text"),
    ],
)
def test_refused(tmp_path: Path, name: str, content: str | bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as error:
        read(given(tmp_path, content, name))
    assert len(str(error.value)) < 400


def test_no_more_is_read_than_the_page_takes(tmp_path: Path) -> None:
    """Rows behind the limit may be as they like."""
    path = given(tmp_path, "text\n" + "a\n" * 11 + "b,c\n")
    with pytest.raises(ValueError, match="more than 10 rows"):
        read(path)


PREDICTIONS = [
    {
        "topic": [{"label": "roads", "score": 0.91234}, {"label": "waste", "score": 0.5}],
        "mood": [{"label": "calm", "score": 1.0}],
    },
    {"topic": [], "mood": [{"label": "angry", "score": 0.75}]},
]


def test_the_file_of_predictions(tmp_path: Path) -> None:
    rows = [{"text": 'a, "b"\nc', "predicted_topic": "old"}, {"text": "=1+1", "more": ["é"]}]
    path = tmp_path / "out.csv"
    assert write_rows(str(path), rows, PREDICTIONS) == "|"
    with open(path, encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert found == [
        {
            "text": 'a, "b"\nc',
            "more": "",
            "predicted_topic": "roads|waste",
            "predicted_topic_score": "0.912340|0.500000",
            "predicted_mood": "calm",
            "predicted_mood_score": "1.000000",
        },
        {
            "text": "'=1+1",  # no formula for a spreadsheet
            "more": json.dumps(["é"], ensure_ascii=False),
            "predicted_topic": "",
            "predicted_topic_score": "",
            "predicted_mood": "angry",
            "predicted_mood_score": "0.750000",
        },
    ]
    assert list(read_dataset(path)["predicted_mood"]) == ["calm", "angry"]
    assert list(pd.read_csv(path)["predicted_mood_score"]) == [1.0, 0.75]
    write_rows(str(path), [{"text": "w1", "=1+1": "w2"}], PREDICTIONS[:1])
    assert path.read_text().startswith("text,'=1+1,predicted_topic,")


def test_labels_that_hold_the_separator(tmp_path: Path) -> None:
    labels = [[{"label": "a|b", "score": 0.9}, {"label": "c;d", "score": 0.8}]]
    sep = write_rows(str(tmp_path / "out.csv"), [{"text": "x"}], [{"topic": own} for own in labels])
    assert sep == ","
    cell = pd.read_csv(tmp_path / "out.csv")["predicted_topic"][0]
    assert cell.split(sep) == ["a|b", "c;d"]

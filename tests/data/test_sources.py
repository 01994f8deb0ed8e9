"""Rows from files, globs, folders, data frames and the Hub, and files that cannot be read."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from datasets import Dataset, DatasetDict, IterableDataset
from hub_server import HubServer

from multihead_hf import infer_heads, prepare_dataset, read_dataset

ROWS = [
    {"text": "w1 w2", "topics": "roads|waste", "mood": "calm", "age": 10, "urgent": True},
    {"text": "w3, w4", "topics": "", "mood": "NA", "age": 9, "urgent": False},
    {"text": 'say "w5"', "topics": "waste", "mood": "", "age": None, "urgent": True},
]


def write(folder: Path, kind: str, rows: list[dict] = ROWS) -> Path:
    path = folder / f"rows.{kind}"
    frame = pd.DataFrame(rows)
    if kind in ("csv", "tsv"):
        frame.to_csv(path, index=False, sep="," if kind == "csv" else "\t")
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows))
    else:
        path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    rows = read_dataset(path)
    assert rows["text"] == [row["text"] for row in ROWS]
    assert rows["mood"] == ["calm", "NA", ""]
    # and the same heads off each
    heads = infer_heads(str(path), ["topics", "mood", "age", "urgent"], sep={"topics": "|"}, empty="missing")
    assert heads["topics"].labels == ["roads", "waste"]
    assert heads["topics"].multi_label
    assert heads["mood"].labels == ["NA", "calm"]  # the empty string is missing
    assert heads["age"].labels == ["9", "10"]
    assert heads["urgent"].labels == ["False", "True"]
    prepared = prepare_dataset(path, tiny.tokenizer(), heads)
    assert [row["labels"] for row in prepared] == [
        {"topics": [1, 1], "mood": 1, "age": 1, "urgent": 1},
        {"topics": None, "mood": 0, "age": 0, "urgent": 0},
        {"topics": [0, 1], "mood": None, "age": None, "urgent": 1},
    ]
    none = prepare_dataset(path, tiny.tokenizer(), heads, empty="none")
    assert none[1]["labels"]["topics"] == [0, 0]


def test_a_data_frame_and_what_is_a_dataset_already() -> None:
    frame = pd.DataFrame(ROWS).set_index("age")
    rows = read_dataset(frame)
    assert rows.column_names == ["text", "topics", "mood", "urgent"]
    assert read_dataset(rows) is rows
    assert isinstance(read_dataset(rows.to_iterable_dataset()), IterableDataset)


def test_globs_lists_folders_and_parts(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for part in ("test", "train", "validation"):
        pd.DataFrame(ROWS).to_csv(tmp_path / "parts" / f"{part}.csv", index=False)
    assert len(read_dataset(str(tmp_path / "parts" / "*.csv"))) == 9
    assert len(read_dataset([tmp_path / "parts" / "test.csv", tmp_path / "parts" / "train.csv"])) == 6
    folder = read_dataset(tmp_path / "parts")
    assert isinstance(folder, DatasetDict)
    assert list(folder) == ["train", "validation", "test"]
    (tmp_path / "parts" / "validation.csv").rename(tmp_path / "parts" / "dev.csv")
    assert list(read_dataset(tmp_path / "parts")) == ["train", "validation", "test"]
    pd.DataFrame(ROWS).to_csv(tmp_path / "parts" / "validation.csv", index=False)
    with pytest.raises(ValueError, match=r"dev.csv and validation.csv would both be the split 'validation'"):
        read_dataset(tmp_path / "parts")
    files = {"train": tmp_path / "parts" / "train.csv", "dev": Dataset.from_list(ROWS)}
    assert {part: len(rows) for part, rows in read_dataset(files).items()} == {"train": 3, "dev": 3}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            b"text|mood\nw1|calm\n",
            r"a.csv: with the delimiter ',' it has one column, 'text|mood'.*delimiter='|'",
        ),
        ("a.csv", b"", r"a.csv has no rows"),
        ("a.csv", b"text,mood\n", r"a.csv has no rows below its header \['text', 'mood'\]"),
        (
            "a.csv",
            b'text,mood\n"w1,calm\nw2,angry\n',
            r"a.csv cannot be read: line 2: unexpected end of data \(read up to line 3\)",
        ),
        ("a.csv", b"text\n\xff\xfe\xfa\n", r"a.csv is not in UTF-8 \(line 2\)"),
        ("a.json", b'[{"text": "w1"', r"a.json cannot be read: "),
        (
            "a.jsonl",
            b'{"text": "w1"}\n{"text": 2}\n',
            r"a.jsonl.*text.*(mixed types, 'w1' in row 0 is a str and 2|changed from string)",
        ),
        (
            "a.json",
            b'{"text": ["w1"], "mood": ["calm"]}',
            r"a.json holds one JSON object with lists .* orient='records'",
        ),
        ("a.json", b'{"text": {"0": "w1"}}', r"a.json holds one JSON object"),
        ("a.json", b'{"version": "1", "data": [{"text": "w1"}]}', r"a.json holds one JSON object"),
        ("a.parquet", b"no parquet", r"a.parquet cannot be read: .*[Pp]arquet"),
        ("a.txt", b"x", r"a.txt: files of rows end in .csv, .tsv"),
        ("a.csv.gz", b"text\nw1\n", r"a.csv.gz cannot be read: Not a gzipped file"),
        ("a.csv.zst", b"text\nw1\n", r"a.csv.zst cannot be read: .*(ZSTD|zstd)"),
        ("a.parquet.gz", b"x", r"a.parquet.gz: files of rows end in"),
        ("a.arrow", b"no arrow", r"a.arrow cannot be read: "),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_dataset(tmp_path / name)


def test_other_mistakes(tmp_path: Path) -> None:
    path = write(tmp_path, "csv")
    with pytest.raises(ValueError, match=r"rowz.csv: there is no such file.*Did you mean 'rows.csv'"):
        read_dataset(tmp_path / "rowz.csv")
    other = tmp_path / "other.csv"
    other.write_text("text,moods\nw1,calm\n")
    with pytest.raises(
        ValueError, match=r"other.csv has other columns than .*rows.csv: missing \['topics', .*additional \['moods'\]"
    ):
        read_dataset([path, other])
    mixed: Any = pd.DataFrame({"text": ["w1", "w2", "w3"], "mood": ["calm", None, 3]})
    with pytest.raises(
        ValueError, match=r"the data frame, column 'mood': mixed types, 'calm' in row 0 is a str and 3 in row 2"
    ):
        read_dataset(mixed)
    with pytest.raises(ValueError, match=r"the data frame has no rows; its columns are \['text'\]"):
        read_dataset(pd.DataFrame({"text": []}))
    twice = pd.DataFrame([["w1", "w2"]], columns=["text", "text"])
    with pytest.raises(ValueError, match=r"two columns called 'text'"):
        read_dataset(twice)
    with pytest.raises(ValueError, match=r"not a list: Dataset.from_list"):
        read_dataset([{"text": "w1"}])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no file in this folder ends in"):
        read_dataset(tmp_path / "empty")
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"written by save_to_disk: pass datasets.load_from_disk"):
        read_dataset(tmp_path / "saved")


def test_csv_oddities(tmp_path: Path) -> None:
    def read(content: str, name: str = "a.csv") -> Dataset:
        (tmp_path / name).write_text(content)
        return read_dataset(tmp_path / name)

    # a delimiter at the ends of rows does not shift the columns
    assert read("text,mood\nhello,u,\nworld,v,\n")["text"] == ["hello", "world"]
    # booleans with empty cells, and a column without a value
    flags = read("text,spam,mood\na,True,\nb,,\nc,False,\n")
    assert flags["spam"] == [True, None, False]
    assert flags.features["mood"].dtype == "null"
    assert infer_heads(flags, ["spam"])["spam"].labels == ["False", "True"]
    with pytest.raises(ValueError, match=r"a.csv has two columns called 'y'"):
        read("text,y,y\na,1,2\n")
    # one table out of files of which one has empty cells
    (tmp_path / "b.csv").write_text("text,spam,mood\nd,,happy\n")
    both = read_dataset([tmp_path / "a.csv", tmp_path / "b.csv"]) if read("text,spam,mood\na,True,\n") else None
    assert both is not None
    assert both["mood"] == ["", "happy"]
    assert both["spam"] == [True, None]
    (tmp_path / "C.CSV").write_text("text\na\n")
    assert read_dataset(tmp_path / "C.CSV")["text"] == ["a"]
    (tmp_path / "parts").mkdir()
    for name in ("train.csv", "train.tsv"):
        (tmp_path / "parts" / name).write_text("text\na\n")
    with pytest.raises(ValueError, match=r"train.csv and train.tsv would both be the split 'train'"):
        read_dataset(tmp_path / "parts")


@pytest.mark.slow
def test_a_data_set_on_the_hub(tmp_path: Path) -> None:
    script = """
from multihead_hf import infer_heads, read_dataset
parts = read_dataset("org/rows")
print(list(parts), len(parts["train"]), infer_heads("org/rows", ["mood"])["mood"].labels)
print(type(read_dataset("org/rows", split="train", streaming=True)).__name__)
try:
    read_dataset("org/none")
except ValueError as error:
    print(str(error)[:70])
"""
    with HubServer(tmp_path / "hub") as hub:
        hub.add_dataset("org/rows", {"train": Dataset.from_list(ROWS), "test": ROWS[:1]})
        done = subprocess.run(
            [sys.executable, "-c", script], env=hub.env(tmp_path / "home"), capture_output=True, text=True, timeout=200
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [
        "['train', 'test'] 3 ['NA', 'calm']",
        "IterableDataset",
        "'org/none' is neither a local file nor a dataset on the Hub: Dataset '",
    ]


def test_numbers_that_begin_with_0_stay_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,code,year,share\na,007,2020,0.5\nb,,1999,0.25\nc,12,,-0.5\n")
    rows = read_dataset(path)
    assert list(rows["code"]) == ["007", "", "12"] or list(rows["code"]) == ["007", None, "12"]
    assert list(rows["year"]) == [2020, 1999, None]
    assert list(rows["share"]) == [0.5, 0.25, -0.5]


def test_a_file_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("text,mood\nCafé,gut\n".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"rows.csv is not in UTF-8 \(line 2\): save it as UTF-8, or name its encoding.*cp1252"
    ):
        read_dataset(path)
    assert read_dataset(path, encoding="cp1252")["text"] == ["Café"]


def test_a_row_with_too_many_fields_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,labels\nhello, world,angry\nbye,happy\n")
    with pytest.raises(ValueError, match=r"rows.csv, line 2: 3 fields, but the header has 2.*quotes around texts"):
        read_dataset(path)
    path.write_text("text,labels\nhello,angry,\nbye,happy,\n")  # a delimiter at the end of each line
    assert list(read_dataset(path)["labels"]) == ["angry", "happy"]


@pytest.mark.parametrize("content", ["", "[]", "[\n]", "null", "[{}]"])
def test_json_without_rows(tmp_path: Path, content: str) -> None:
    path = tmp_path / ("rows.jsonl" if not content else "rows.json")
    path.write_text(content)
    with pytest.raises(ValueError, match=r"rows\.jsonl? has no rows"):
        read_dataset(path)


def json_lines(path: Path, *parts: tuple[int, dict[str, Any]]) -> Path:
    with path.open("w") as file:
        for rows, row in parts:
            file.writelines([f"{json.dumps(row)}\n"] * rows)
    return path


LONG = "a" * 2000  # 6,000 of them are more than datasets reads at a time


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ({"mood": None}, {"mood": "calm"}, "calm"),
        ({}, {"mood": "calm"}, "calm"),
        ({"mood": []}, {"mood": ["calm"]}, ["calm"]),
        ({"mood": 1}, {"mood": 0.5}, 0.5),
    ],
)
def test_a_large_file_whose_first_rows_lack_a_value(tmp_path: Path, first: dict, second: dict, value: Any) -> None:
    path = json_lines(tmp_path / "rows.jsonl", (6000, {"text": LONG, **first}), (10, {"text": "b", **second}))
    rows = read_dataset(path)
    assert len(rows) == 6010
    assert rows[6009] == {"text": "b", "mood": value}


def test_a_large_file_of_mixed_types_names_the_row(tmp_path: Path) -> None:
    path = json_lines(tmp_path / "rows.jsonl", (6000, {"text": LONG, "mood": "x"}), (10, {"text": "b", "mood": 7}))
    with pytest.raises(
        ValueError, match=r"column 'mood': mixed types, 'x' in row 0 is a str and 7 in row 6000 is a numb"
    ):
        read_dataset(path)


def test_json_lines_in_another_encoding_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a"}\n' * 1000 + '{"text": "café"}\n'.encode("latin-1"))
    with pytest.raises(ValueError, match=r"rows.jsonl is not in UTF-8 \(line 1001\): save it as UTF-8"):
        read_dataset(path)
    assert read_dataset(path, encoding="cp1252")["text"][1000] == "café"


def test_parquet_files_with_numbers_of_other_widths(tmp_path: Path) -> None:
    frames = [{"y": [1, 2], "z": ["a", "b"]}, {"y": [2, None], "z": [None, None]}, {"y": [0.5, 1.0], "z": ["c", None]}]
    paths = []
    for number, columns in enumerate(frames):
        paths.append(tmp_path / f"{number}.parquet")
        pd.DataFrame({"text": ["a", "b"], **columns}).to_parquet(paths[-1])
    rows = read_dataset(paths)
    assert list(rows["y"]) == [1, 2, 2, None, 0.5, 1]
    assert list(rows["z"]) == ["a", "b", None, None, "c", None]
    pd.DataFrame({"text": ["a"], "y": ["one"], "z": ["c"]}).to_parquet(paths[1])
    with pytest.raises(
        ValueError,
        match=r"1.parquet, column 'y': the type is Value\('(large_)?string'\), but Value\('int64'\) in .*0.parq",
    ):
        read_dataset(paths)


def test_digits_that_a_number_would_not_keep_are_strings(tmp_path: Path) -> None:
    for name, cells in (("plus", ["+1", "1"]), ("long", ["9007199254740993", ""]), ("huge", ["1" * 23, "1"])):
        path = tmp_path / f"{name}.csv"
        path.write_text("text,y\n" + "".join(f"a,{cell}\n" for cell in cells))
        kept = [str(value) if value is not None else "" for value in read_dataset(path)["y"]]
        assert kept == cells
    (tmp_path / "1.csv").write_text("text,y\na,01\n")
    (tmp_path / "2.csv").write_text("text,y\nb,11\n")
    assert list(read_dataset([tmp_path / "1.csv", tmp_path / "2.csv"])["y"]) == ["01", "11"]


def test_rows_with_too_few_fields_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label,mood\na,x,m\nb\nc,y\n")
    assert list(read_dataset(path)["label"]) == ["x", "", "y"]
    assert "2 rows have fewer fields than the header" in caplog.text
    assert "the first is line 3" in caplog.text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([["a"], [1]], r"column 'y': mixed types in its lists, 'a' in row 0 is a str and 1 in row 1 is a number"),
        ([[True], [1]], r"mixed types in its lists, True in row 0 is a bool and 1 in row 1 is a number"),
        ([1 + 2j, 2j], r"the data frame, column 'y' cannot be read: .* or leave the column out"),
        ([2**70, 1], r"the data frame, column 'y' cannot be read: "),
        (pd.cut([1, 5], [0, 3, 6]), r"the data frame, column 'y' cannot be read: "),
    ],
)
def test_values_that_are_no_column(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_dataset(pd.DataFrame({"text": ["a", "b"], "y": values}))


@pytest.mark.parametrize(
    "cells",
    [
        ("1", "1.0"),
        ("1", "1.00"),
        ("0", "-0"),
        ("0.5", "0.50"),
        ("0", "0.0"),
        ("1", "10.0"),
        ("0.9", "0.10"),
        ("12", "1\u0662"),
    ],
)
def test_what_is_written_in_two_ways_stays_apart(tmp_path: Path, cells: tuple[str, str]) -> None:
    """As numbers they would be one label, or another than what is written."""
    (tmp_path / "rows.csv").write_text(f"text,edition\na,{cells[0]}\nb,{cells[1]}\n")
    assert read_dataset(tmp_path / "rows.csv")["edition"][:] == list(cells)

"""The one reader of files: the same rows for training, prediction and the demo page, however a file is written."""

import csv
import gzip
import json
import subprocess
import sys
import zipfile
from datetime import date, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import openpyxl
import pandas as pd
import pyarrow as pa
import pytest
import tiny

from multihead_hf import HeadConfig, infer_heads, prepare_dataset, read_dataset
from multihead_hf.data.readers import TextFile
from multihead_hf.demo.demo_table import read_rows
from multihead_hf.prediction.rows import open_rows

ROWS = [{"text": "café, 1", "code": "007"}, {"text": 'a "b"\nc', "code": "1-2"}]
COMMA = 'text,code\n"café, 1",007\n"a ""b""\nc",1-2\n'
SEMICOLON = 'text;code\ncafé, 1;007\n"a ""b""\nc";1-2\n'
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def zst(content: bytes) -> bytes:
    packed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(packed, "zstd") as file:
        file.write(content)
    return packed.getvalue().to_pybytes()


def everywhere(path: Path, **options: Any) -> None:
    """The rows as training and prediction read them."""
    assert read_dataset(path, **options).to_list() == ROWS
    if path.name.split(".")[1] != "json":
        assert [row.values for row in open_rows(str(path), **options)] == ROWS


@pytest.mark.parametrize(
    ("name", "content", "options"),
    [
        ("rows.csv", COMMA.encode(), {}),
        ("rows.csv", COMMA.encode("utf-8-sig"), {}),
        ("rows.csv", COMMA.encode("utf-16"), {}),
        ("rows.csv", b"\xfe\xff" + COMMA.encode("utf-16-be"), {}),
        ("rows.csv", COMMA.encode("utf-16-le"), {"encoding": "utf-16-le"}),
        ("rows.csv", COMMA.encode("cp1252"), {"encoding": "cp1252"}),
        ("rows.csv", SEMICOLON.encode(), {}),
        ("rows.csv", ("sep=;\n" + SEMICOLON).encode("utf-8-sig"), {}),
        ("rows.csv", SEMICOLON.encode("cp1252"), {"encoding": "cp1252", "delimiter": ";"}),
        ("rows.tsv", SEMICOLON.replace(";", "\t").encode(), {}),
        ("rows.csv.gz", gzip.compress(COMMA.encode(), mtime=0), {}),
        ("rows.CSV.GZ", gzip.compress(SEMICOLON.encode("utf-16"), mtime=0), {}),
        ("rows.csv.zst", zst(COMMA.encode()), {}),
        ("rows.jsonl", LINES.encode(), {}),
        ("rows.ndjson", LINES.encode("utf-8-sig"), {}),
        ("rows.jsonl", LINES.encode("utf-16"), {}),
        ("rows.jsonl", LINES.encode("cp1252"), {"encoding": "cp1252"}),
        ("rows.jsonl.gz", gzip.compress(LINES.encode(), mtime=0), {}),
        ("rows.jsonl.zst", zst(LINES.encode()), {}),
        ("rows.json", json.dumps(ROWS, indent=1).encode(), {}),
        ("rows.json", LINES.encode("utf-16"), {}),
        ("rows.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0), {}),
    ],
    ids=lambda own: own if isinstance(own, str) else "",
)
def test_however_a_file_is_written(tmp_path: Path, name: str, content: bytes, options: dict[str, str]) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    everywhere(path, **options)


@pytest.mark.parametrize("form", ["file", "stream"])
def test_arrow_files(tmp_path: Path, form: str) -> None:
    table = pa.Table.from_pylist(ROWS)
    writer = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as file, writer(file, table.schema) as out:
        out.write(table)
    everywhere(tmp_path / "rows.arrow")


def test_a_recognised_delimiter_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(SEMICOLON)
    read_dataset(path)
    list(open_rows(str(path)))
    assert [each.getMessage() for each in caplog.records] == [f"{path}: its columns are separated by ';'"] * 2
    caplog.clear()
    read_dataset(path, delimiter=";")
    assert not caplog.records
    with pytest.raises(ValueError, match=r"with the delimiter ',' it has one column, 'text;code'; .*--delimiter ';'"):
        read_dataset(path, delimiter=",")
    for delimiter in (";", "\t"):
        caplog.clear()
        path.write_text(f'text{delimiter}"mood, overall"\nGood{delimiter}happy, very\nBad{delimiter}angry\n')
        assert read_dataset(path)[1] == {"text": "Bad", "mood, overall": "angry"}
        assert [each.getMessage() for each in caplog.records] == [f"{path}: its columns are separated by {delimiter!r}"]
    for content in (
        'text,"a; b"\n"one; two",x\n',
        'text,"a; b"\n"a text; of\ntwo lines",x\n',
        "text,label\na; b,c; d\n",
    ):
        path.write_text(content)
        assert len(read_dataset(path).column_names) == 2
        assert ";" in str(read_dataset(path)[0])
    # a header of one column that only looks like two
    path.write_text("text; or what was said\nhello\nworld\n")
    with pytest.raises(ValueError, match="it has one column"):
        read_dataset(path)


def test_the_demo_page_reads_the_same(tmp_path: Path) -> None:
    for name, content in (
        ("rows.csv", COMMA.encode("utf-16")),
        ("rows.csv", SEMICOLON.encode("utf-8-sig")),
        ("rows.csv", SEMICOLON.replace(";", "\t").encode()),
        ("rows.jsonl", LINES.encode("utf-16")),
    ):
        (tmp_path / name).write_bytes(content)
        assert read_rows(str(tmp_path / name), ["text"], 10, 100) == ROWS


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json"])
def test_another_encoding_is_refused_with_the_option_to_type(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes((COMMA if name.endswith("csv") else LINES).encode("cp1252"))
    with pytest.raises(ValueError, match=r"is not in UTF-8 \(line \d\): .*encoding='cp1252' \(--encoding cp1252\)"):
        read_dataset(path)
    with pytest.raises(ValueError, match=r"Unknown encoding 'cp125x'. Did you mean 'cp125"):
        read_dataset(path, encoding="cp125x")


def test_blank_lines_before_the_header(tmp_path: Path) -> None:
    for number, lines in enumerate(
        (
            "\ntext,mood\nw1,calm\nw2,angry\n",
            "\r\n  \r\nsep=;\r\n\r\ntext;mood\r\nw1;calm\r\n\r\nw2;angry\r\n",
            "text;mood\n\nw1;calm\nw2;angry\n",
        )
    ):
        path = tmp_path / f"{number}.csv"
        path.write_text(lines, newline="")
        rows = read_dataset(path)
        assert (rows.column_names, rows[:]["mood"]) == (["text", "mood"], ["calm", "angry"])
    path.write_text("\n\ntext,mood\nw1,calm,no\n")
    with pytest.raises(ValueError, match="line 4: 3 fields, but the header has 2"):
        read_dataset(path)


def test_utf_16_without_a_mark_is_named(tmp_path: Path) -> None:
    for order in ("le", "be"):
        (tmp_path / "rows.csv").write_bytes(COMMA.encode(f"utf-16-{order}"))
        with pytest.raises(ValueError, match=rf"zero bytes, as UTF-16 does: .*--encoding utf-16-{order}"):
            read_dataset(tmp_path / "rows.csv")


def test_texts_stay_texts_in_every_source(tmp_path: Path) -> None:
    rows = [
        {
            "text": "a",
            "code": "007",
            "version": "1.10",
            "day": "2024-01-02",
            "moment": "2024-01-02T03:04:05",
            "id": "9" * 20,
        },
        {"text": "b", "code": "12", "version": "1.9", "day": "2024-01-03", "moment": "2024-01-02T03:04:06", "id": "1"},
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    for name in ("rows.csv", "rows.jsonl", "rows.json", "rows.parquet"):
        assert read_dataset(tmp_path / name).to_list() == rows, name
    assert read_dataset(pd.DataFrame(rows)).to_list() == rows


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,whole,share,weight\na,1,0.5,1\nb,,1e-05,0.25\n")
    assert read_dataset(path).to_list() == [
        {"text": "a", "whole": 1, "share": 0.5, "weight": 1.0},
        {"text": "b", "whole": None, "share": 1e-05, "weight": 0.25},
    ]


def test_shares_and_weights_may_end_in_zeros(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,roads,waste,sample_weight\na,0.50,1.00,1.50\nb,,0.25,0.50\n")
    head = HeadConfig(labels=["roads", "waste"], problem_type="multi_label_classification")
    prepared = prepare_dataset(path, tiny.tokenizer(), {"topic": head}, label_columns={"topic": ["roads", "waste"]})
    assert prepared["sample_weight"] == [1.5, 0.5]
    assert [row["topic"] for row in prepared["labels"]] == [[0.5, 1.0], [-100.0, 0.25]]


@pytest.mark.slow
def test_long_cells_are_read_and_the_limit_of_csv_is_left_alone(tmp_path: Path) -> None:
    script = "import csv; before = csv.field_size_limit(); import multihead_hf.prediction.rows; assert csv.field_size_limit() == before"
    subprocess.run([sys.executable, "-c", script], check=True)
    before = csv.field_size_limit()
    (tmp_path / "rows.csv").write_text("text\n" + "a" * 300_000 + "\n")
    rows = TextFile(str(tmp_path / "rows.csv")).rows()
    assert len(next(rows)[0].values["text"]) == 300_000
    assert csv.field_size_limit() == before
    assert len(read_dataset(tmp_path / "rows.csv")["text"][0]) == 300_000


def test_excel_needs_its_extra(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").write_bytes(b"x")
    with mock.patch.dict(sys.modules, {"openpyxl": None}):
        for read in (read_dataset, lambda path: open_rows(str(path))):
            with pytest.raises(ImportError, match=r'rows.xlsx: .* pip install "multihead-hf\[excel\]"'):
                read(tmp_path / "rows.xlsx")


def excel(path: Path, *rows: tuple[Any, ...]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_excel_rows(tmp_path: Path) -> None:
    rows = excel(
        tmp_path / "rows.xlsx",
        ("text", "code", "day", "at"),
        ("a", "007", datetime(2024, 1, 2), datetime(2024, 1, 2, 3, 4, 5)),
        (None, None, None, None),
        ("b", "12", date(2024, 1, 3), datetime(2024, 1, 2, 3, 4, 6)),
    )
    expected = [
        {"text": "a", "code": "007", "day": "2024-01-02", "at": "2024-01-02T03:04:05"},
        {"text": "b", "code": "12", "day": "2024-01-03", "at": "2024-01-02T03:04:06"},
    ]
    assert read_dataset(rows).to_list() == expected
    assert [row.values for row in open_rows(str(rows))] == expected
    for column in ("code", "day", "at"):  # by path and as a data frame
        one, other = (infer_heads(source, [column]) for source in (rows, pd.read_excel(rows, dtype={"code": str})))
        assert one[column].labels == other[column].labels


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (("a", "#N/A"), "cell B3 holds the error #N/A"),
        (("a", "=1+1"), "cell B3 holds a formula without a stored result"),
        ((None, "=1+1"), "cell B3 holds a formula without a stored result"),
        (("a", "x", "lost"), "cell C3 holds 'lost', but its column has no name"),
    ],
)
def test_excel_cells_that_would_be_lost(tmp_path: Path, cells: tuple[Any, ...], reason: str) -> None:
    rows = excel(tmp_path / "rows.xlsx", ("text", "mood"), ("good", "x"), cells)
    with pytest.raises(ValueError, match=f"rows.xlsx cannot be read: {reason}"):
        read_dataset(rows)
    good, bad = open_rows(str(rows))
    assert (good.error, good.values) == (None, {"text": "good", "mood": "x"})
    assert reason in (bad.error or "")


def test_an_excel_file_that_is_broken(tmp_path: Path) -> None:
    whole = excel(tmp_path / "whole.xlsx", ("text", "mood"), ("good", "x"))
    with zipfile.ZipFile(whole) as given, zipfile.ZipFile(tmp_path / "rows.xlsx", "w") as made:
        for name in given.namelist():
            made.writestr(name, given.read(name)[: -20 if "sheet1" in name else None])
    with pytest.raises(ValueError, match=r"rows\.xlsx cannot be read: "):
        read_dataset(tmp_path / "rows.xlsx")
    excel(whole, ("text", "text"), ("a", "b"))
    with pytest.raises(ValueError, match=r"whole\.xlsx has two columns called 'text'"):
        read_dataset(whole)


def test_parts_of_a_folder_may_be_packed(tmp_path: Path) -> None:
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(COMMA.encode(), mtime=0))
    (tmp_path / "dev.jsonl").write_text(LINES)
    assert {part: rows.to_list() for part, rows in read_dataset(tmp_path).items()} == {
        "train": ROWS,
        "validation": ROWS,
    }


def test_a_formula_whose_result_is_an_empty_text(tmp_path: Path) -> None:
    made = excel(tmp_path / "made.xlsx", ("text", "mood"), ("good", "x"), ("a", "=1+1"))
    with zipfile.ZipFile(made) as given, zipfile.ZipFile(tmp_path / "rows.xlsx", "w") as patched:
        for name in given.namelist():
            content = given.read(name)
            if "sheet1" in name:
                content = content.replace(b'<c r="B3">', b'<c r="B3" t="str">')
                assert b't="str"' in content
            patched.writestr(name, content)
    assert [row["mood"] for row in read_dataset(tmp_path / "rows.xlsx")] == ["x", None]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl", '{"text": "w1", "topic": "a"}\n{"text": "w2", "topic": "a", "topic": "b"}\n'),
        ("rows.json", '[{"text": "w1", "topic": "a"}, {"text": "w2", "topic": "a", "topic": "b"}]'),
        ("rows.json", '{"text": "w1", "topic": "a"}\n{"text": "w2", "topic": "a", "topic": "b"}\n'),
    ],
)
def test_a_key_that_occurs_twice_in_an_object(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="the key 'topic' occurs twice"):
        read_dataset(tmp_path / name)


def test_the_delimiter_is_named_where_it_would_give_the_column_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text|mood, overall\na|b, c\n")
    with pytest.raises(
        ValueError, match=r"no text column 'text'\. The columns seem to be separated by '\|'.*--delimiter"
    ):
        prepare_dataset(read_dataset(path), tiny.tokenizer(), tiny.two_heads())

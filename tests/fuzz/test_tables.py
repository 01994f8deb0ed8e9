"""Random tables through every source: the same texts, the same labels, whatever they look like."""

import csv
import io
import json
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from datasets import Dataset
from fuzzing import fuzz
from hypothesis import assume, given
from hypothesis import strategies as st

from multihead_hf import HeadConfig, MultiHeadPredictor, infer_heads, predict_files, prepare_dataset, read_dataset

Rows = list[dict[str, Any]]

# what looks like a number, a date, a boolean or nothing
CODES = [
    *(
        "007",
        "1.10",
        "1.1",
        "1.0",
        "1",
        "0",
        "-0",
        "-1",
        "1E5",
        "1e5",
        "0.50",
        "+31",
        "1.",
        ".5",
        "1_000",
        "1,5",
        "0x1F",
    ),
    *(
        "12345678901234567890",
        "123456789012345678",
        "0.1234567890123456789",
        "1e400",
        "inf",
        "NaN",
        "NA",
        "None",
        "null",
    ),
    *(
        "2021-01-01",
        "12:30",
        "2021-01-01T00:00:00Z",
        "yes",
        "=1+1",
        "@x",
        "'",
        '"',
        '""',
        "a;b",
        "a,b",
        "a\tb",
        "É",
        "É",
    ),
]
NUMBERS = [
    *(
        "1",
        "1.0",
        "1.00",
        "10.0",
        "10",
        "0",
        "-0",
        "0.0",
        "-1",
        "-1.0",
        "0.5",
        "0.50",
        "1.5",
        "1.10",
        "0.1",
        "1e5",
        "100000",
    ),
    *("1E5", "1e16", "1e-7", "10000000000000000", "100000000000000000", "1e+5", "2.50", "12345678901234567890"),
]
LETTERS = st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=("Cs",))
TEXTS = st.one_of(st.sampled_from(CODES), st.text(LETTERS, max_size=12))
NAMES = st.one_of(st.sampled_from(CODES), st.text(LETTERS, min_size=1, max_size=6)).filter(
    lambda name: name == name.strip() and name and "|" not in name and not name.isspace()
)


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Rows with a text, one label or none, and labels joined with a bar."""
    names = draw(st.sampled_from([NAMES, st.sampled_from(NUMBERS)]))  # (a column of nothing but numbers is one)
    kinds = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    tags = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {
                    "text": TEXTS,
                    "kind": st.one_of(st.none(), st.sampled_from(kinds)),
                    "tags": st.lists(st.sampled_from(tags), unique=True).map("|".join),
                }
            ),
            max_size=6,
        )
    )
    # (a column of texts is one of words somewhere, and a head has a label)
    return [{"text": "w1 w2", "kind": kinds[0], "tags": tags[0]}, *rows]


def written_csv(rows: Rows, path: Path, delimiter: str) -> str:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)  # (None becomes an empty cell)
    path.write_bytes(out.getvalue().encode())
    return str(path)


def written(path: Path, content: str) -> str:
    path.write_bytes(content.encode())
    return str(path)


def arrow_file(rows: Rows, path: Path) -> str:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write(table)
    return str(path)


def parquet_file(rows: Rows, path: Path) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


SOURCES: dict[str, Callable[[Rows, Path], Any]] = {
    "Dataset": lambda rows, folder: Dataset.from_list(rows),
    "csv": lambda rows, folder: written_csv(rows, folder / "rows.csv", ","),
    "tsv": lambda rows, folder: written_csv(rows, folder / "rows.tsv", "\t"),
    "json": lambda rows, folder: written(folder / "rows.json", json.dumps(rows, ensure_ascii=False)),
    "jsonl": lambda rows, folder: written(folder / "rows.jsonl", "\n".join(map(json.dumps, rows))),
    "parquet": lambda rows, folder: parquet_file(rows, folder / "rows.parquet"),
    "arrow": lambda rows, folder: arrow_file(rows, folder / "rows.arrow"),
    "pandas": lambda rows, folder: pd.DataFrame(rows),
    "polars": lambda rows, folder: pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String)),
}
FILES = ("csv", "tsv", "json", "jsonl", "parquet", "arrow")
TOKENIZER = tiny.tokenizer()


@pytest.mark.slow
@fuzz(12)
@given(tables())
def test_labels_and_texts_are_those_of_the_table_whatever_holds_it(rows: Rows) -> None:
    kinds = sorted({row["kind"] for row in rows} - {None})
    # (integers beside missing values, as data frames write them, and shares are numbers in CSV files, by convention)
    assume(not any(all(re.fullmatch(form, kind) for kind in kinds) for form in (r"-?\d+\.0", r"0(\.\d+)?|1(\.0+)?")))
    tags = sorted({tag for row in rows for tag in row["tags"].split("|")} - {""})
    heads = {
        "kind": HeadConfig(labels=kinds),
        "tags": HeadConfig(labels=tags, problem_type="multi_label_classification"),
    }
    expected = [
        {
            "kind": None if row["kind"] is None else kinds.index(row["kind"]),
            "tags": [float(tag in row["tags"].split("|")) for tag in tags],
        }
        for row in rows
    ]
    tokens = [TOKENIZER(row["text"])["input_ids"] for row in rows]
    options = {"sep": {"tags": "|"}, "empty": {"tags": "none"}}
    for name, source in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            data = source(rows, Path(folder))
            assert read_dataset(data)["text"][:] == [row["text"] for row in rows], name
            prepared = prepare_dataset(data, TOKENIZER, heads, **options)
            assert prepared["labels"][:] == expected, name
            assert prepared["input_ids"][:] == tokens, name
            found = infer_heads(data, columns=["kind", "tags"], **options)
            assert set(found["kind"].labels) == set(kinds), name
            assert found["tags"].labels == tags, name


@fuzz(4)
@given(tables())
def test_predictions_of_files_carry_the_texts_as_they_are(rows: Rows) -> None:
    predictor = MultiHeadPredictor(tiny.model(), TOKENIZER, precision="fp32")
    expected = predictor.predict([row["text"] for row in rows])["mood"].labels
    for name in FILES:
        with tempfile.TemporaryDirectory() as folder:
            source = SOURCES[name](rows, Path(folder))
            report = predict_files(predictor, source, Path(folder) / "out.jsonl")
            assert (report.rows, report.bad_rows) == (len(rows), 0), name
            content = (Path(folder) / "out.jsonl").read_text(encoding="utf-8")
            found = [json.loads(line) for line in content.split("\n") if line]
            assert [row["text"] for row in found] == [row["text"] for row in rows], name
            assert [[row["predicted_mood"]] for row in found] == expected, name

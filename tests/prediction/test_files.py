"""`predict_files`: every row once, in its order, whatever happens in between."""

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tiny
from command_line import cli
from hub_server import HubServer
from transformers import pipeline

from multihead_hf import MultiHeadPredictor, predict_files
from multihead_hf.prediction.parts import Parts

ROWS = [{"id": f"{i:03}", "text": f"w{i % 60} w{i * 7 % 60} w{i % 11}", "topic": "x"} for i in range(50)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny.model(heads=tiny.two_heads(thresholds=0.47)).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def predictor(saved: Path, **settings: Any) -> MultiHeadPredictor:
    return MultiHeadPredictor.from_pretrained(
        str(saved), **{"precision": "fp32", "device": "cpu", "window_rows": 8, **settings}
    )


def expected(saved: Path, rows: list[dict[str, Any]] = ROWS, **arguments: Any) -> list[Any]:
    pipe = pipeline("multi-head-text-classification", str(saved), trust_remote_code=True, device="cpu")
    return pipe([row["text"] for row in rows], **arguments)


def written(rows: list[dict[str, Any]], path: Path) -> Path:
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif ".json" in path.suffixes:
        frame.to_json(path, orient="records")
    elif path.suffix == ".arrow":
        table = pa.Table.from_pandas(frame)
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write(table)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def assert_predictions(found: list[dict[str, Any]], saved: Path, numbers: list[int] | None = None) -> None:
    numbers = list(range(len(ROWS))) if numbers is None else numbers
    assert [row["row"] for row in found] == numbers
    for row, own in zip(found, expected(saved, [ROWS[number] for number in numbers]), strict=True):
        assert list(row["predicted_topic"]) == [entry["label"] for entry in own["topic"]]
        assert list(row["predicted_topic_score"]) == pytest.approx([e["score"] for e in own["topic"]], abs=1e-5)
        assert row["predicted_mood"] == own["mood"][0]["label"]
        assert row["predicted_mood_score"] == pytest.approx(own["mood"][0]["score"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".json", ".json.gz", ".jsonl", ".parquet", ".arrow"])
def test_every_kind_of_input(saved: Path, tmp_path: Path, suffix: str) -> None:
    source = written(ROWS, tmp_path / f"rows{suffix}")
    report = predict_files(predictor(saved), str(source), tmp_path / "out.parquet")
    assert (report.rows, report.bad_rows, report.errors, report.resumed) == (50, 0, None, 0)
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert_predictions(found, saved)
    assert [row["id"] for row in found] == [row["id"] for row in ROWS]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", source.name]


def test_a_column_without_texts_is_an_error(saved: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2], "other": ["w1", "w2"]}), tmp_path / "rows.parquet")
    done = cli("predict", saved, tmp_path / "rows.parquet", "-o", tmp_path / "out.csv")
    assert done.returncode == 1
    assert "2 rows could not be predicted" in done.stdout
    assert "(the first: " in done.stdout
    assert "row 0: column 'text' is 1, but a text is expected)" in " ".join(done.stdout.split())
    done = cli(
        "predict", saved, tmp_path / "rows.parquet", "-o", tmp_path / "out.csv", "--text-column", "other", "--overwrite"
    )
    assert done.returncode == 0


def test_bad_rows_of_a_json_document(saved: Path, tmp_path: Path) -> None:
    rows: list[Any] = [{"text": "w1 \U0001f600"}, 5, {"text": None}, {"text": "\ud800"}, {"text": "w2", "more": 1}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    report = predict_files(predictor(saved), str(tmp_path / "rows.json"), tmp_path / "out.jsonl")
    assert (report.rows, report.bad_rows) == (2, 3)
    errors = [json.loads(line) for line in Path(report.errors).read_text().splitlines()]
    assert [error["place"] for error in errors] == [f"{tmp_path / 'rows.json'}, row {row}" for row in (1, 2, 3)]
    found = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert found == ["w1 \U0001f600", "w2"]
    assert ["object is expected" in errors[0]["error"], "lone surrogate" in errors[2]["error"]] == [True, True]
    (tmp_path / "cut.json").write_text(json.dumps(rows)[:-9])
    with pytest.raises(ValueError, match=r"cut.json cannot be read"):
        predict_files(predictor(saved), str(tmp_path / "cut.json"), tmp_path / "other.jsonl")
    assert not (tmp_path / "other.jsonl").exists()


def test_every_kind_of_output(saved: Path, tmp_path: Path) -> None:
    source = str(written(ROWS, tmp_path / "rows.parquet"))
    own = predictor(saved)
    predict_files(own, source, tmp_path / "out.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert_predictions(lines, saved)
    predict_files(own, source, tmp_path / "out.csv", sep=" / ")
    frame = pd.read_csv(tmp_path / "out.csv", dtype={"id": str}, keep_default_na=False)
    assert list(frame.columns)[:4] == ["row", "id", "text", "topic"]
    assert list(frame["id"]) == [row["id"] for row in ROWS]
    assert list(frame["predicted_topic"]) == [" / ".join(line["predicted_topic"]) for line in lines]
    schema = pq.read_schema(_parquet(own, source, tmp_path))
    assert json.loads(schema.metadata[b"multihead_hf.labels"]) == {"topic": tiny.TOPICS, "mood": tiny.MOODS}
    facts = {
        name: schema.metadata[f"multihead_hf.{name}".encode()].decode() for name in ("model", "precision", "backend")
    }
    assert facts == {"model": own.digest(), "precision": "fp32", "backend": "torch"}
    assert schema.field("predicted_topic").type == pa.list_(pa.string())


def _parquet(own: MultiHeadPredictor, source: str, folder: Path) -> Path:
    predict_files(own, source, folder / "out.parquet")
    return folder / "out.parquet"


def test_types_of_kept_columns_are_those_of_the_input(saved: Path, tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["w1", "w2"],
            "when": pa.array([1, None], pa.timestamp("ms")),
            "tags": [["a"], []],
            "number": pa.array([1, 2], pa.int8()),
        }
    )
    pq.write_table(table, tmp_path / "rows.parquet")
    predict_files(
        predictor(saved), str(tmp_path / "rows.parquet"), tmp_path / "out.parquet", keep=["number", "when", "tags"]
    )
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names[:4] == ["row", "number", "when", "tags"]
    for name in ("number", "when", "tags"):
        assert found.column(name).to_pylist() == table.column(name).to_pylist()
        assert found.schema.field(name).type == table.schema.field(name).type
    predict_files(predictor(saved), str(tmp_path / "rows.parquet"), tmp_path / "out.jsonl", keep=[])
    assert list(json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0]))[:2] == ["row", "predicted_topic"]


def test_several_files_globs_and_arguments(saved: Path, tmp_path: Path) -> None:
    written(ROWS[:20], tmp_path / "a.csv")
    written(ROWS[20:], tmp_path / "b.csv")
    predict_files(predictor(saved), str(tmp_path / "*.csv"), tmp_path / "out.jsonl", top_k=2, all_scores=True)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [row["id"] for row in ROWS]
    for line, own in zip(lines, expected(saved, return_all_scores=True), strict=True):
        assert line["predicted_mood"] == [entry["label"] for entry in own["mood"]]
        assert line["predicted_topic"] == [entry["label"] for entry in own["topic"][:2]]
        scores = {entry["label"]: entry["score"] for entry in own["topic"]}
        assert line["predicted_topic_scores"] == pytest.approx([scores[label] for label in tiny.TOPICS], abs=2e-6)
    report = predict_files(
        predictor(saved, heads=["topic"]),
        [str(tmp_path / "b.csv"), str(tmp_path / "a.csv")],
        tmp_path / "none.jsonl",
        threshold=0.99,
    )
    lines = [json.loads(line) for line in (tmp_path / "none.jsonl").read_text().splitlines()]
    assert report.rows == 50
    assert lines[0]["id"] == "020"
    assert all(line["predicted_topic"] == [] and "predicted_mood" not in line for line in lines)


def test_bad_rows_go_to_a_side_file_and_the_rest_goes_on(saved: Path, tmp_path: Path) -> None:
    lines = [json.dumps(row).encode() for row in ROWS]
    lines[3] = b'{"id": "3", "text": null}'
    lines[10] = b"not json"
    lines[11] = b'{"id": "11", "text": 5, "topic": "x"}'
    lines[12] = b'{"id": "12"}'
    lines[20] = b'{"id": "20", "text": "\xff"}'
    lines[30] = b"[1, 2]"
    lines[31] = b'{"id": "31", "text": "w1", "other": 1}'
    lines[40] = b'{"id": 40, "text": "w1", "topic": "x"}'
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(lines) + b"\n\n")
    bad = [3, 10, 11, 12, 20, 30]
    report = predict_files(predictor(saved), str(tmp_path / "rows.jsonl"), tmp_path / "out.parquet")
    assert (report.rows, report.bad_rows) == (44, 6)
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["row"] for row in found] == [i for i in range(50) if i not in bad]
    assert {row["row"]: row["other"] for row in found if row["other"] is not None} == {31: 1}
    assert [row["id"] for row in found if row["row"] in (39, 40)] == ["039", "40"]  # a column of texts, mostly
    assert report.errors == str(tmp_path / "out.parquet.errors.jsonl")
    errors = [json.loads(line) for line in Path(report.errors).read_text().splitlines()]
    assert [each["row"] for each in errors] == bad
    reasons = {each["row"]: each["error"] for each in errors}
    assert reasons[3] == "column 'text' is None, but a text is expected"
    assert "not valid JSON" in reasons[10]
    assert reasons[12] == "there is no column 'text'"
    assert "UTF-8" in reasons[20] or "utf-8" in reasons[20]
    assert reasons[30] == "a JSON object is expected, not [1, 2]"
    assert errors[1]["place"].endswith("rows.jsonl, line 11")
    assert {each["row"]: each["line"] for each in errors if "line" in each} == {
        10: "not json",
        20: '{"id": "20", "text": "\\xff"}',
        30: "[1, 2]",
    }
    with pytest.raises(ValueError, match=r"row 3 \(.*rows.jsonl, line 4\): column 'text' is None"):
        predict_files(predictor(saved), str(tmp_path / "rows.jsonl"), tmp_path / "strict.parquet", strict=True)
    assert not (tmp_path / "strict.parquet").exists()


def test_names_of_columns_are_no_formulas(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('text,"=HYPERLINK(""x"")",-1\nw1,=1+1,-2\n')
    for output in ("out.csv", "out.jsonl"):
        predict_files(predictor(saved), str(tmp_path / "rows.csv"), tmp_path / output)
    header, cells = list(csv.reader((tmp_path / "out.csv").read_text().splitlines()))
    assert header[:4] == ["row", "text", '\'=HYPERLINK("x")', "-1"]
    assert cells[:4] == ["0", "w1", "'=1+1", "-2"]
    assert json.loads((tmp_path / "out.jsonl").read_text())['=HYPERLINK("x")'] == "=1+1"


def test_bad_rows_of_csv(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b'id,text\n1,w1\n2\n3,w3,more\n4,"w4\nw5, w6"\n\n5,\xff\n6,"un"closed"\n007,w7\n')
    report = predict_files(predictor(saved), str(path), tmp_path / "out.csv")
    frame = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert list(frame["id"]) == ["1", "4", "007"]
    assert frame["text"][1] == "w4\nw5, w6"
    assert report.bad_rows == 4
    assert report.errors is not None
    errors = [json.loads(line) for line in Path(report.errors).read_text().splitlines()]
    assert [each["place"].rsplit(" ", 1)[1] for each in errors] == ["3", "4", "8", "9"]
    assert [each["line"] for each in errors] == ["2", "3,w3,more", r"5,\xff", '6,"un"closed"']


def test_a_quote_that_is_never_closed_spoils_one_line(saved: Path, tmp_path: Path) -> None:
    rows = [f"{i},w{i % 60}" for i in range(40)]
    rows[5] = '5,"w5'
    (tmp_path / "rows.csv").write_text("\n".join(["id,text", *rows]) + "\n")
    report = predict_files(predictor(saved), str(tmp_path / "rows.csv"), tmp_path / "out.csv")
    assert (report.rows, report.bad_rows) == (39, 1)
    assert list(pd.read_csv(tmp_path / "out.csv")["id"]) == [i for i in range(40) if i != 5]
    assert report.errors is not None
    error = json.loads(Path(report.errors).read_text())
    assert error["place"].endswith("rows.csv, line 7")
    assert "read up to line 41" in error["error"]
    assert error["line"] == '5,"w5'


def test_values_of_json_lines_are_kept_as_they_are(saved: Path, tmp_path: Path) -> None:
    """Types are known when all rows have been seen: nothing is rounded, dropped or refused on the way."""
    rows: list[dict[str, Any]] = [{"text": f"w{i}", "number": 1, "late": None, "deep": {"a": 1}} for i in range(20)]
    rows[15] |= {"number": 1.5, "late": 7, "deep": {"a": 1, "b": "x"}, "new": "n"}
    rows[16] |= {"late": 2**70, "mixed": 1, "float": float("nan")}
    rows[17] |= {"mixed": "a\rb", "float": 1e300}
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source, own = str(tmp_path / "rows.jsonl"), predictor(saved)
    predict_files(own, source, tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["number"] for row in found] == [row["number"] for row in rows]
    assert found[15]["deep"] == {"a": 1, "b": "x"}
    assert (found[15]["late"], found[16]["late"], found[15]["new"]) == ("7", str(2**70), "n")
    assert [row["mixed"] for row in found[15:18]] == [None, "1", "a\rb"]
    predict_files(own, source, tmp_path / "out.jsonl")
    lines = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[15]["deep"] == rows[15]["deep"]
    assert (lines[16]["late"], lines[16]["mixed"], lines[16]["float"]) == (2**70, 1, None)
    assert "new" not in lines[0]
    predict_files(own, source, tmp_path / "out.csv")
    frame = pd.read_csv(tmp_path / "out.csv", dtype=str)
    assert len(frame) == 20
    assert frame["mixed"][17] == "a\rb"
    assert json.loads(frame["deep"][15]) == rows[15]["deep"]
    assert list(frame["row"]) == [str(i) for i in range(20)]


def _arrow(columns: dict[str, Any], path: Path) -> str:
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write(table)
    return str(path)


def test_types_that_parquet_stores_as_others(saved: Path, tmp_path: Path) -> None:
    seconds = pa.timestamp("s", "UTC")
    columns = {
        "text": ["w1", "w2", "w3"],
        "when": pa.array([1, None, 3], pa.timestamp("s")),
        "time": pa.array([1, 2, 3], pa.time32("s")),
        "date": pa.array([0, None, 86400000], pa.date64()),
        "deep": pa.array([[{"at": 1}], [], None], pa.list_(pa.struct([("at", seconds)]))),
        "map": pa.array([[("a", 0)], [], []], pa.map_(pa.string(), pa.date64())),
        "number": pa.array([5, None, 5]).dictionary_encode(),
        "name": pa.array(["a", "b", None], pa.large_string()).dictionary_encode(),
        "empty": pa.array([{}, None, {}], pa.struct([])),
    }
    source = _arrow(columns, tmp_path / "rows.arrow")
    for suffix in ("parquet", "jsonl", "csv"):
        report = predict_files(predictor(saved, window_rows=2), source, tmp_path / f"out.{suffix}")
        assert report.rows == 3
    found = pq.read_table(tmp_path / "out.parquet")
    table = pa.table(columns)
    for name in ("when", "time", "date", "deep", "map", "number", "name"):
        assert found[name].to_pylist() == table[name].to_pylist(), name
    assert found.schema.field("when").type == pa.timestamp("ms")
    assert found["empty"].to_pylist() == ["{}", None, "{}"]


def test_a_type_that_cannot_be_written_is_refused_at_once(saved: Path, tmp_path: Path) -> None:
    columns = {
        "runs": pc.run_end_encode(pa.array([7, 7])),
        "union": pa.UnionArray.from_sparse(pa.array([0, 0], pa.int8()), [pa.array([1, 2])]),
        "span": pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
    }
    for name, column in columns.items():
        source = _arrow({"text": ["w1", "w2"], name: column}, tmp_path / "rows.arrow")
        own = stop_after(predictor(saved), 0)
        with pytest.raises(ValueError, match=rf"column '{name}' has the type .*, which cannot be written: .*--keep"):
            predict_files(own, source, tmp_path / "out.parquet")
        assert not (tmp_path / "out.parquet.parts").exists()
        assert predict_files(predictor(saved), source, tmp_path / f"{name}.parquet", keep=["text"]).rows == 2


def test_empty_objects_are_json_text(saved: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "w1", "meta": {}, "deep": {"a": {}, "b": 1}, "list": [{}], "later": {}},
        {"text": "w2", "meta": None, "deep": {"a": {}, "b": 2}, "list": [], "later": {"a": 1}},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    predict_files(predictor(saved, window_rows=1), str(tmp_path / "rows.jsonl"), tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["meta"] for row in found] == ["{}", None]
    assert [json.loads(row["deep"]) for row in found] == [row["deep"] for row in rows]
    assert [json.loads(row["list"]) for row in found] == [row["list"] for row in rows]
    assert [row["later"] for row in found] == [{"a": None}, {"a": 1}]


@pytest.mark.parametrize("window_rows", [1, 2])
def test_numbers_that_have_no_common_type_are_text(saved: Path, tmp_path: Path, window_rows: int) -> None:
    rows = [{"text": "w1", "a": 2**53 + 1, "b": 2**63 + 1, "c": 1}, {"text": "w2", "a": 0.5, "b": -1, "c": 0.5}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = predictor(saved, window_rows=window_rows)
    predict_files(own, str(tmp_path / "rows.jsonl"), tmp_path / "lines.parquet")
    sources = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    for row, path, whole in zip(rows, sources, [pa.uint64(), pa.int64()], strict=True):
        columns = {name: [value] for name, value in row.items()}
        pq.write_table(pa.table({**columns, "b": pa.array(columns["b"], whole)}), path)
    predict_files(own, [str(path) for path in sources], tmp_path / "files.parquet")
    for name in ("lines", "files"):
        found = pq.read_table(tmp_path / f"{name}.parquet", columns=["a", "b", "c"]).to_pylist()
        assert found == [
            {"a": "9007199254740993", "b": "9223372036854775809", "c": 1.0},
            {"a": "0.5", "b": "-1", "c": 0.5},
        ]


def test_odd_rows_and_odd_files(saved: Path, tmp_path: Path) -> None:
    lines = ['{"id": 1}', '{"text": "w1", "m": {"a": "\\ud800"}}', '{"text": "w2", "m": ' + "[" * 99999 + "}"]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, '{"text": "w3"}']))
    (tmp_path / "b.jsonl").touch()  # a shard without a row
    (tmp_path / "c.JSONL").write_text('{"text": "w4", "other": 1}\n')
    report = predict_files(predictor(saved), str(tmp_path), tmp_path / "out.parquet", keep=["text"])
    assert (report.rows, report.bad_rows) == (2, 3)
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == ["w3", "w4"]
    # what an earlier run wrote is not read
    again = predict_files(predictor(saved), str(tmp_path / "*.jsonl"), tmp_path / "out.parquet", overwrite=True)
    assert again.bad_rows == 3
    with pytest.raises(ValueError, match="has no rows"):
        predict_files(predictor(saved), str(tmp_path / "b.jsonl"), tmp_path / "x.csv")
    (tmp_path / "header.csv").write_text("id,text\n")
    for suffix in ("csv", "jsonl", "parquet"):
        assert predict_files(predictor(saved), str(tmp_path / "header.csv"), tmp_path / f"none.{suffix}").rows == 0
    assert pq.read_table(tmp_path / "none.parquet").column_names[:3] == ["row", "id", "text"]
    assert (tmp_path / "none.csv").read_text().startswith("row,id,text,predicted_topic,")


def test_what_a_run_writes_is_not_its_input(saved: Path, tmp_path: Path) -> None:
    written(ROWS[:20], tmp_path / "a.jsonl")
    out = tmp_path / "out.jsonl"
    for source in (str(tmp_path / "**" / "*.jsonl"), str(tmp_path)):
        with pytest.raises(Stopped):
            predict_files(stop_after(predictor(saved), 1), source, out, overwrite=True)
        assert predict_files(predictor(saved), source, out, resume=True).rows == 20
        assert predict_files(predictor(saved), source, out, overwrite=True).rows == 20
    with pytest.raises(ValueError, match=r"out\.jsonl is the input"):
        predict_files(predictor(saved), str(out), out, keep=[], overwrite=True)
    with pytest.raises(ValueError, match=r"no such file"):
        predict_files(predictor(saved), str(tmp_path / "o*.jsonl"), out, overwrite=True)


def test_an_input_that_a_glob_reads_is_not_replaced(saved: Path, tmp_path: Path) -> None:
    paths = [written(ROWS[begin : begin + 5], tmp_path / f"{begin}.jsonl") for begin in (0, 5)]
    before = paths[1].read_bytes()
    for source in (str(tmp_path / "*.jsonl"), str(tmp_path)):
        with pytest.raises(ValueError, match=r"5.jsonl is one of the input files, not the output of an earlier run"):
            predict_files(predictor(saved), source, paths[1], overwrite=True)
    assert paths[1].read_bytes() == before


def test_a_file_of_errors_that_exists_is_kept(saved: Path, tmp_path: Path) -> None:
    source, out = str(written([*ROWS, {"id": "bad"}], tmp_path / "rows.jsonl")), tmp_path / "out.csv"
    errors = tmp_path / "out.csv.errors.jsonl"
    errors.write_text("mine\n")
    with pytest.raises(ValueError, match=r"out\.csv\.errors\.jsonl exists already: give another output, or --overwr"):
        predict_files(predictor(saved), source, out)
    assert (errors.read_text(), out.exists()) == ("mine\n", False)
    assert predict_files(predictor(saved), source, out, overwrite=True).bad_rows == 1
    assert json.loads(errors.read_text())["row"] == 50


def test_resume_and_overwrite_go_on_or_begin_again(saved: Path, tmp_path: Path) -> None:
    source, out = str(written(ROWS, tmp_path / "rows.csv")), tmp_path / "out.csv"
    out.write_text("of before\n")
    both = {"resume": True, "overwrite": True}
    with pytest.raises(Stopped):
        predict_files(stop_after(predictor(saved), 2), source, out, **both)
    with pytest.raises(Stopped):
        predict_files(stop_after(predictor(saved), 1), source, out, **both)
    assert predict_files(predictor(saved), source, out, **both).resumed == 24
    with pytest.raises(Stopped):
        predict_files(stop_after(predictor(saved), 2), source, out, **both)
    assert predict_files(predictor(saved, window_rows=9), source, out, **both).resumed == 0


@pytest.mark.parametrize("output", [".", "folder", "labels.txt"])
def test_an_output_that_is_no_file_of_predictions(saved: Path, tmp_path: Path, output: str) -> None:
    with pytest.raises(ValueError, match=r"predictions are written to files that end in \.parquet, \.jsonl, \.csv"):
        predict_files(predictor(saved), str(tmp_path / "rows.csv"), output)


def test_many_bad_lines_before_the_first_good_one(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("oops\n" * 1100 + '{"text": "w1"}\n')
    report = predict_files(predictor(saved), str(tmp_path / "rows.jsonl"), tmp_path / "out.jsonl")
    assert (report.rows, report.bad_rows) == (1, 1100)
    (tmp_path / "rows.jsonl").write_text("oops\n" * 1100)
    with pytest.raises(
        ValueError, match=r"rows\.jsonl, line 1: not valid JSON: .*one JSON object on each line is expected"
    ):
        predict_files(predictor(saved), str(tmp_path / "rows.jsonl"), tmp_path / "none.jsonl")


def test_bytes_are_base64_in_texts(saved: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["w1"], "picture": [b"\x00\xff"]}), tmp_path / "rows.parquet")
    predict_files(predictor(saved), str(tmp_path / "rows.parquet"), tmp_path / "out.csv")
    predict_files(predictor(saved), str(tmp_path / "rows.parquet"), tmp_path / "out.jsonl")
    assert list(pd.read_csv(tmp_path / "out.csv")["picture"]) == ["AP8="]
    assert json.loads((tmp_path / "out.jsonl").read_text())["picture"] == "AP8="


@pytest.mark.parametrize("change", ["a token", "the limit", "the side"])
def test_a_changed_tokenizer_ends_resuming(saved: Path, tmp_path: Path, change: str) -> None:
    source, out = str(written(ROWS, tmp_path / "rows.csv")), tmp_path / "out.csv"
    with pytest.raises(Stopped):
        predict_files(stop_after(predictor(saved), 2), source, out)
    other = predictor(saved)
    # leaves truncation and padding behind, which change no prediction
    other.tokenizer(["w1 w2 w3"], truncation=True, max_length=2, padding="max_length")
    with pytest.raises(Stopped):
        predict_files(stop_after(other, 1), source, out, resume=True)
    if change == "a token":
        other.tokenizer.add_tokens(["w99"])
    elif change == "the limit":
        other.tokenizer.model_max_length = 4
    else:
        other.tokenizer.truncation_side = "left"
    with pytest.raises(ValueError, match="belongs to a run with another model"):
        predict_files(other, source, out, resume=True)


def test_a_run_that_was_ended_before_its_parts_were_removed(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = str(written(ROWS, tmp_path / "rows.csv")), tmp_path / "out.csv"
    unlink = Path.unlink

    def ended(path: Path, missing_ok: bool = False) -> None:
        if path.name == "state.json":
            raise Stopped
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", ended)
    with pytest.raises(Stopped):
        predict_files(predictor(saved), source, out)
    monkeypatch.undo()
    before = out.read_bytes()
    assert predict_files(predictor(saved), source, out, resume=True).resumed == 50
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "rows.csv"]


def test_what_the_report_counts(saved: Path, tmp_path: Path) -> None:
    long = " ".join(f"w{i % 60}" for i in range(1000))
    source = str(written([{"text": long}] * 30 + [{"text": "w1"}], tmp_path / "rows.csv"))
    own = predictor(saved, precision="auto")
    report = predict_files(own, source, tmp_path / "out.csv")
    assert (report.texts, report.truncated, report.precision) == (2, 1, "fp32")
    assert own.chosen is None  # too few to measure: the next file may have more
    assert "1 of 2 texts were truncated to the length the model reads" in str(report)


class Stopped(Exception):
    pass


def stop_after(own: MultiHeadPredictor, windows: int) -> MultiHeadPredictor:
    compute, count = own.compute, iter(range(windows))

    def counted(encoded: Any) -> Any:
        if next(count, None) is None:
            raise Stopped
        return compute(encoded)

    own.compute = counted  # type: ignore[method-assign]
    return own


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_a_run_that_was_ended_goes_on(saved: Path, tmp_path: Path, suffix: str) -> None:
    rows = [*ROWS[:5], {"id": "bad", "text": None, "topic": "x"}, *ROWS[5:]]
    source, out = str(written(rows, tmp_path / "rows.jsonl")), tmp_path / f"out{suffix}"
    predict_files(predictor(saved), source, tmp_path / f"whole{suffix}")
    with pytest.raises(Stopped):
        predict_files(stop_after(predictor(saved), 3), source, out)
    assert not out.exists()
    assert len(list((tmp_path / f"out{suffix}.parts").glob("part-*"))) == 3
    with pytest.raises(ValueError, match="was left by an earlier run: --resume continues it, --overwrite deletes it"):
        predict_files(predictor(saved), source, out)
    with pytest.raises(ValueError, match="belongs to a run with another heads, columns: repeat that run's settings"):
        predict_files(predictor(saved, heads=["mood"]), source, out, resume=True)
    with pytest.raises(Stopped):
        predict_files(stop_after(predictor(saved), 2), source, out, resume=True)
    report = predict_files(predictor(saved), source, out, resume=True)
    assert (report.resumed, report.rows, report.bad_rows) == (40, 50, 1)
    assert out.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    errors = [(tmp_path / f"{name}{suffix}.errors.jsonl").read_bytes() for name in ("out", "whole")]
    assert errors[0] == errors[1] != b""
    assert not (tmp_path / f"out{suffix}.parts").exists()


HUB = """
import sys
from pathlib import Path
from test_files import Stopped, predictor, stop_after
from multihead_hf import predict_files

saved, folder, step = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
if step == "begin":
    predict_files(predictor(saved), "org/rows", folder / "whole.parquet", split="train")
    for resume, windows in ((False, 3), (True, 1)):
        try:
            predict_files(stop_after(predictor(saved), windows), "org/rows", folder / "out.parquet", resume=resume)
        except Stopped:
            print(len(list((folder / "out.parquet.parts").glob("part-*"))))
else:
    predict_files(predictor(saved), "org/rows", folder / "out.parquet", resume=True)
"""


@pytest.mark.slow
def test_a_data_set_on_the_hub_that_has_changed_is_not_gone_on_with(saved: Path, tmp_path: Path) -> None:
    with HubServer(tmp_path / "hub") as hub:
        environment = hub.env(tmp_path / "home") | {
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])
        }

        def run(step: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", HUB, str(saved), str(tmp_path), step]
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

        hub.add_dataset("org/rows", {"train": ROWS})
        done = run("begin")
        assert done.stdout.split() == ["3", "4"], done.stderr[-3000:]
        assert_predictions(pq.read_table(tmp_path / "whole.parquet").to_pylist(), saved)
        hub.add_dataset("org/rows", {"train": ROWS[::-1]})
        done = run("go on")
    assert "out.parquet.parts belongs to a run with another input: repeat that run's settings" in done.stderr, (
        done.stderr[-3000:]
    )
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.slow
def test_a_killed_process_goes_on(saved: Path, tmp_path: Path) -> None:
    rows = [{"id": str(i), "text": f"w{i % 60} w{i // 60 % 60}"} for i in range(3000)]
    source, out = written(rows, tmp_path / "rows.csv"), tmp_path / "out.csv"
    options = ["-o", str(out), "--window-rows", "20", "--precision", "fp32", "--device", "cpu", "--quiet"]
    command = [sys.executable, "-m", "multihead_hf.cli", "predict", str(saved), str(source), *options]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    parts = tmp_path / "out.csv.parts"
    while process.poll() is None and len(list(parts.glob("part-*"))) < 3:
        time.sleep(0.01)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    done = cli("predict", saved, source, *options, "--resume", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["resumed"] >= 40
    frame = pd.read_csv(out)
    assert list(frame["row"]) == list(range(3000))
    assert list(frame["id"]) == list(range(3000))


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("device", [["--device", "cpu"], []])
def test_two_processes_share_the_rows(saved: Path, tmp_path: Path, device: list[str]) -> None:
    rows = [*ROWS, {"id": "bad", "text": None, "topic": "x"}]
    source = written(rows, tmp_path / "rows.jsonl")
    options = ["--window-rows", "8", *device, "--quiet", "--backend", "torch", "--precision", "fp32"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "multihead_hf.cli", "predict", str(saved), str(source), "-o", str(tmp_path / "two.csv"), *options]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("two.csv: 50 rows") == 1
    assert cli("predict", saved, source, "-o", tmp_path / "one.csv", *options).returncode == 0
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_a_full_disk_leaves_what_was_done(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = str(written(ROWS, tmp_path / "rows.csv")), tmp_path / "out.csv"
    write, count = Path.write_bytes, iter(range(5))  # the state twice, three parts

    def full(path: Path, data: bytes) -> int:
        if next(count, None) is None:
            write(path, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        OSError,
        match=r"No space left.*part-00000003\.\w+\.unfinished\.jsonl'; .*out\.csv\.parts holds .* --resume continues",
    ):
        predict_files(predictor(saved), source, out)
    monkeypatch.undo()
    left = sorted(path.name.split(".")[0] for path in (tmp_path / "out.csv.parts").iterdir())
    assert left == ["lock", "part-00000000", "part-00000001", "part-00000002", "state"]
    assert not out.exists()
    assert predict_files(predictor(saved), source, out, resume=True).resumed == 24
    assert [int(row) for row in pd.read_csv(out)["row"]] == list(range(50))


FULL = """
import resource, signal, sys
from pathlib import Path
from test_files import predictor
from multihead_hf import predict_files

saved, folder, suffix = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
own = predictor(saved)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), -1))
predict_files(own, str(folder / "rows.parquet"), folder / f"out{suffix}")
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".parquet", pytest.param(".csv", marks=pytest.mark.nightly)])
def test_a_joined_file_that_is_too_large_is_named(saved: Path, tmp_path: Path, suffix: str) -> None:
    written(ROWS * 20, tmp_path / "rows.parquet")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", FULL, str(saved), str(tmp_path), suffix, "20000"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert re.search(
        rf"File too large.*out{suffix}'; .*parts holds the predictions made so far: --resume continues from them",
        done.stderr,
    )
    assert not (tmp_path / f"out{suffix}").exists()
    assert predict_files(
        predictor(saved), str(tmp_path / "rows.parquet"), tmp_path / f"out{suffix}", resume=True
    ).resumed


def test_bad_input(saved: Path, tmp_path: Path) -> None:
    source = str(written(ROWS, tmp_path / "rows.csv"))
    own = predictor(saved)

    def refused(message: str, given: str | list[str] = source, output: str = "out.csv", **options: Any) -> None:
        with pytest.raises(ValueError, match=message):
            predict_files(own, given, tmp_path / output, **options)
        assert not (tmp_path / "out.csv").exists()
        assert not (tmp_path / "out.csv.parts").exists()

    refused(r"no column 'txt' for the text\. Did you mean 'text'", text_columns="txt")
    refused(r"no column 'idd' for --keep\. Did you mean 'id'", keep=["idd"])
    refused(r"rows\.csv is the input", output="rows.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")
    refused(r"link\.csv is the input", str(tmp_path / "link.csv"), "rows.csv", overwrite=True)
    refused(r"end in \.parquet, \.jsonl, \.csv", output="out.xlsx")
    refused(r"there is no such file.*'rows\.csv'", given=str(tmp_path / "row.csv"))
    refused(r"a\.json has no rows", given=str(_empty(tmp_path / "a.json")))
    refused(r"empty\.csv has no rows", given=str(_empty(tmp_path / "empty.csv")))
    refused(r"empty\.jsonl has no rows", given=str(_empty(tmp_path / "empty.jsonl")))
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    refused(r"torn\.parquet cannot be read", given=str(tmp_path / "torn.parquet"))
    refused("the label 'roads' holds 'oa', which joins labels", sep="oa")
    labelled = str(written([{"text": "w1", "predicted_mood": "calm"}], tmp_path / "labelled.csv"))
    refused(r"two columns called 'predicted_mood'.*--keep.*--prefix", given=labelled)
    refused("threshold: the model has no head 'topics'", threshold={"topics": 0.4})
    refused("top_k 0", top_k=0)
    refused("are for datasets on the Hub", split="test")
    refused("delimiter '::': one character is expected", delimiter="::")
    (tmp_path / "folder.csv").mkdir()
    refused("folder.csv is a folder", output="folder.csv", overwrite=True)
    (tmp_path / "folder.csv").rmdir()
    written([{"text": "a", "n": 1}], tmp_path / "other.csv")
    refused("has other columns than", given=[source, str(tmp_path / "other.csv")])
    written(ROWS, tmp_path / "tabs.tsv").rename(tmp_path / "tabs.csv")
    refused(r"give --delimiter '\\t'", given=str(tmp_path / "tabs.csv"))
    assert predict_files(own, str(tmp_path / "tabs.csv"), tmp_path / "t.csv", delimiter="\\t").rows == 50
    predict_files(own, source, tmp_path / "there.csv")
    refused("exists already: give another output, or --overwrite", output="there.csv")
    assert predict_files(own, source, tmp_path / "there.csv", overwrite=True).rows == 50


def _empty(path: Path) -> Path:
    path.touch()
    return path


def test_the_command(saved: Path, tmp_path: Path) -> None:
    source = written(ROWS, tmp_path / "rows.csv")
    done = cli(
        "predict", saved, source, "-o", tmp_path / "out.jsonl", "--threshold", "topic:roads=0.001", "--head", "topic"
    )
    assert done.returncode == 0, done.stderr
    assert "out.jsonl: 50 rows; " in done.stdout
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert all("roads" in line["predicted_topic"] for line in lines)
    failed = cli("predict", saved, source, "-o", tmp_path / "out.jsonl")
    assert failed.returncode == 1
    assert "--overwrite" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert cli("predict", saved, source, "-o", tmp_path / "x.csv", "--threshold", "a=b").returncode == 2
    assert cli("predict", saved, source).returncode == 2
    missing = cli("predict", tmp_path, source, "-o", tmp_path / "x.csv")
    assert (missing.returncode, "has no config.json" in missing.stderr) == (1, True)


def killed_run(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """Source and output of a run that has ended after two of its parts."""
    source, out = str(written(ROWS, tmp_path / "rows.csv")), tmp_path / "out.jsonl"
    count = iter(range(3))
    monkeypatch.setattr(
        "multihead_hf.prediction.parts.os.replace",
        lambda *args: os.rename(*args) if next(count, None) is not None else (_ for _ in ()).throw(Stopped()),
    )
    with pytest.raises(Stopped):
        predict_files(predictor(saved), source, out)
    monkeypatch.undo()
    return source, out


@pytest.mark.parametrize("size", [0, 40])
def test_parts_that_were_cut_are_predicted_again(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """What a power cut leaves of a file that had its name before it was written."""
    source, out = killed_run(saved, tmp_path, monkeypatch)
    part = min((tmp_path / "out.jsonl.parts").glob("part-*"))
    part.write_bytes(part.read_bytes()[:size])
    report = predict_files(predictor(saved), source, out, resume=True)
    assert report.rows == 50
    assert report.resumed < 50
    assert [json.loads(line)["row"] for line in out.read_text().splitlines()] == list(range(50))


def test_two_runs_do_not_write_one_output(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = killed_run(saved, tmp_path, monkeypatch)
    other = Parts(out, ".jsonl")
    other.lock()
    before = sorted((tmp_path / "out.jsonl.parts").iterdir())
    for options in ({"resume": True}, {"overwrite": True}, {}):
        with pytest.raises(ValueError, match=r"another run is writing .*out\.jsonl at this moment"):
            predict_files(predictor(saved), source, out, **options)
    assert sorted((tmp_path / "out.jsonl.parts").iterdir()) == before
    other.unlock()
    assert predict_files(predictor(saved), source, out, resume=True).rows == 50


def test_a_run_that_has_ended_is_not_done_again(saved: Path, tmp_path: Path) -> None:
    source, out = str(written(ROWS, tmp_path / "rows.csv")), tmp_path / "out.jsonl"
    first = predict_files(predictor(saved), source, out)
    before = out.stat()
    again = predict_files(predictor(saved), source, out, resume=True)
    assert (again.rows, again.resumed, again.texts) == (first.rows, 50, 0)
    assert out.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(ValueError, match=r"belongs to a run with another top_k"):
        predict_files(predictor(saved), source, out, resume=True, top_k=1)
    out.write_text(out.read_text() + "{}\n")
    with pytest.raises(ValueError, match=r"exists already"):
        predict_files(predictor(saved), source, out, resume=True)


def test_one_column_that_is_kept_may_be_a_string(saved: Path, tmp_path: Path) -> None:
    rows = written([{"text": "w1", "id": 1, "more": 2}], tmp_path / "rows.jsonl")
    predict_files(predictor(saved), rows, tmp_path / "out.jsonl", keep="id")
    assert {"id"} == {name for name in json.loads((tmp_path / "out.jsonl").read_text()) if name in ("id", "more")}


def test_a_packed_file_that_is_cut_off(saved: Path, tmp_path: Path) -> None:
    packed = gzip.compress("".join(f'{{"text": "w{place} {place * 7919}"}}\n' for place in range(500)).encode())
    (tmp_path / "rows.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(OSError, match=r"rows.jsonl.gz is cut off"):
        predict_files(predictor(saved), tmp_path / "rows.jsonl.gz", tmp_path / "out.jsonl")


def test_a_file_in_the_place_of_the_parts(saved: Path, tmp_path: Path) -> None:
    rows = written(ROWS, tmp_path / "rows.jsonl")
    (tmp_path / "out.jsonl.parts").write_text("mine")
    with pytest.raises(ValueError, match=r"out.jsonl.parts is a file"):
        predict_files(predictor(saved), rows, tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl.parts").read_text() == "mine"

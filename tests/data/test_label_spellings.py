"""Labels are what they are written as: in every source, in every file, whatever types a reader gives them."""

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
import tiny
from datasets import Dataset, Value

from multihead_hf import HeadConfig, MultiHeadConfig, infer_heads, prepare_dataset, read_dataset

MULTI = "multi_label_classification"


def targets(rows: Any, head: HeadConfig, **reading: Any) -> list[Any]:
    config = MultiHeadConfig(encoder=tiny.bert_config(0.0), heads={"code": head})
    return [row["code"] for row in prepare_dataset(rows, tiny.tokenizer(), config, **reading)["labels"]]


def written(folder: Path, *cells: str) -> Path:
    path = folder / f"{len(list(folder.iterdir()))}.csv"
    path.write_text("text,code\n" + "".join(f"w1,{cell}\n" for cell in cells))
    return path


def test_one_number_that_may_be_two_labels(tmp_path: Path) -> None:
    train, validation = written(tmp_path, "1", "1.0", "2", "2.0"), written(tmp_path, "1.0", "2.0")
    head = infer_heads(train, ["code"])["code"]
    assert head.labels == ["1", "1.0", "2", "2.0"]
    assert targets(validation, head) == [1, 3]
    with pytest.raises(
        ValueError, match=r"head 'code', column 'code', row 0: 1.0 may be each of the labels \['1', '1.0'\]"
    ):
        targets(pd.read_csv(validation), head)


@pytest.mark.parametrize(
    "labels", [["true", "false"], ["TRUE", "FALSE"], ["1.0", "2.0"], ["0.10", "0.20"], ["01", "2"]]
)
def test_labels_that_a_reader_takes_for_values(tmp_path: Path, labels: list[str]) -> None:
    path = written(tmp_path, *labels)
    assert targets(path, HeadConfig(labels=labels)) == [0, 1]
    assert targets(pd.read_csv(path), HeadConfig(labels=labels)) == [0, 1]


def test_booleans_that_are_written_as_text(tmp_path: Path) -> None:
    head = HeadConfig(labels=["False", "True"])
    for cells in (["TRUE", "False"], ["true", "false"]):
        assert targets(Dataset.from_dict({"text": ["w1", "w2"], "code": cells}), head) == [1, 0]
    own = HeadConfig(labels=["true", "TRUE"])
    assert targets(Dataset.from_dict({"text": ["w1", "w2"], "code": ["TRUE", "true"]}), own) == [1, 0]
    with pytest.raises(ValueError, match=r"True may be each of the labels \['true', 'TRUE'\]"):
        targets(Dataset.from_dict({"text": ["w1"], "code": ["True"]}), own)
    with pytest.raises(ValueError, match="'true' is not one of the head's 2 labels"):
        targets(Dataset.from_dict({"text": ["w1"], "code": ["true"]}), HeadConfig(labels=["yes", "no"]))


def test_a_number_that_is_read_as_a_label_with_other_characters_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    versions = HeadConfig(labels=["1.10", "1.2", "version 3"])
    assert targets(written(tmp_path, "1.1", "1.2"), versions) == [0, 1]  # it may be another version
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert "head 'code', column 'code': the number 1.1 is read as the label '1.10'" in said[0]
    caplog.clear()
    for labels in (["true", "false"], ["1", "2"], ["1.0", "2.0"], ["0.5", "1.5"]):
        assert targets(written(tmp_path, *labels), HeadConfig(labels=labels)) == [0, 1]
    assert not caplog.records


@pytest.mark.parametrize(
    ("cells", "labels"), [(["1.0", "1.5", "2.0"], ["1.0", "1.5", "2.0"]), (["1", "1.5", "2"], ["1.0", "1.5", "2.0"])]
)
def test_decimals_have_one_name_from_every_source(tmp_path: Path, cells: list[str], labels: list[str]) -> None:
    path = written(tmp_path, *cells)
    for source in (path, pd.read_csv(path), pl.read_csv(path), Dataset.from_csv(str(path))):
        assert infer_heads(source, ["code"])["code"].labels == labels


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_numbers_of_half_and_single_precision(tmp_path: Path, kind: str) -> None:
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "code": [0.1, 1.0, 0.7]}).cast_column("code", Value(kind))
    rows.to_parquet(str(tmp_path / "rows.parquet"))
    for source in (rows, rows.to_pandas(), tmp_path / "rows.parquet", rows.to_polars()):
        assert infer_heads(source, ["code"])["code"].labels == ["0.1", "0.7", "1.0"]
        encoded = prepare_dataset(source, tiny.tokenizer(), {"code": HeadConfig(labels=["0.1", "0.7", "1.0"])})
        assert [row["labels"]["code"] for row in encoded] == [0, 2, 1]


@pytest.mark.parametrize(
    ("labels", "ids"), [(["1.1", "2"], [0, 1]), (["1.10", "2.00"], [0, 1]), (["1.1", "2", "1.10"], [2, 1])]
)
def test_decimals_are_what_they_mean(labels: list[str], ids: list[int]) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "code": [Decimal("1.10"), Decimal("2")]})
    assert targets(frame, HeadConfig(labels=labels)) == ids


def test_points_in_time_have_one_name(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "code": [datetime(2021, 1, 1), datetime(2021, 1, 1, 10)]})
    frame.to_parquet(tmp_path / "rows.parquet")
    for rows in (frame, pl.from_pandas(frame), tmp_path / "rows.parquet"):
        assert infer_heads(rows, ["code"])["code"].labels == ["2021-01-01", "2021-01-01T10:00:00"]


@pytest.mark.parametrize("cell", [date(2021, 1, 1), datetime(2021, 1, 1), Decimal("1.5")])
def test_lists_of_what_is_no_name(cell: Any) -> None:
    rows = Dataset.from_dict({"text": ["w1"], "code": [[cell]]})
    with pytest.raises(ValueError, match="head 'code', column 'code': lists of labels must hold strings"):
        infer_heads(rows, ["code"])
    with pytest.raises(ValueError, match="head 'code', column 'code': lists of labels must hold strings"):
        targets(rows, HeadConfig(labels=["a", "b"], problem_type=MULTI))


def test_label_ids_without_end() -> None:
    rows = Dataset.from_dict({"text": ["w1", "w2"], "code": [[2**40], [0]]})
    with pytest.raises(ValueError, match="the head would have 1,099,511,627,777 labels"):
        infer_heads(rows, ["code"])


def test_an_infinite_label() -> None:
    rows = Dataset.from_dict({"text": ["w1", "w2"], "code": [1.5, float("inf")]})
    with pytest.raises(ValueError, match="head 'code', column 'code', row 1: inf is not a label"):
        infer_heads(rows, ["code"])


def test_integers_in_lists_where_labels_are_numbers() -> None:
    rows = Dataset.from_dict({"text": ["w1"], "code": [[1, 2]]})
    with pytest.raises(ValueError, match=r"positions in the list of labels \(0 to 2\), but the labels of the head are"):
        targets(rows, HeadConfig(labels=["1", "2", "3"], problem_type=MULTI))
    for labels in (["0", "1", "2"], ["a", "b", "c"]):
        assert targets(rows, HeadConfig(labels=labels, problem_type=MULTI)) == [[0, 1, 1]]


def test_a_separator_that_is_part_of_a_label() -> None:
    head = HeadConfig(labels=["a|b", "a", "b"], problem_type=MULTI)
    with pytest.raises(ValueError, match=r"the labels \['a\|b'\] cannot be read from strings joined with '\|'"):
        targets(Dataset.from_dict({"text": ["w1"], "code": ["a|b"]}), head, sep="|")


def test_objects_in_a_polars_frame() -> None:
    frame = pl.DataFrame({"text": ["w1"], "code": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(ValueError, match="column 'code' cannot be read: its type is Object"):
        infer_heads(frame, ["code"])


def test_long_integers_of_a_polars_frame_are_read_as_text(tmp_path: Path) -> None:
    path = written(tmp_path, *(digits := ["12345678901234567890", "12345678901234567891"]))
    frame = pl.read_csv(path)
    assert str(frame.schema["code"]) == "Int128"
    for rows in (path, frame, frame.lazy()):
        assert infer_heads(rows, ["code"])["code"].labels == digits
    lists = frame.select("text", pl.col("code").implode().over("text"))
    with pytest.raises(ValueError, match=r"column 'code' cannot be read: .*Make its values strings"):
        infer_heads(lists, ["code"])


def test_a_missing_label_in_a_list() -> None:
    with pytest.raises(ValueError, match=r"head 'code'.*, row 1: \['b', None\] holds a missing label; leave it out"):
        infer_heads(Dataset.from_dict({"text": ["w1", "w2"], "code": [["a"], ["b", None]]}), ["code"])


def test_a_dict_of_columns_is_no_dict_of_splits() -> None:
    with pytest.raises(ValueError, match=r"a dict of columns \['text', 'code'\]: pass Dataset.from_dict\(rows\)"):
        read_dataset({"text": ["w1"], "code": ["a"]})


def test_a_zero_byte_is_not_utf16(tmp_path: Path) -> None:
    path = written(tmp_path, "a", "b\0", "c")
    with pytest.raises(ValueError, match="line 3: line contains NUL, a character that texts do not have: delete it"):
        read_dataset(path)


def test_moments_as_text_and_as_values() -> None:
    rows = Dataset.from_dict({"text": ["a", "b"], "code": [datetime(2021, 1, 1), datetime(2021, 1, 1, 10)]})
    for labels in (["2021-01-01 00:00:00", "2021-01-01 10:00:00"], ["2021-01-01", "2021-01-01T10:00:00"]):
        assert targets(rows, HeadConfig(labels=labels)) == [0, 1]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["late again", "опять поздно", "又迟到了"])
def test_utf16_of_any_language_is_named(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(("text,code\n" + f"{text},a\n" * 60).encode(encoding))
    with pytest.raises(ValueError, match=f"encoding='{encoding}'"):
        read_dataset(path)
    assert read_dataset(path, encoding=encoding)["text"][0] == text


def test_splits_in_lists_of_files(tmp_path: Path) -> None:
    path = written(tmp_path, "a", "b")
    assert len(read_dataset({"train": [str(path), str(path)]})["train"]) == 4


def test_numbers_among_joined_labels(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "code": 1}\n{"text": "b", "code": "1|2.5"}\n')
    pd.DataFrame({"text": ["a", "b"], "code": [1, "1|2.5"]}).to_excel(tmp_path / "rows.xlsx", index=False)
    for path in (tmp_path / "rows.jsonl", tmp_path / "rows.xlsx"):
        head = infer_heads(path, ["code"], sep="|")["code"]
        assert head.labels == ["1", "2.5"]
        assert targets(path, head, sep="|") == [[1.0, 0.0], [1.0, 1.0]]
        with pytest.raises(ValueError, match=r"column 'code': mixed types, 1 in row 0 is a number"):
            infer_heads(path, ["code"])

"""`multihead-hf inspect`."""

import json
from pathlib import Path

import pandas as pd
import tiny
from command_line import cli

from multihead_hf import infer_heads, inspect_dataset


def test_inspect_prints_what_the_call_gives(table: Path) -> None:
    options = ["--label-column", "topics", "--label-column", "feeling=mood", "--sep", "|", "--batch-size", "2"]
    options += ["--empty", "none"]
    done = cli("inspect", table, *options)
    assert done.returncode == 0, done.stderr
    columns = {"topics": "topics", "feeling": "mood"}
    heads = infer_heads(str(table), columns, sep="|", empty="none")
    report = inspect_dataset(str(table), heads, batch_size=2)
    assert done.stdout.rstrip() == str(report).rstrip()
    assert "1 text several times with different labels" in done.stdout
    assert json.loads(cli("inspect", table, *options, "--json").stdout) == report.to_dict()


def test_inspect_for_a_model(table: Path, tmp_path: Path) -> None:
    tiny.model(max_length=4).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    options = ["--label-column", "topic=topics", "--sep", "|", "--empty", "topic=missing"]
    done = cli("inspect", table, "--model", tmp_path / "model", *options)
    assert done.returncode == 0, done.stderr
    assert "tokens: longest" in done.stdout
    assert "longer than 4" in done.stdout
    assert "50.0%" in done.stdout


def test_one_column_for_each_label(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"body": ["a", "b"], "roads": [True, False], "waste": [False, False]}).to_parquet(path)
    done = cli("inspect", path, "--label-column", "topic=roads,waste", "--text-column", "body", "--json")
    assert json.loads(done.stdout)["absent_labels"] == {"topic": ["waste"]}


def test_a_separator_for_one_head(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    pd.DataFrame({"text": ["a", "b"], "topics": ["x,y", "x"], "mood": ["calm, kind", "angry"]}).to_csv(
        path, index=False
    )
    done = cli("inspect", path, "--label-column", "topics", "--label-column", "mood", "--sep", "topics=,", "--json")
    labels = json.loads(done.stdout)["labels"]
    assert "calm, kind" in json.dumps(labels)
    assert "x,y" not in json.dumps(labels)
    assert cli("inspect", path, "--label-column", "mood", "--sep", "topics=,").returncode in (0, 2)


def test_inspect_with_a_model_says_which_heads_have_no_column(table: Path, tmp_path: Path) -> None:
    model = tiny.model()
    model.save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    done = cli("inspect", table, "--model", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert "no column for the heads ['topic']: if another column holds their labels, name that column" in done.stdout
    assert "topic: 3 labels without rows" not in done.stdout
    options = ["--label-column", "topic=topics", "--sep", "topic=|", "--empty", "none"]
    named = cli("inspect", table, "--model", tmp_path / "model", *options)
    assert "no column" not in named.stdout
    found = json.loads(cli("inspect", table, "--model", tmp_path / "model", "--json").stdout)
    assert found["missing_columns"] == {"": ["topic"]}

"""The command line: what it prints, and how it fails."""

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pandas as pd
import pytest
import tiny
from safetensors.torch import load_file, save_file

from multihead_hf import MultiHeadModel, MultiHeadPredictor, infer_heads, inspect_dataset
from multihead_hf.cli import main
from multihead_hf.cli.options import separators
from multihead_hf.evaluation.thresholds import GRANULARITIES, METRICS
from multihead_hf.inference.explanation import METHODS
from multihead_hf.inference.gradients import BASELINES
from multihead_hf.inference.perturbation import QUANTITIES
from multihead_hf.inference.precision import AUTO, PRECISIONS
from multihead_hf.model.configuration_multihead import POOLINGS
from multihead_hf.model.head_multihead import EMPTY
from multihead_hf.publishing.export import FORMATS, QUANTIZE

ROWS = [
    {"text": "w1 w2 w3", "topics": "roads|noise", "mood": "calm"},
    {"text": "w1 w2 w3", "topics": "roads", "mood": "calm"},
    {"text": "", "topics": "", "mood": "angry"},
    {"text": "w4 w5", "topics": "waste", "mood": "calm"},
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    pd.DataFrame(ROWS).to_csv(path, index=False)
    return path


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def cli(*arguments: str | Path) -> Done:
    """The program in this process: starting one takes seconds."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["multihead-hf", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Done(code, out.getvalue(), err.getvalue())


def test_inspect_prints_what_the_call_gives(table: Path) -> None:
    options = ["--label-column", "topics", "--label-column", "feeling=mood", "--sep", "|", "--batch-size", "2"]
    options += ["--empty", "none"]
    done = cli("inspect", table, *options)
    assert done.returncode == 0, done.stderr
    columns = {"topics": "topics", "feeling": "mood"}
    heads = infer_heads(str(table), columns, sep="|", empty="none")
    report = inspect_dataset(str(table), heads, batch_size=2)
    assert done.stdout.rstrip() == str(report).rstrip()
    assert "1 texts occur several times with different labels" in done.stdout
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
    assert json.loads(done.stdout)["never"] == {"topic": ["waste"]}


def test_errors_are_one_line_and_exit_code_1(table: Path, tmp_path: Path) -> None:
    for arguments, expected in (
        ([tmp_path / "no.csv", "--label-column", "mood"], "no.csv: there is no such file"),
        ([table, "--label-column", "modo"], "Did you mean 'mood'?"),
        ([table, "--label-column", "mood", "--text-column", "tekst"], "there is no text column 'tekst'"),
        ([table, "--model", tmp_path], f"{tmp_path} is no saved model: it has no config.json"),
        (
            [table, "--model", tiny.save_encoder(tmp_path / "bert")],
            "is a model of the type 'bert', without named heads",
        ),
    ):
        done = cli("inspect", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("multihead-hf: ")
        assert expected in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stdout == ""
    with pytest.raises(ValueError, match="there is no such file"):
        cli("--debug", "inspect", tmp_path / "no.csv", "--label-column", "mood")


def test_the_program_is_installed(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("multihead-hf"), "inspect", "no.csv", "--label-column", "mood"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "multihead-hf: no.csv: there is no such file, and no file matches it.\n"


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


def test_wrong_usage_is_exit_code_2(table: Path) -> None:
    for arguments in (
        ["inspect"],
        ["inspect", str(table)],
        ["inspect", str(table), "--label-column", "=mood"],
        ["inspect", str(table), "--label-column", "mood", "--batch-size", "0"],
        ["inspct", str(table)],
    ):
        done = cli(*arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert "--label-column topic" in " ".join(cli("inspect", table).stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("command", "option", "known"),
    [
        ("inspect", "empty", EMPTY),
        ("tune-thresholds", "metric", METRICS),
        ("tune-thresholds", "granularity", GRANULARITIES),
        ("explain", "method", METHODS),
        ("explain", "baseline", BASELINES),
        ("explain", "quantity", QUANTITIES),
        ("predict", "precision", (AUTO, *PRECISIONS)),
        ("convert", "pooling", POOLINGS),
        ("export", "format", FORMATS),
        ("export", "quantize", QUANTIZE),
    ],
)
def test_choices_are_those_of_the_library(command: str, option: str, known: Iterable[str]) -> None:
    shown = cli(command, "--help").stdout
    assert re.search(rf"--{option} +[\[<]{re.escape('|'.join(known))}[]>]", shown), shown


def test_a_choice_that_there_is_not_is_wrong_usage() -> None:
    done = cli("explain", "model", "text", "--method", "shap")
    assert done.returncode == 2
    assert all(method in done.stderr for method in METHODS)


def test_without_typer_it_says_what_to_type() -> None:
    script = "import sys; sys.modules['typer'] = None; import multihead_hf.cli"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == 'the command line needs typer: pip install "multihead-hf[cli]"'


def test_help_names_every_command_and_option() -> None:
    assert "inspect" in cli("--help").stdout
    assert cli().returncode == 2
    shown = cli("inspect", "--help").stdout
    for option in ("--label-column", "--model", "--json", "--sep", "--rare-below"):
        assert option in shown


def test_inspect_with_a_model_says_which_heads_have_no_column(table: Path, tmp_path: Path) -> None:
    model = tiny.model()
    model.save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    done = cli("inspect", table, "--model", tmp_path / "model")
    assert done.returncode == 0, done.stderr
    assert "no column for the heads ['topic']: if another holds their labels, name it" in done.stdout
    assert "topic: 3 labels occur never" not in done.stdout
    options = ["--label-column", "topic=topics", "--sep", "topic=|", "--empty", "none"]
    named = cli("inspect", table, "--model", tmp_path / "model", *options)
    assert "no column" not in named.stdout
    found = json.loads(cli("inspect", table, "--model", tmp_path / "model", "--json").stdout)
    assert found["no_column"] == {"": ["topic"]}


def test_help_says_what_to_install_as_it_is_typed() -> None:
    for command in ("explain", "export", "demo", "report", "predict", "train"):
        shown = " ".join(cli(command, "--help").stdout.split())
        assert "multihead-hf or" not in shown
        assert '"multihead-hf"' not in shown


def saved(folder: Path) -> Path:
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def told(folder: Path) -> str:
    """What a command and the predictor say of a damaged folder: the same, in one line."""
    done = cli("explain", folder, "w1", "--head", "mood")
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)
    last = done.stderr.splitlines()[-1]
    with pytest.raises(ValueError, match=re.escape(str(folder))) as caught:
        MultiHeadPredictor.from_pretrained(folder)
    assert last == f"multihead-hf: {caught.value}"
    return last


@pytest.mark.parametrize("size", [0, 1000])
def test_damaged_weights_are_one_line(tmp_path: Path, size: int) -> None:
    weights = saved(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    assert f"{tmp_path}: model.safetensors is damaged, get it anew: " in told(tmp_path)


def test_a_damaged_config_is_one_line(tmp_path: Path) -> None:
    (saved(tmp_path) / "config.json").write_text("{")
    assert "cannot be had from the Hub" not in told(tmp_path)
    assert "config.json" in told(tmp_path)


@pytest.mark.parametrize("missing", [["tokenizer.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_a_model_without_tokenizer_is_one_line(tmp_path: Path, missing: list[str]) -> None:
    saved(tmp_path)
    for name in missing:
        (tmp_path / name).unlink()
    assert told(tmp_path).endswith(f"{tmp_path} has no tokenizer files ({', '.join(missing)})")


def test_a_damaged_tokenizer_is_one_line(tmp_path: Path) -> None:
    (saved(tmp_path) / "tokenizer.json").write_text('{"a": 1}')
    assert f"{tmp_path}: the tokenizer (tokenizer.json, tokenizer_config.json) cannot be read: " in told(tmp_path)


def test_what_is_no_model_is_one_line(tmp_path: Path) -> None:
    assert told(tmp_path).endswith(f"{tmp_path} is no saved model: it has no config.json")
    assert told(tmp_path / "nix").endswith("nix is no folder here, and no name on the Hub (such as OWNER/NAME)")
    (tmp_path / "file").write_text("")
    assert told(tmp_path / "file").endswith("file is a file: give the folder that it lies in")
    data = tmp_path / "rows.csv"
    data.write_text("text,mood\nw1,calm\n")
    done = cli("inspect", data, "--label-column", "mood", "--tokenizer", "/nix")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "/nix is no folder here, and no name on the Hub (such as OWNER/NAME)" in done.stderr


def test_a_head_without_weights_gives_no_random_labels(table: Path, tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["heads"].append({**config["heads"][0], "name": "extra"})
    (model / "config.json").write_text(json.dumps(config))
    expected = f"{model} has no weights for the heads ['extra'], whose labels would be random: train them"
    assert expected in told(model)
    for command in (
        ["predict", model, table, "-o", "out.csv", "--quiet"],
        ["evaluate", model, table, "--label-column", "topic=topics", "--sep", "|"],
        ["report", model, table, "-o", "report", "--label-column", "topic=topics", "--sep", "|"],
    ):
        done = cli(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert expected in done.stderr.splitlines()[-1]
    assert MultiHeadModel.from_pretrained(model).config.heads["extra"].num_labels == 3  # it warns, as before


def test_an_encoder_without_weights_gives_no_random_labels(tmp_path: Path) -> None:
    weights = saved(tmp_path) / "model.safetensors"
    state = {key: value for key, value in load_file(weights).items() if "word_embeddings" not in key}
    save_file(state, weights, metadata={"format": "pt"})
    assert f"{tmp_path} lacks weights of the encoder: encoder.embeddings.word_embeddings.weight" in told(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--label-column", "topc=topics"], "there is no head 'topc'. Did you mean 'topic'? Heads: ['topic', 'mood']"),
        (["--sep", "topc=|"], "there is no head 'topc'. Did you mean 'topic'? Heads: ['topic', 'mood']"),
        (["--empty", "topc=none"], "there is no head 'topc'. Did you mean 'topic'? Heads: ['topic', 'mood']"),
        (["--empty", "topic=nothing"], "'topic=nothing': give missing or none, or NAME=none. Did you mean 'none'?"),
        (["--sep", "colour=|"], "there is no head 'colour'. Heads: ['topic', 'mood']"),
        (["--sep", "topic=|", "--sep", "mod=,"], "there is no head 'mod'. Did you mean 'mood'?"),
    ],
)
def test_a_misspelt_head_is_named(table: Path, tmp_path: Path, arguments: list[str], expected: str) -> None:
    model = saved(tmp_path / "model")
    commands: list[list[Any]] = [["evaluate", model, table]]
    if arguments[0] == "--sep":
        commands.append(["inspect", table, "--model", model])
    for command in commands:
        done = cli(*command, *arguments)
        assert done.returncode == 2
        assert expected in done.stderr


def test_a_separator_may_hold_an_equals_sign() -> None:
    assert separators([" = "], ["topic"]) == " = "
    assert separators(["=>"], ["topic"]) == "=>"
    assert separators(["topic=|"], ["topic", "mood"]) == {"topic": "|"}
    assert separators([], ["topic"]) is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--head", "mood", "--threshold", "topic=0.2"],
            "'topic=0.2': head 'topic' is not predicted, --head names ['mood']",
        ),
        (["--head", "mood", "--threshold", "topic:roads=0.2"], "head 'topic' is not predicted, --head names ['mood']"),
        (
            ["--threshold", "topic:roads=.2", "--threshold", "topic:roads=.9"],
            "head 'topic', label 'roads': give one number",
        ),
    ],
)
def test_thresholds_that_would_not_be_read(table: Path, tmp_path: Path, arguments: list[str], expected: str) -> None:
    done = cli("predict", saved(tmp_path / "model"), table, "-o", tmp_path / "out.csv", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--precision", "0.99"], "--precision: f1 does not read it, --metric recall_at_precision does"),
        (["--costs", "1", "5"], "--costs: f1 does not read it, --metric cost does"),
        (["--metric", "cost", "--precision", "0.9"], "--precision: cost does not read it"),
    ],
)
def test_settings_of_another_metric_are_wrong_usage(arguments: list[str], expected: str) -> None:
    done = cli("tune-thresholds", "model", "rows.csv", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr

"""`multihead-hf explain`."""

import io
import json
import re
from pathlib import Path

import pytest
import tiny
from command_line import cli
from planted import PLANTED, planted_model

from multihead_hf import MultiHeadModel, explain

TEXT = f"w1 {PLANTED} w2"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    planted_model().save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_it_prints_what_the_call_gives(folder: Path, tmp_path: Path) -> None:
    done = cli("explain", folder, TEXT, "--head", "topic", "--label", "waste", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    model = MultiHeadModel.from_pretrained(folder)
    expected = explain(model, tiny.tokenizer(), TEXT, "topic", "waste")
    assert done.stdout == f"{expected}\n\nThe page is page.html\n"
    assert "probability 0." in done.stdout
    assert "additivity error" in done.stdout
    assert (tmp_path / "page.html").read_text() == expected.to_html()
    assert not list(tmp_path.glob(".*"))
    again = cli("explain", folder, TEXT, "--head", "topic", "--html", "page.html")
    assert again.returncode == 1
    assert again.stderr == "multihead-hf: page.html exists: --overwrite replaces it\n"
    replaced = cli("explain", folder, "w7", "--head", "topic", "--html", "page.html", "--overwrite")
    assert replaced.returncode == 0
    assert (tmp_path / "page.html").read_text() != expected.to_html()


def test_settings_and_json(folder: Path) -> None:
    flags = ["--head", "mood", "--method", "lime", "--num-samples", "50", "--seed", "3", "--json"]
    found = json.loads(cli("explain", folder, TEXT, *flags).stdout)
    model = MultiHeadModel.from_pretrained(folder)
    assert found == explain(model, tiny.tokenizer(), TEXT, "mood", method="lime", num_samples=50, seed=3).to_dict()
    pair = json.loads(cli("explain", folder, "w1", "--text-pair", TEXT, "--head", "mood", "--json").stdout)
    assert pair["text"] == ["w1", TEXT]
    for columns, flags in ((["text"], ["--text-pair", "w2"]), (["question", "answer"], [])):
        model.config.text_columns = columns
        model.save_pretrained(folder)
        done = cli("explain", folder, "w1", "--head", "mood", *flags)
        assert done.returncode == 2
        assert "was trained on the columns" in " ".join(done.stderr.split())
    folder_page = cli("explain", folder, "w1", "--head", "mood", "--html", folder, "--overwrite")
    assert "is a folder: give a file" in folder_page.stderr


def test_the_text_from_the_standard_input(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("w1 w7\nw2\n"))
    found = json.loads(cli("explain", folder, "-", "--head", "topic", "--method", "occlusion", "--json").stdout)
    assert found["text"] == "w1 w7\nw2"


def test_one_head_needs_no_name(folder: Path, tmp_path: Path) -> None:
    assert cli("explain", folder, TEXT).returncode == 2
    model = MultiHeadModel.from_pretrained(folder)
    model.remove_head("topic")
    model.save_pretrained(tmp_path / "single")
    tiny.tokenizer().save_pretrained(tmp_path / "single")
    assert "mood: angry" in cli("explain", tmp_path / "single", TEXT).stdout


def test_colours_in_a_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rich.console.Console.is_terminal", property(lambda _: True))
    shown = cli("explain", folder, TEXT, "--head", "topic", "--method", "occlusion").stdout
    assert re.search(r"^w1 \x1b\[[\d;]+mw7\x1b\[0m w2$", shown, flags=re.M)  # the whole text, before the table


def test_errors(folder: Path, tmp_path: Path) -> None:
    for arguments, expected in (
        ([folder, TEXT, "--head", "tpic"], "the model has no head 'tpic'. Did you mean 'topic'?"),
        ([folder, TEXT, "--head", "topic", "--label", "wast"], "has no label 'wast'. Did you mean 'waste'?"),
        ([folder, " ", "--head", "topic"], "the text is empty"),
        ([tmp_path, TEXT], f"{tmp_path} is not a saved model: it has no config.json"),
        ([folder, TEXT, "--head", "topic", "--html", "no/page.html"], "no/page.html: there is no folder no"),
    ):
        done = cli("explain", *arguments)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert expected in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    for flags in (
        ["--window", "2"],
        ["--method", "lime", "--max-steps", "3"],
        ["--method", "lime", "--quantity", "logit"],
    ):
        done = cli("explain", folder, TEXT, "--head", "topic", *flags)
        assert done.returncode == 2
        assert "does not use this option" in " ".join(done.stderr.split())


def test_help() -> None:
    shown = " ".join(cli("explain", "--help").stdout.split())
    for option in ("--head", "--label", "--method", "--html", "--json", "--overwrite", "--num-samples", "--text-pair"):
        assert option in shown
    assert "explain" in cli("--help").stdout

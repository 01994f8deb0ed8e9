"""What commands make of folders that hold no whole model."""

import json
import re
from pathlib import Path

import pytest
import tiny
from command_line import cli
from safetensors.torch import load_file, save_file

from multihead_hf import MultiHeadModel, MultiHeadPredictor


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
    assert f"{tmp_path}: model.safetensors is damaged, download or save it again: " in told(tmp_path)


def test_a_damaged_config_is_one_line(tmp_path: Path) -> None:
    (saved(tmp_path) / "config.json").write_text("{")
    assert "cannot be loaded from the Hub" not in told(tmp_path)
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
    assert told(tmp_path).endswith(f"{tmp_path} is not a saved model: it has no config.json")
    assert told(tmp_path / "nix").endswith("nix is neither a local folder nor a name on the Hub (such as OWNER/NAME)")
    (tmp_path / "file").write_text("")
    assert told(tmp_path / "file").endswith("file is a file: give the folder that contains it")
    data = tmp_path / "rows.csv"
    data.write_text("text,mood\nw1,calm\n")
    done = cli("inspect", data, "--label-column", "mood", "--tokenizer", "/nix")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "/nix is neither a local folder nor a name on the Hub (such as OWNER/NAME)" in done.stderr


def test_a_head_without_weights_gives_no_random_labels(table: Path, tmp_path: Path) -> None:
    model = saved(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    config["heads"].append({**config["heads"][0], "name": "extra"})
    (model / "config.json").write_text(json.dumps(config))
    expected = f"{model} has no weights for the heads ['extra'], whose predictions would be random: train them"
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
    lacking = "the checkpoint lacks weights of the encoder, which are random: 1 parameters (encoder.embeddings.word_emb"
    assert f"{tmp_path}: {lacking}" in told(tmp_path)

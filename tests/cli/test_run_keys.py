"""Wrong keys of a run are found without torch, and told in the same words as by `read_run_config`."""

from pathlib import Path

import pytest

from multihead_hf.cli.run_keys import check_run_keys
from multihead_hf.training.run_config import parse_change, read_run_config
from multihead_hf.training.run_help import EXAMPLE


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("modle: {encoder: x}", []),
        ("model: {encodr: x}", []),
        ("model: {learning_rate: 1}", []),
        ("training: {learning_rat: 1}", []),
        ("training: {encoder: x}", []),
        ("model: {encoder: x}\ndata: {train: x}\nheads: {topic: {colum: x}}", []),
        ("after_training: {report: true, tune_treshold: true}", []),
        ("1: {encoder: x}", []),
        (EXAMPLE, ["training.learning_rat=1e-4"]),
        (EXAMPLE, ["heads.topic.colum=x"]),
        (EXAMPLE, ["dta.train=x"]),
    ],
)
def test_a_wrong_key_is_told_as_by_the_reader(tmp_path: Path, text: str, changes: list[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="Unknown key '") as quick:
        check_run_keys(str(path), changes)
    with pytest.raises(ValueError, match="Unknown key '") as whole:
        read_run_config(path, dict(map(parse_change, changes)))
    assert str(quick.value) == str(whole.value)


def test_a_file_that_is_not_there_is_told_as_by_the_reader(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read") as quick:
        check_run_keys(str(tmp_path / "no.yaml"), [])
    with pytest.raises(ValueError, match="cannot be read") as whole:
        read_run_config(tmp_path / "no.yaml")
    assert str(quick.value) == str(whole.value)


@pytest.mark.parametrize(
    "text", [EXAMPLE, "", "[1, 2]", "{", "model: x\nheads: [1]", "heads: {topic: null}", "\0", "a: *b"]
)
def test_right_keys_and_what_is_the_readers_to_report_pass(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    check_run_keys(str(path), ["training.learning_rate=1e-4", "heads.topic.column=x", "data.split.train=0.5"])

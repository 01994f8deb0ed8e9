"""`from_encoder` follows an encoder's own sentence-transformers files, from a folder and from the Hub."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from hub_server import HubServer

from multihead_hf import MultiHeadConfig, MultiHeadModel

KIND = "sentence_transformers.models."
MEAN = {"pooling_mode": "mean"}
POOLED = ("Transformer", ""), ("Pooling", "1_Pooling")


def save(folder: Path, files: dict[str, Any], modules: Any = POOLED, family: str = "bert") -> Path:
    """A tiny encoder with sentence-transformers files; texts are written as they are."""
    tiny.save_encoder(folder, family)
    listed = [{"idx": i, "name": str(i), "path": path, "type": KIND + kind} for i, (kind, path) in enumerate(modules)]
    for name, content in {"modules.json": listed, **files}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def config_of(folder: Path, **settings: Any) -> MultiHeadConfig:
    return MultiHeadModel.from_encoder(folder, heads=tiny.two_heads(), **settings).config


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("multihead_hf"), "propagate", True)
    caplog.set_level(logging.INFO, "multihead_hf")
    return caplog


def warnings(logged: pytest.LogCaptureFixture) -> list[str]:
    ours = [record for record in logged.records if record.name.startswith("multihead_hf")]
    return [record.message for record in ours if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "max"}, "max"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": ["lasttoken"]}, "last"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"word_embedding_dimension": 32}, "mean"),  # nothing said is sentence-transformers' own default
    ],
)
def test_pooling_is_the_encoders_own(
    tmp_path: Path, pooling: dict[str, Any], expected: str, logged: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path, {"1_Pooling/config.json": pooling}, [*POOLED, ("Normalize", "2_Normalize")])
    config = config_of(folder)
    assert config.pooling == expected
    assert config.max_length is None
    assert config.text_prefix is None
    assert f"pooling={expected!r} taken from its sentence-transformers files" in logged.text
    assert warnings(logged) == []
    assert config_of(folder, pooling="max").pooling == "max"


@pytest.mark.parametrize(
    ("pooling", "shown"),
    [
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls + mean"),
        ({"pooling_mode": ["mean", "max"]}, "mean + max"),
        ({"pooling_mode": 3}, "3"),
    ],
)
def test_a_pooling_that_is_not_there_is_said_once(
    tmp_path: Path, pooling: dict[str, Any], shown: str, logged: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path, {"1_Pooling/config.json": pooling})
    assert config_of(folder).pooling == "cls"
    (said,) = warnings(logged)
    assert f"pooled with {shown}, which is not supported here: pooling='cls' is used" in said
    logged.clear()
    assert config_of(folder, pooling="mean").pooling == "mean"
    assert warnings(logged) == []


@pytest.mark.parametrize(
    ("family", "file", "length", "expected"),
    [
        ("bert", "sentence_bert_config.json", 24, 24),
        ("bert", "sentence_bert_config.json", 9999, 512),
        ("xlm-roberta", "sentence_xlm-roberta_config.json", 512, 65),
        ("distilbert", "sentence_distilbert_config.json", 32, 32),
        ("bert", "sentence_bert_config.json", None, None),
    ],
)
def test_max_length_is_the_encoders_own_within_its_positions(
    tmp_path: Path, family: str, file: str, length: int | None, expected: int | None
) -> None:
    folder = save(tmp_path, {file: {"max_seq_length": length}, "1_Pooling/config.json": MEAN}, family=family)
    assert config_of(folder).max_length == expected
    assert config_of(folder, max_length=7).max_length == 7
    assert config_of(folder, max_length=None).max_length is None


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({"query": "find: ", "Classification": "sort: "}, None, "sort: "),
        ({"query": "find: ", "classification": "sort: "}, "query", "sort: "),
        ({"query": "find: ", "passage": "text: "}, "passage", "text: "),
        ({"query": "find: ", "document": ""}, None, None),
        ({"query": "find: ", "document": ""}, "document", None),
        ({"query": "find: "}, "missing", None),
        ({"Classification": 3}, None, None),
        (["query"], None, None),
    ],
)
def test_only_a_certain_prompt_becomes_the_prefix(
    tmp_path: Path, prompts: Any, default: str | None, expected: str | None, logged: pytest.LogCaptureFixture
) -> None:
    files = {"config_sentence_transformers.json": {"prompts": prompts, "default_prompt_name": default}}
    folder = save(tmp_path, {**files, "1_Pooling/config.json": MEAN})
    assert config_of(folder).text_prefix == expected
    named = "none of its prompts is used; set text_prefix to use one: {'query': 'find: '}" in logged.text
    assert named == (expected is None and isinstance(prompts, dict) and "query" in prompts)
    assert config_of(folder, text_prefix="own: ").text_prefix == "own: "
    assert config_of(folder, text_prefix=None).text_prefix is None


def test_further_modules_are_left_out_with_one_warning(tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    modules = [*POOLED, ("Dense", "2_Dense"), ("Normalize", "3_Normalize")]
    folder = save(tmp_path, {"1_Pooling/config.json": MEAN}, modules)
    assert config_of(folder).pooling == "mean"
    (said,) = warnings(logged)
    assert "ignored, and the heads use the vectors without them: Dense (2_Dense)" in said


def test_an_encoder_without_such_files_is_read_as_before(tmp_path: Path, logged: pytest.LogCaptureFixture) -> None:
    config = config_of(tiny.save_encoder(tmp_path))
    assert (config.pooling, config.max_length, config.text_prefix) == ("cls", None, None)
    assert warnings(logged) == []
    files = {"1_Pooling/config.json": MEAN}
    assert config_of(save(tmp_path / "other", files, [("StaticEmbedding", ""), POOLED[1]])).pooling == "cls"
    assert config_of(save(tmp_path / "alone", {}, [("Transformer", "")])).pooling == "cls"
    assert warnings(logged) == []


@pytest.mark.parametrize(
    ("name", "content", "pooling", "problem"),
    [
        ("modules.json", "[{", "cls", "modules.json cannot be read and is ignored: Expecting"),
        ("modules.json", {"type": "x"}, "cls", "it holds a dict, but a list was expected"),
        ("modules.json", [{"path": ""}], "cls", "modules.json is ignored: no 'type' and 'path' in {'path': ''}"),
        ("1_Pooling/config.json", "", "cls", "1_Pooling/config.json cannot be read and is ignored"),
        ("sentence_bert_config.json", "[]", "mean", "it holds a list, but a dict was expected"),
        ("config_sentence_transformers.json", '{"prompts"', "mean", "config_sentence_transformers.json cannot be read"),
    ],
)
def test_a_damaged_file_is_warned_about_and_ignored(
    tmp_path: Path, name: str, content: Any, pooling: str, problem: str, logged: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path, {"1_Pooling/config.json": MEAN, name: content})
    config = config_of(folder)
    assert (config.pooling, config.max_length, config.text_prefix) == (pooling, None, None)
    assert any(problem in said for said in warnings(logged)), warnings(logged)


CLIENT = """
import json, sys
import tiny
from multihead_hf import MultiHeadModel
found = MultiHeadModel.from_encoder(sys.argv[1], heads=tiny.two_heads()).config
print(json.dumps([found.pooling, found.max_length, found.text_prefix]))
"""


@pytest.mark.slow
def test_files_on_the_hub_are_followed_online_and_offline(tmp_path: Path) -> None:
    files = {"1_Pooling/config.json": MEAN, "sentence_bert_config.json": {"max_seq_length": 48}}
    prompts = {"prompts": {"classification": "sort: "}}
    save(tmp_path / "with", {**files, "config_sentence_transformers.json": prompts})
    tiny.save_encoder(tmp_path / "without")
    with HubServer(tmp_path / "hub") as hub:
        hub.add_model("org/with", tmp_path / "with")
        hub.add_model("org/without", tmp_path / "without")
        environment = {**hub.env(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        tests = Path(__file__).parents[1]
        environment["PYTHONPATH"] = os.pathsep.join([str(tests / "helpers"), str(tests.parent)])
        for offline in ({}, {"HF_HUB_OFFLINE": "1"}):
            for repo, expected in (("org/with", ["mean", 48, "sort: "]), ("org/without", ["cls", None, None])):
                done = subprocess.run(
                    [sys.executable, "-c", CLIENT, repo],
                    env={**environment, **offline},
                    capture_output=True,
                    text=True,
                    timeout=120,
                )
                assert done.returncode == 0, done.stderr[-3000:]
                assert json.loads(done.stdout.splitlines()[-1]) == expected
        assert hub.strays == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {
                "1_Pooling/config.json": {**MEAN, "include_prompt": False},
                "config_sentence_transformers.json": {"prompts": {"classification": "about: "}},
            },
            "its prompt is left out of the pooling",
        ),
        (
            {"1_Pooling/config.json": MEAN, "sentence_bert_config.json": {"do_lower_case": True}},
            "it was trained on texts in lower case",
        ),
        (
            {"1_Pooling/config.json": MEAN, "sentence_bert_config.json": {"max_seq_length": "20"}},
            "max_seq_length '20' is no whole number",
        ),
        ({}, "its modules.json names a Pooling, but 1_Pooling/config.json was not read: pooling='cls' is used"),
        (
            {
                "1_Pooling/config.json": MEAN,
                "config_sentence_transformers.json": {"prompts": {"query": "q: "}, "default_prompt_name": "search"},
            },
            "its prompt 'search' is no text among",
        ),
    ],
)
def test_what_cannot_be_followed_is_said(
    tmp_path: Path, files: dict, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save(tmp_path, files)
    with caplog.at_level("WARNING"):
        model = MultiHeadModel.from_encoder(folder, heads=tiny.two_heads())
    assert message in caplog.text
    assert not model.config.text_prefix

"""`multihead-hf evaluate` with other backends, and of exported graphs."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_line import cli
from huggingface_hub import constants

from multihead_hf import HeadConfig, MultiHeadPredictor

pytest.importorskip("transformers.exporters", reason="the exporters need a newer transformers")
COLUMNS = ("--label-column", "topic=topic_labels", "--label-column", "mood")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))


def rows_and_model(folder: Path, **settings: Any) -> None:
    tiny.table(120).to_parquet(folder / "rows.parquet")
    heads = {
        "topic": HeadConfig(tiny.TOPICS, "multi_label_classification", loss="soft_f1_bce", learn_thresholds=0.4),
        "mood": HeadConfig(tiny.MOODS),
    }
    tiny.model(heads=heads, **settings).save_pretrained(folder / "model")
    tiny.tokenizer().save_pretrained(folder / "model")


def figures(*arguments: str) -> dict[str, Any]:
    done = cli("evaluate", *arguments, "rows.parquet", *COLUMNS, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WINDOWS = {"max_length": 6, "truncation": "windows", "max_windows": 3, "stride": 1}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, WINDOWS], ids=["texts", "windows"])
@pytest.mark.parametrize("backend", ["openvino", pytest.param("onnx", marks=pytest.mark.nightly)])
def test_the_metrics_are_those_of_pytorch(tmp_path: Path, backend: str, settings: dict[str, Any]) -> None:
    rows_and_model(tmp_path, **settings)
    expected = figures("model")
    assert expected["topic_f1_micro"] > 0.1
    found = figures("model", "--backend", backend)
    assert found == pytest.approx(expected, abs=1e-4)
    said = cli("evaluate", "model", "rows.parquet", *COLUMNS, "--backend", backend).stdout
    assert said.endswith(f"\nComputed by {backend} in fp32\n")


@pytest.mark.slow
def test_an_exported_graph_is_evaluated(tmp_path: Path) -> None:
    rows_and_model(tmp_path)
    assert cli("export", "model", "-o", "graph", "--format", "openvino").returncode == 0
    assert figures("graph") == pytest.approx(figures("model"), abs=1e-4)
    expected = json.loads(cli("evaluate", "model", "rows.parquet", *COLUMNS, "--intervals", "--json").stdout)
    done = cli("evaluate", "graph", "rows.parquet", *COLUMNS, "--intervals", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == expected


@pytest.mark.slow
def test_an_option_that_a_graph_cannot_follow_is_refused(tmp_path: Path) -> None:
    rows_and_model(tmp_path)
    assert cli("export", "model", "-o", "graph", "--format", "openvino").returncode == 0
    done = cli("evaluate", "graph", "rows.parquet", *COLUMNS, "--backend", "torch")
    assert done.returncode == 1
    assert "graph holds a graph for openvino, not for 'torch': leave backend out" in done.stderr
    assert cli("evaluate", "graph", "rows.parquet", *COLUMNS, "--precision", "int8").returncode == 1


def test_a_head_that_predicts_almost_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny.table(120).to_parquet(tmp_path / "rows.parquet")
    topic = HeadConfig(tiny.TOPICS, "multi_label_classification", thresholds=[0.999] * 3)
    tiny.model(heads={"topic": topic}).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    assert cli("evaluate", "model", "rows.parquet", *COLUMNS[:2]).returncode == 0
    assert "head 'topic' reached no threshold on " in caplog.text


def test_pytorch_computes_what_is_not_asked_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows_and_model(tmp_path)

    def none(*_: Any, **__: Any) -> None:
        raise AssertionError("a predictor was made")

    monkeypatch.setattr(MultiHeadPredictor, "from_pretrained", none)
    assert figures("model")


def test_a_wrong_backend(tmp_path: Path) -> None:
    rows_and_model(tmp_path)
    done = cli("evaluate", "model", "rows.parquet", *COLUMNS, "--backend", "openvin")
    assert done.returncode == 2
    assert "openvino" in done.stderr

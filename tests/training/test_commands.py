"""`multihead-hf evaluate` and `tune-thresholds` on a saved model."""

import json
from pathlib import Path

import pytest
import tiny
from test_cli import cli
from training_runs import trainer_for

from multihead_hf import MultiHeadModel, calibrate, tune_thresholds

COLUMNS = ["--label-column", "topic=topic_labels", "--label-column", "mood"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    trainer = trainer_for(folder, model=tiny.model(pooling="mean"), num_train_epochs=3, learning_rate=5e-3)
    trainer.train()
    trainer.evaluate()
    trainer.save_model()
    tiny.table(60).to_parquet(tmp_path / "rows.parquet")
    return folder


def test_evaluate_prints_the_figures_of_the_trainer(saved: Path, tmp_path: Path) -> None:
    done = cli("evaluate", saved, tmp_path / "rows.parquet", "--json", *COLUMNS)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    trainer = trainer_for(tmp_path / "x", model=MultiHeadModel.from_pretrained(saved))
    expected = trainer.evaluate(tiny.table(60))
    for key, value in found.items():
        assert value == pytest.approx(expected[f"eval_{key}"], abs=1e-5), key
    assert {"f1", "loss", "topic_f1_micro", "mood_mcc"} <= set(found)
    assert not {"runtime", "samples_per_second"} & set(found)
    table = cli("evaluate", saved, tmp_path / "rows.parquet", *COLUMNS).stdout
    assert f"{found['topic_f1_micro']:.4f}" in table
    assert "eval_" not in table
    intervals = json.loads(
        cli("evaluate", saved, tmp_path / "rows.parquet", "--intervals", "--draws", "20", "--json", *COLUMNS).stdout
    )
    assert intervals["heads"]["mood"]["accuracy"]["value"] == pytest.approx(found["mood_accuracy"])


def test_tune_thresholds_changes_the_folder_as_the_call_changes_the_model(saved: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir() if path.is_file()}
    arguments = ["tune-thresholds", saved, tmp_path / "rows.parquet", "--min-support", "1", *COLUMNS]
    dry = cli(*arguments, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "Nothing was changed" in dry.stdout
    assert {path.name: path.read_bytes() for path in saved.iterdir() if path.is_file()} == before
    model = MultiHeadModel.from_pretrained(saved)
    expected = tune_thresholds(model, tiny.table(60), min_support=1, tokenizer=tiny.tokenizer())
    done = cli(*arguments, "--json")
    assert json.loads(done.stdout)["thresholds"]["topic"]["thresholds"] == pytest.approx(
        expected.heads["topic"].thresholds, abs=1e-6
    )
    again = MultiHeadModel.from_pretrained(saved)
    assert again.config.heads["topic"].thresholds == pytest.approx(model.config.heads["topic"].thresholds, abs=1e-6)
    changed = {path.name for path in saved.iterdir() if path.is_file() and path.read_bytes() != before[path.name]}
    assert changed == {"config.json", "README.md", "model_card.json"}
    assert "were changed after the figures above" in (saved / "README.md").read_text()
    assert list(json.loads((saved / "config.json").read_text())) == list(json.loads(before["config.json"]))


def test_calibration_on_the_way(saved: Path, tmp_path: Path) -> None:
    model = MultiHeadModel.from_pretrained(saved)
    expected = calibrate(model, tiny.table(60), tokenizer=tiny.tokenizer())
    arguments = ["--calibrate", "--per", "head", "--metric", "cost", "--costs", "1", "5"]
    done = cli("tune-thresholds", saved, tmp_path / "rows.parquet", *arguments, *COLUMNS)
    assert done.returncode == 0, done.stderr
    found = MultiHeadModel.from_pretrained(saved).config.heads["mood"].calibration_temperature
    assert found == pytest.approx(expected.heads["mood"].temperature, rel=1e-4)
    assert "ECE before" in done.stdout


def test_bad_input(saved: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    for arguments, code, message in (
        (["evaluate", saved, rows, "--split", "test"], 1, "these rows are not in parts"),
        (["tune-thresholds", saved, rows, "--metric", "f2", *COLUMNS], 1, "unknown metric 'f2'"),
        (["tune-thresholds", saved, rows, "--head", "mood", *COLUMNS], 1, "thresholds are for multi-label heads"),
        (["tune-thresholds", saved, rows, "--head", "topik", *COLUMNS], 1, "Did you mean 'topic'"),
        (["evaluate", saved, tmp_path / "nothing.csv"], 1, "nothing.csv"),
        (["evaluate", tmp_path, rows], 1, "it has no config.json"),
        (["evaluate", saved], 2, "Missing argument"),
    ):
        done = cli(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert message in done.stderr, arguments
        assert "Traceback" not in done.stderr

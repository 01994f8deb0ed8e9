"""`multihead-hf evaluate` and `tune-thresholds` on a saved model."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from command_line import cli
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
    summary, _, *lines = table.splitlines()
    assert summary == f"mean F1 {found['f1']:.4f}"
    assert [line.split()[:4] for line in lines] == [["topic", "3", "55", "5"], ["mood", "2", "55", "5"]]
    intervals = json.loads(
        cli(
            "evaluate", saved, tmp_path / "rows.parquet", "--intervals", "--n-resamples", "20", "--json", *COLUMNS
        ).stdout
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
    assert "were changed after the metrics above" in (saved / "README.md").read_text()
    assert list(json.loads((saved / "config.json").read_text())) == list(json.loads(before["config.json"]))


def test_a_folder_whose_thresholds_are_kept_is_not_written(saved: Path, tmp_path: Path) -> None:
    before = {path.name: path.read_bytes() for path in saved.iterdir() if path.is_file()}
    # no head has so many positives
    done = cli("tune-thresholds", saved, tmp_path / "rows.parquet", "--min-support", "1000", *COLUMNS)
    assert done.returncode == 0, done.stderr
    assert "topic: kept as they were: the number of positive labels is" in done.stdout
    assert "Nothing was changed" in done.stdout
    assert {path.name: path.read_bytes() for path in saved.iterdir() if path.is_file()} == before


@pytest.mark.slow
def test_learned_thresholds_are_replaced_and_the_model_still_loads(tmp_path: Path) -> None:
    heads = tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.565)
    trainer = trainer_for(tmp_path / "model", model=tiny.model(heads=heads), max_steps=1)
    trainer.train()
    trainer.save_model()
    tiny.table(60).to_parquet(tmp_path / "rows.parquet")
    before = trainer.model.state_dict()
    done = cli("tune-thresholds", tmp_path / "model", tmp_path / "rows.parquet", "--min-support", "1", *COLUMNS)
    assert done.returncode == 0, done.stderr
    found = MultiHeadModel.from_pretrained(tmp_path / "model")
    assert found.config.heads["topic"].learn_thresholds is None
    assert found.config.heads["topic"].thresholds != [pytest.approx(0.565)] * 3
    for key, value in found.state_dict().items():
        assert torch.equal(before[key], value), key
    code = "from transformers import AutoModel; AutoModel.from_pretrained('model', trust_remote_code=True)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not [path for path in (tmp_path / "model").iterdir() if path.name.startswith(("_", "."))]


def test_a_broken_file_stops_it_before_anything_is_changed(saved: Path, tmp_path: Path) -> None:
    (saved / "model_card.json").write_text("{")
    before = (saved / "config.json").read_bytes()
    done = cli("tune-thresholds", saved, tmp_path / "rows.parquet", *COLUMNS)
    assert done.returncode == 1
    assert (saved / "config.json").read_bytes() == before


def test_a_claimed_card_does_not_hide_that_figures_are_stale(saved: Path, tmp_path: Path) -> None:
    (saved / "README.md").write_text("# Mine")
    assert cli("tune-thresholds", saved, tmp_path / "rows.parquet", "--min-support", "1", *COLUMNS).returncode == 0
    assert (saved / "README.md").read_text() == "# Mine"
    assert cli("card", saved, "--replace").returncode == 0
    assert "were changed after the metrics above" in (saved / "README.md").read_text()


def test_heads_with_one_label_a_row_can_be_calibrated_alone(saved: Path, tmp_path: Path) -> None:
    done = cli("tune-thresholds", saved, tmp_path / "rows.parquet", "--calibrate", "--head", "mood", *COLUMNS)
    assert done.returncode == 0, done.stderr
    heads = MultiHeadModel.from_pretrained(saved).config.heads
    assert heads["mood"].calibration_temperature is not None
    assert heads["topic"].thresholds is None


def test_calibration_on_the_way(saved: Path, tmp_path: Path) -> None:
    model = MultiHeadModel.from_pretrained(saved)
    expected = calibrate(model, tiny.table(60), tokenizer=tiny.tokenizer())
    arguments = ["--calibrate", "--granularity", "head", "--metric", "cost", "--costs", "1", "5"]
    done = cli("tune-thresholds", saved, tmp_path / "rows.parquet", *arguments, *COLUMNS)
    assert done.returncode == 0, done.stderr
    found = MultiHeadModel.from_pretrained(saved).config.heads["mood"].calibration_temperature
    assert found == pytest.approx(expected.heads["mood"].temperature, rel=1e-4)
    assert "ECE before" in done.stdout


def test_bad_input(saved: Path, tmp_path: Path) -> None:
    rows, texts, unlabelled = (tmp_path / f"{name}.parquet" for name in ("rows", "texts", "unlabelled"))
    tiny.table(4).map(lambda _: {"mood": None}).remove_columns("topic_labels").to_parquet(unlabelled)
    tiny.table(4).rename_column("mood", "colour").rename_column("topic_labels", "x").to_parquet(texts)
    for arguments, code, message in (
        (["evaluate", saved, rows, "--split", "test"], 1, "these rows have no splits"),
        (["tune-thresholds", saved, rows, "--metric", "f2", *COLUMNS], 2, "'f2' is not one of 'f1'"),
        (["tune-thresholds", saved, rows, "--head", "mood", *COLUMNS], 1, "thresholds are for multi-label heads"),
        (["tune-thresholds", saved, rows, "--head", "topik", *COLUMNS], 1, "Did you mean 'topic'"),
        (["evaluate", saved, tmp_path / "nothing.csv"], 1, "nothing.csv"),
        (["evaluate", tmp_path, rows], 1, "it has no config.json"),
        (["evaluate", saved], 2, "Missing argument"),
        (["evaluate", saved, texts], 1, "no column holds labels of the heads ['topic', 'mood']"),
        (["evaluate", saved, unlabelled, "--json"], 1, "no row of the dataset is labelled"),
    ):
        done = cli(*arguments)
        assert done.returncode == code, (arguments, done.stderr)
        assert message in done.stderr, arguments
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--precision", "0.99"],
            "--precision: --metric f1 does not use this option, only --metric recall_at_precision does",
        ),
        (["--costs", "1", "5"], "--costs: --metric f1 does not use this option, only --metric cost does"),
        (["--metric", "cost", "--precision", "0.9"], "--precision: --metric cost does not use this option"),
    ],
)
def test_settings_of_another_metric_are_wrong_usage(arguments: list[str], expected: str) -> None:
    done = cli("tune-thresholds", "model", "rows.csv", *arguments)
    assert done.returncode == 2
    assert expected in done.stderr

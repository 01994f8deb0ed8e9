"""A run from a YAML file is the run that one would write by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import torch
import yaml
from command_line import cli
from datasets import ClassLabel, Dataset, Features, Value
from training_runs import weights
from transformers import AutoTokenizer, set_seed

from multihead_hf import (
    HeadConfig,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    infer_heads,
    stratified_split,
    train_from_config,
)
from multihead_hf.training.run_config import parse_change, read_run_config
from multihead_hf.training.run_help import EXAMPLE

QUIET = {"use_cpu": True, "disable_tqdm": True, "report_to": "none", "save_strategy": "no", "seed": 3}
TRAINING = {"num_train_epochs": 2, "learning_rate": 1e-3, "head_learning_rate": 1e-2, **QUIET}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tiny.save_encoder(tmp_path / "encoder")
    table = tiny.table(60).to_pandas()
    rows = {
        "text": table["text"],
        "topics": ["|".join(topics) if topics is not None else None for topics in table["topic_labels"]],
        "mood": [None if pd.isna(mood) else tiny.MOODS[int(mood)] for mood in table["mood"]],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(**sections: Any) -> dict[str, Any]:
    return {
        "model": {"encoder": "encoder", "pooling": "mean"},
        "heads": {"topic": {"column": "topics", "sep": "|", "empty": "none", "loss": "soft_f1_bce"}, "mood": None},
        "data": {"train": "rows.csv", "split": {"train": 0.8, "validation": 0.2}},
        "training": {"output_dir": "out", **TRAINING},
        **sections,
    }


def by_hand(folder: Path) -> MultiHeadTrainer:
    reading: dict[str, Any] = {"sep": {"topic": "|"}, "empty": {"topic": "none"}}
    columns = {"topic": "topics", "mood": "mood"}
    heads = infer_heads("rows.csv", columns, **reading)
    heads["topic"] = HeadConfig(heads["topic"].labels, heads["topic"].problem_type, loss="soft_f1_bce")
    parts = stratified_split("rows.csv", heads, [0.8, 0.2], label_columns=columns, **reading)
    args = MultiHeadTrainingArguments("hand", label_columns=columns, **reading, **TRAINING)
    set_seed(3)
    trainer = MultiHeadTrainer(
        model=MultiHeadModel.from_encoder("encoder", heads=heads, pooling="mean"),
        args=args,
        processing_class=AutoTokenizer.from_pretrained("encoder"),
        train_dataset=parts["train"],
        eval_dataset=parts["validation"],
    )
    trainer.train()
    return trainer


def test_the_command_the_call_and_the_run_by_hand_are_one(folder: Path) -> None:
    hand = by_hand(folder)
    start = MultiHeadModel.from_encoder("encoder", heads=hand.config.heads, pooling="mean")
    called = train_from_config(config())
    Path("run.yaml").write_text(yaml.safe_dump(config(), sort_keys=False))
    done = cli("train", "run.yaml", "--set", "training.output_dir=command", "--json")
    assert done.returncode == 0, done.stderr
    trained, expected = weights(called.trainer.model), weights(hand.model)
    assert any(not torch.equal(trained[key], own) for key, own in weights(start).items() if "encoder" in key)
    saved = weights(MultiHeadModel.from_pretrained("command"))
    kept = read_run_config("command/run.yaml")
    assert kept == read_run_config(config(training={**config()["training"], "output_dir": "command"}))
    again = cli("train", "command/run.yaml", "--overwrite", "--set", "training.max_steps=1")
    assert "command/run.yaml stays as it is, without the changes of --set" in again.stderr
    assert read_run_config("command/run.yaml") == kept
    for key, value in expected.items():
        assert torch.equal(trained[key], value), key
        assert torch.equal(saved[key], value), key
    figures = {key.removeprefix("eval_"): value for key, value in hand.evaluate().items()}
    for key, value in called.metrics.items():
        assert value == pytest.approx(figures[key]), key
    printed = json.loads(done.stdout)
    assert printed == pytest.approx(called.metrics)
    assert called.trainer.config.heads["topic"].loss == "soft_f1_bce"
    assert called.trainer.config.heads["mood"].problem_type == "single_label_classification"


def test_what_is_done_at_the_end(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = {"train": "rows.csv", "split": {"train": 0.6, "validation": 0.2, "test": 0.2}}
    done = train_from_config(
        config(data=data, after_training={"calibrate": True, "tune_thresholds": True, "report": True})
    )
    assert done.messages[2] == "On the test rows:"
    table, report = done.messages[3:]
    assert report.endswith("\nThe report is out/_report/report.html")
    assert table.startswith("test  epoch 2  step ")
    assert f"{done.metrics['topic_f1_micro']:.4f}" in table
    assert "test  epoch 2" not in capsys.readouterr().out  # it is not shown twice
    saved = MultiHeadModel.from_pretrained("out").config.heads
    assert "\ntopic: kept as they were: " in done.messages[1]  # 12 rows show no better ones
    assert set(saved["topic"].thresholds or []) == {0.5}
    assert saved["mood"].calibration_temperature is not None
    assert json.loads(Path("out/_report/report.json").read_text())["baseline"]["heads"] == ["topic", "mood"]
    assert "| Linear baseline |" in Path("out/README.md").read_text()
    assert "topic_f1_micro" in done.metrics
    assert done.trainer.last_evaluation is not None
    table_of_run, mistakes = pd.read_csv("rows.csv"), pd.read_parquet("out/_report/mistakes.parquet")
    assert len(mistakes)
    assert list(table_of_run["text"][mistakes["row"]]) == list(mistakes["text"])
    assert "the number of the row in your table, from 0" in Path("out/_report/report.html").read_text()


def test_a_missing_text_has_its_row_in_the_table(folder: Path) -> None:
    rows = [{"text": f"w{row}", "mood": ["calm", "angry"][row % 2]} for row in range(60)]
    rows[47]["text"] = None
    Path("rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match=r"^data.train: row 47, column 'text': the text is None"):
        train_from_config(
            config(heads={"mood": {}}, data={"train": "rows.jsonl", "split": {"train": 0.8, "test": 0.2}})
        )


def test_the_report_may_have_no_baseline(folder: Path) -> None:
    train_from_config(config(after_training={"report": True, "baseline": False}))
    assert json.loads(Path("out/_report/report.json").read_text())["baseline"] is None
    assert "baseline" not in Path("out/README.md").read_text()


def test_a_trained_run_goes_on_where_thresholds_cannot_be_tuned(folder: Path) -> None:
    rows = pd.read_csv("rows.csv")
    rows[:40].to_csv("train.csv", index=False)
    rows[40:43].to_csv("few.csv", index=False)
    data = {"train": "train.csv", "validation": "few.csv"}
    done = train_from_config(config(data=data, after_training={"tune_thresholds": True}))
    assert re.search(r"^The thresholds were not tuned: .*labelled", done.messages[0])
    assert "topic_f1_micro" in done.metrics


def test_a_saved_model_gets_a_head_that_it_lacks(folder: Path) -> None:
    train_from_config(config(heads={"mood": {}}))
    before = weights(MultiHeadModel.from_pretrained("out"))
    heads = {"topic": {"column": "topics", "sep": "|", "empty": "missing"}}
    training = {**TRAINING, "output_dir": "more", "train_heads": ["topic"], "freeze_encoder": True}
    train_from_config(config(model={"start_from": "out"}, heads=heads, training=training))
    after = MultiHeadModel.from_pretrained("more")
    assert list(after.config.heads) == ["mood", "topic"]
    for key, value in before.items():
        assert torch.equal(weights(after)[key], value), key
    with pytest.raises(ValueError, match=r"heads\.mood: the saved model already has this head and its settings"):
        train_from_config(config(model={"start_from": "out"}, heads={"mood": {"dropout": 0.3}}))


def test_parts_of_a_folder_and_several_sets(folder: Path) -> None:
    rows = pd.read_csv("rows.csv")
    Path("parts").mkdir()
    rows[:40].to_csv("parts/train.csv", index=False)
    rows[40:].to_csv("parts/dev.csv", index=False)
    done = train_from_config(config(data={"train": "parts"}))
    assert len(done.trainer.train_dataset) == 40
    assert "topic_f1_micro" in done.metrics
    assert "\nOn the validation rows, 20 rows:\n" in Path("out/README.md").read_text(encoding="utf-8")
    rows[["text", "topics"]].to_csv("topics.csv", index=False)
    rows[["text", "mood"]].to_csv("moods.csv", index=False)
    several = {"train": {"a": "topics.csv", "b": "moods.csv"}, "validation": "rows.csv"}
    done = train_from_config(config(data=several))
    assert len(done.trainer.train_dataset) == 120
    assert {"topic_f1_micro", "mood_f1_macro"} <= set(done.metrics)


def test_a_head_has_the_labels_of_all_datasets(folder: Path) -> None:
    Path("a.csv").write_text("text,mood\nw1,happy\nw2,sad\nw3,happy\n")
    Path("b.csv").write_text("text,mood\nw1,angry\nw2,happy\n")
    data = {"train": {"a": "a.csv", "b": "b.csv"}}
    done = train_from_config(config(heads={"mood": {}}, data=data, after_training={}))
    assert done.trainer.config.heads["mood"].labels == ["angry", "happy", "sad"]
    Path("empty.csv").write_text("text,mood\nw1,\nw2,\n")
    data = {"train": {"empty": "empty.csv", "a": "a.csv", "b": "b.csv"}}
    done = train_from_config(config(heads={"mood": {}}, data=data, after_training={}))
    assert done.trainer.config.heads["mood"].labels == ["angry", "happy", "sad"]
    named = Features({"text": Value("string"), "mood": ClassLabel(names=["happy", "calm"])})
    Dataset.from_dict({"text": ["w1", "w2"], "mood": [1, 0]}, features=named).to_parquet("c.parquet")
    data = {"train": {"c": "c.parquet", "a": "a.csv"}}
    done = train_from_config(config(heads={"mood": {}}, data=data, after_training={}))
    assert done.trainer.config.heads["mood"].labels == ["calm", "happy", "sad"]
    Path("b.jsonl").write_text('{"text": "w1", "mood": ["happy"]}\n')
    data = {"train": {"a": "a.csv", "b": "b.jsonl"}}
    with pytest.raises(ValueError, match=r"b, column 'mood': the type is List.* in a; make them one type"):
        train_from_config(config(heads={"mood": {}}, data=data, after_training={}))


def test_a_run_goes_on_from_its_checkpoint(folder: Path) -> None:
    saving = {**TRAINING, "output_dir": "out", "save_strategy": "epoch"}
    whole = train_from_config(config(training=saving))
    expected = weights(whole.trainer.model)
    for path in Path("out").glob("checkpoint-*"):
        if path.name != "checkpoint-6":
            path.rename(f"out/_{path.name}")
    done = train_from_config(config(training=saving), resume=True)
    for key, value in expected.items():
        assert torch.equal(weights(done.trainer.model)[key], value), key
    with pytest.raises(ValueError, match="No valid checkpoint"):
        train_from_config(config(training={**saving, "output_dir": "none"}), resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("modle.encoder=x", r"Unknown key 'modle'\. Did you mean 'model'"),
        ("training.learnig_rate=1", r"Unknown key 'training\.learnig_rate'\. Did you mean 'learning_rate'"),
        ("model.learning_rate=1", r"Unknown key 'model\.learning_rate'\. 'learning_rate' is a key of training"),
        ("heads.topic.colum=x", r"Unknown key 'heads\.topic\.colum'\. Did you mean 'column'"),
        ("training.num_train_epochs=three", r"training\.num_train_epochs: expected a number, not 'three'"),
        ("training.use_cpu=1", r"training\.use_cpu: expected true or false, not 1"),
        ("data.split=0.8", r"data\.split: expected keys and values, not 0\.8"),
        (
            "data.split={train: 0.8, val: 0.2}",
            r"data\.split\.val: the splits are train, validation, test\. Did you mean",
        ),
        ("data.split={validation: 0.5, test: 0.5}", r"data\.split: give a fraction for train"),
        ("heads.mood=mood", r"heads\.mood: keys and values are expected, such as \{column: mood\}"),
        ("heads.topic.sep=5", r"heads\.topic\.sep: expected a string, not 5"),
        ("heads.topic.empty=nothing", r"heads\.topic: unknown empty 'nothing'.*missing, none"),
        ("heads.topic.empty=null", r"head 'topic', column 'topics': \d+ of 60 cells are empty.*empty=\"none\" if none"),
        ("training.sep='|'", r"training\.sep: set it in one place only, heads\.<name>\.sep or here"),
        ("training.empty=none", r"training\.empty: set it in one place only, heads\.<name>\.empty or here"),
        ("after_training.report=1", r"after_training\.report: expected true or false, not 1"),
        ("data.train=null", r"data\.train: name the rows to train on"),
        ("data.train=row.csv", r"row\.csv: there is no such file.*'rows\.csv'"),
        ("model.start_from=out", "give an encoder, or a saved model as start_from, but not both"),
        ("heads.topic.column=topic", r"topic.*topics"),
        ("heads.topic.loss=soft_f2", r"heads\.topic: .*soft_f1"),
        (
            "after_training.early_stopping_patience=2",
            r"after_training\.early_stopping_patience needs training\.eval_strategy, load_best_model_at_end",
        ),
        ("heads=null", "heads: name at least one head"),
        ("heads={2024: {column: topics}}", "heads: 2024: a head's name is a text"),
        ("heads={null: {}}", "heads: None: a head's name is a text"),
    ],
)
def test_bad_input(folder: Path, change: str, message: str) -> None:
    Path("run.yaml").write_text(yaml.safe_dump(config(), sort_keys=False))
    with pytest.raises(ValueError, match=message):
        train_from_config("run.yaml", dict([parse_change(change)]))
    assert not Path("out").exists()


def test_bad_files(folder: Path) -> None:
    Path("run.yaml").write_text("model: {encoder: a}\nmodel: {encoder: b}\n")
    done = cli("train", "run.yaml")
    assert (done.returncode, "line 2: duplicate key 'model'" in done.stderr) == (1, True)
    Path("run.yaml").write_text("- a\n")
    assert "the sections model, heads, data, training, after_training are expected" in cli("train", "run.yaml").stderr
    Path("run.yaml").write_text("a: [\n")
    assert "run.yaml cannot be read" in cli("train", "run.yaml").stderr
    Path("run.yaml").write_text("a: !!python/object/apply:os.system [id]\n")
    assert "run.yaml cannot be read" in cli("train", "run.yaml").stderr
    assert cli("train", "none.yaml").returncode == 1
    assert cli("train").returncode == 2
    assert cli("train", "run.yaml", "--set", "learning_rate").returncode == 1
    no_validation = config(data={"train": "rows.csv"}, after_training={"tune_thresholds": True})
    with pytest.raises(ValueError, match=r"need one set of validation rows: data\.validation"):
        train_from_config(no_validation)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"train": "rows.csv", "test": "bad.csv"}}, "data.test: .*'moody'"),
        (
            {"data": {"train": "rows.csv"}, "after_training": {"report": True}},
            "after_training.report needs one set of test or validation",
        ),
        (
            {
                "data": {"train": "rows.csv", "test": {"a": "rows.csv", "b": "rows.csv"}},
                "after_training": {"report": True},
            },
            "after_training.report needs one set",
        ),
        (
            {"heads": {"mood": {}}, "after_training": {"tune_thresholds": True}},
            "after_training.tune_thresholds is for multi-label heads",
        ),
        ({"model": {"start_from": "x", "pooling": "max"}}, "model.pooling: the saved model already has this setting"),
    ],
)
def test_what_cannot_be_done_at_the_end_is_said_before_the_training(
    folder: Path, sections: dict[str, Any], message: str
) -> None:
    pd.read_csv("rows.csv").assign(mood="moody").to_csv("bad.csv", index=False)
    with pytest.raises(ValueError, match=message):
        train_from_config(config(**sections))
    assert not Path("out/model.safetensors").exists()


def test_rows_in_parts_beside_rows_that_are_not(folder: Path) -> None:
    rows = pd.read_csv("rows.csv")
    Path("parts").mkdir()
    rows[:30].to_csv("parts/train.csv", index=False)
    rows[30:45].to_csv("parts/validation.csv", index=False)
    done = train_from_config(config(data={"train": "rows.csv", "validation": "parts"}))
    assert len(done.trainer.eval_dataset) == 15
    done = train_from_config(config(data={"train": {"a": "rows.csv", "b": "parts"}, "validation": "parts"}))
    assert (len(done.trainer.train_dataset), len(done.trainer.eval_dataset)) == (90, 15)
    Path("sole").mkdir()
    rows.to_csv("sole/train.csv", index=False)
    done = train_from_config(config(data={"train": "sole", "split": {"train": 0.8, "validation": 0.2}}))
    assert (len(done.trainer.train_dataset), len(done.trainer.eval_dataset)) == (48, 12)


def test_numbers_as_people_write_them() -> None:
    assert parse_change("training.learning_rate=1e-4") == ("training.learning_rate", 1e-4)
    assert parse_change("a=1.5E3") == ("a", 1500.0)
    assert parse_change("a=e5") == ("a", "e5")
    assert parse_change("a=[x, 2]") == ("a", ["x", 2])
    assert parse_change("training.eval_strategy=no") == ("training.eval_strategy", "no")
    assert parse_change("a=true") == ("a", True)


def test_the_example_is_valid_and_every_key_is_told(tmp_path: Path) -> None:
    printed = cli("train", "--example").stdout
    assert printed.strip() == EXAMPLE.strip()
    training = read_run_config(yaml.safe_load(EXAMPLE)).training
    assert not {"learning_rate", "head_learning_rate", "num_train_epochs"} & set(training)  # the defaults are better
    (tmp_path / "run.yaml").write_text(EXAMPLE)
    assert read_run_config(tmp_path / "run.yaml").heads["topic"]["sep"] == "|"
    keys = cli("train", "--keys").stdout
    for key in ("model.encoder", "data.split_seed [42]", "heads.<name>.column", "training.head_learning_rate"):
        assert f"\n{key}: " in f"\n{keys}", key
    assert "after_training.report" in keys
    assert "after_training.baseline [True]: Compare each head with a linear baseline" in keys
    assert "heads.<name>.loss_weight: Weight λ ≥ 0 of this head in the combined loss" in keys
    assert "\nheads.<name>.min_labels: " in keys

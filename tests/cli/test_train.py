"""`multihead-hf train` with a table: the run of its YAML file, which is kept beside the model."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import torch
import yaml
from command_line import cli
from training_runs import weights
from transformers import PreTrainedTokenizerFast

from multihead_hf import MultiHeadModel, MultiHeadPredictor, MultiHeadTrainer, train_from_config
from multihead_hf.cli.train import _stopped
from multihead_hf.training.run_folder import claimed

COLUMNS = ("--label-column", "topic=topics", "--label-column", "mood", "--sep", "topic=|", "--empty", "none")
SHORT = [
    *("--set", "training.num_train_epochs=2", "--set", "training.use_cpu=true"),
    *("--set", "training.disable_tqdm=true", "--set", "after_training.report=false"),
]
TRAIN = ("train", "rows.csv", *COLUMNS, "--encoder", "encoder", *SHORT)


def the_table() -> pd.DataFrame:
    table = tiny.table(60).to_pandas()
    topics = ["|".join(found) if found is not None else None for found in table["topic_labels"]]
    moods = [None if pd.isna(mood) else tiny.MOODS[int(mood)] for mood in table["mood"]]
    return pd.DataFrame({"text": table["text"], "topics": topics, "mood": moods})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.save_encoder(tmp_path / "encoder")
    the_table().to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path  # (the working directory)


@pytest.mark.slow
def test_a_table_becomes_a_model(folder: Path) -> None:
    done = cli(*TRAIN)
    assert done.returncode == 0, done.stderr
    assert "On the test rows:" in done.stdout
    assert "\nThe model of the last epoch is kept.\n" in done.stdout
    assert "\ntest  epoch 2  step 6  loss" in done.stdout
    assert "  multihead-hf predict runs/rows new_rows.csv -o predictions.csv\n" in done.stdout
    assert '  multihead-hf explain runs/rows "a text" --head topic' in done.stdout
    config = MultiHeadModel.from_pretrained("runs/rows").config
    assert {name: head.multi_label for name, head in config.heads.items()} == {"topic": True, "mood": False}
    assert config.heads["topic"].reading.column == "topics"
    warning = "the model was trained on rows of rows.csv, so scores on them are optimistic"
    for command in (("evaluate",), ("tune-thresholds", "--dry-run"), ("report", "-o", "report")):
        done = cli(command[0], "runs/rows", "rows.csv", *command[1:])
        assert done.returncode == 0, done.stderr
        assert warning in done.stderr
    the_table().to_csv("others.csv", index=False)
    assert warning not in cli("evaluate", "runs/rows", "others.csv").stderr
    Path("runs/rows/run.yaml").write_text("by: another program\n")
    done = cli("evaluate", "runs/rows", "rows.csv")
    assert done.returncode == 0, done.stderr
    assert warning not in done.stderr
    new = the_table()[["text"]][:7]
    new.to_csv("new_rows.csv", index=False)
    assert cli("predict", "runs/rows", "new_rows.csv", "-o", "predictions.csv").returncode == 0
    assert len(pd.read_csv("predictions.csv")) == len(new)


def test_the_run_is_the_one_of_the_file_that_is_kept(folder: Path) -> None:
    done = cli(*TRAIN, "--set", "training.learning_rate=1e-3", "-o", "out", "--json")
    assert done.returncode == 0, done.stderr
    run = yaml.safe_load(Path("out/run.yaml").read_text())
    assert run["training"]["learning_rate"] == 1e-3
    assert run["data"]["split"] == {"train": 0.8, "validation": 0.1, "test": 0.1}
    again = train_from_config("out/run.yaml", {"training.output_dir": "again"})
    assert json.loads(done.stdout) == pytest.approx(again.metrics)
    for key, value in weights(MultiHeadModel.from_pretrained("out")).items():
        assert torch.equal(value, weights(again.trainer.model)[key]), key


def test_a_doubt_is_said_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    done = cli("train", "rows.csv", "--label-column", "topics", "--encoder", "encoder", *SHORT)
    assert done.returncode == 0, done.stderr
    (doubt,) = [record for record in caplog.records if "sep={'topics': '|'}" in record.message]
    assert "4 of its 7 labels hold '|'" in doubt.message


def test_rows_in_parts_are_not_split(folder: Path) -> None:
    rows = the_table()
    Path("parts").mkdir()
    rows[:40].to_csv("parts/train.csv", index=False)
    rows[40:].to_csv("parts/test.csv", index=False)
    arguments = ("--encoder", "encoder", *SHORT, "-o", "out")
    done = cli("train", "parts", *COLUMNS, *arguments)
    assert done.returncode == 0, done.stderr
    run = yaml.safe_load(Path("out/run.yaml").read_text())
    assert "split" not in run["data"]
    assert "eval_strategy" not in run["training"]
    assert "tune_thresholds" not in run["after_training"]
    assert "On the test rows:" in done.stdout
    rows[30:40].to_csv("parts/validation.csv", index=False)
    assert cli("train", "parts", *COLUMNS, *arguments, "--overwrite").returncode == 0
    run = yaml.safe_load(Path("out/run.yaml").read_text())
    assert "metric_for_best_model" not in run["training"]  # 10 rows are too few
    assert run["after_training"]["tune_thresholds"] is True


@pytest.mark.slow
def test_with_enough_validation_rows_the_best_epoch_is_kept(folder: Path) -> None:
    Path("parts").mkdir()
    rows = the_table()
    rows[:40].to_csv("parts/train.csv", index=False)
    pd.concat([rows] * 5).to_csv("parts/validation.csv", index=False)
    done = cli("train", "parts", *COLUMNS, "--encoder", "encoder", *SHORT, "-o", "out")
    assert done.returncode == 0, done.stderr
    kept = re.search(
        r"^The model of (epoch [12]) \((step \d+)\) is kept: eval_f1 0\.\d{4} is the best of 2 epochs\.$",
        done.stdout,
        re.M,
    )
    assert kept
    end = done.stdout.partition("On the validation rows")[2]
    assert f"\n{kept[1]}  {kept[2]}  loss" in end
    assert f", of which the checkpoint of {kept[2]} is kept" in Path("out/README.md").read_text(encoding="utf-8")


def test_the_card_has_the_scores_that_were_printed(folder: Path) -> None:
    done = cli(*TRAIN, "-o", "out", "--json")
    assert done.returncode == 0, done.stderr
    card = Path("out/README.md").read_text(encoding="utf-8")
    assert "\nOn the test rows, 6 rows:\n" in card
    assert f"| mood | `accuracy` | {json.loads(done.stdout)['mood_accuracy']:.3f} |" in card
    assert "were changed after the metrics above" not in card  # they are computed with the tuned thresholds


def test_a_folder_with_a_run_is_not_overwritten_without_being_asked(folder: Path) -> None:
    assert cli(*TRAIN, "-o", "out").returncode == 0
    model = Path("out/model.safetensors").read_bytes()
    for command in (TRAIN, ("train", "out/run.yaml")):
        done = cli(*command, *(("-o", "out") if command == TRAIN else ()))
        assert done.returncode == 1
        assert "out exists and is not empty: --resume continues from its newest checkpoint, --overwrite" in done.stderr
    assert Path("out/model.safetensors").read_bytes() == model
    assert list(Path("out").glob("checkpoint-*"))
    assert cli(*TRAIN, "-o", "out", "--overwrite", "--resume").returncode == 2
    checkpoint = str(next(Path("out").glob("checkpoint-*")))
    resume = ("--set", f"training.resume_from_checkpoint={checkpoint}")
    done = cli(*TRAIN, "-o", "out", "--overwrite", *resume)
    assert done.returncode == 2
    assert "training.resume_from_checkpoint continues a run and --overwrite starts a new one" in done.stderr
    run = Path("out/run.yaml").read_bytes()
    done = cli(*TRAIN, "-o", "out", "--resume", "--set", "training.optim=sgd")
    assert done.returncode == 1
    assert "its run had the optimizer" in done.stderr
    assert Path("out/run.yaml").read_bytes() == run
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    wrong = ["no-encoder" if word == "encoder" else word for word in TRAIN]
    for command in (wrong, (*TRAIN, "--set", "after_training.early_stopping_patience=0")):
        assert cli(*command, "-o", "out", "--overwrite").returncode == 1
        assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before
    with claimed("out"):
        done = cli(*TRAIN, "-o", "out", "--overwrite")
    assert done.returncode == 1
    assert "another run is writing into out at this moment: wait for it, or name another folder" in done.stderr
    done = cli(*TRAIN, "-o", "out", "--overwrite", "--set", "training.seed=7")
    assert done.returncode == 0, done.stderr
    assert Path("out/model.safetensors").read_bytes() != model


def test_after_ctrl_c_it_can_be_resumed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = MultiHeadTrainer.training_step
    calls = 0

    def pressed(self: MultiHeadTrainer, *arguments: Any, **named: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(MultiHeadTrainer, "training_step", pressed)
        done = cli(*TRAIN, "-o", "out")
    assert done.returncode == 130
    assert done.stderr.endswith(
        "stopped after step 2, and saved out/checkpoint-2; run the same command with --resume to continue\n"
    )
    assert cli(*TRAIN, "-o", "out").returncode == 1
    done = cli(*TRAIN, "-o", "out", "--resume")
    assert done.returncode == 0, done.stderr
    assert "model of an earlier run" in _stopped(KeyboardInterrupt(), "out", held_model=True)
    assert cli(*TRAIN, "-o", "whole").returncode == 0
    for key, value in weights(MultiHeadModel.from_pretrained("whole")).items():
        assert torch.equal(value, weights(MultiHeadModel.from_pretrained("out"))[key]), key


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["rows.csv"],
            2,
            "name the columns of the labels, --label-column topics --label-column mood. Columns: ['text'",
        ),
        ([], 2, "name your table, and the columns of its labels"),
        (["rows.csv", "--label-column", "moods"], 1, "moods"),
        (["none.csv", "--label-column", "mood"], 1, "none.csv"),
        (["run.yaml", "--label-column", "mood"], 2, "this option is for a table; run.yaml is a YAML file"),
        (["run.yaml", "-o", "out"], 2, "this option is for a table; run.yaml is a YAML file"),
        (["rows.csv", "--label-column", "mood", "--set", "training.learning_rat=1"], 1, "Did you mean 'learning_rate'"),
    ],
)
def test_wrong_usage(folder: Path, arguments: list[str], code: int, said: str) -> None:
    Path("run.yaml").write_text("model: {encoder: encoder}\nheads: {mood: {}}\ndata: {train: rows.csv}\n")
    done = cli("train", *arguments)
    assert done.returncode == code, done.stderr
    assert said in " ".join(done.stderr.split())
    assert not Path("runs").exists()
    assert not Path("out").exists()


def test_an_encoder_without_a_vocabulary_is_refused(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "encoder" / name).unlink()
    done = cli(*TRAIN, "-o", "out")
    assert done.returncode == 1
    assert "encoder: its vocabulary has only special tokens, so every word would be unknown" in done.stderr
    assert not Path("out").exists()


def test_a_tokenizer_without_a_padding_token_gets_one(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = tiny.tokenizer().backend_tokenizer
    kept = {"eos_token": "[SEP]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **kept).save_pretrained(folder / "encoder")
    done = cli(*TRAIN, "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "has no padding token, so '[SEP]' fills up batches" in caplog.text
    assert MultiHeadPredictor.from_pretrained("out").predict(["w1", "w1 w2 w3"])["mood"].labels

"""How labels are read is said once: the Trainer, the saved model and the commands remember it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars
import pytest
import tiny
import yaml
from command_line import cli
from datasets import Dataset, DatasetDict
from training_runs import arguments, still
from transformers import HfArgumentParser

from multihead_hf import (
    HeadConfig,
    LabelReading,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    confidence_intervals,
    infer_heads,
    stratified_split,
    train_from_config,
    tune_thresholds,
    write_report,
)
from multihead_hf.evaluation.evaluate import evaluated

LOSS: Any = {"loss": "asymmetric", "loss_kwargs": {"gamma_negative": 2.0}}
MULTI = "multi_label_classification"
ASKED = r"column 'topics': \d+ of 40 cells are empty \(the first is row \d+\)\. Say what an empty cell means"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    rows = [
        {"text": row["text"], "topics": "|".join(row["topic_labels"] or []), "mood": tiny.MOODS[row["mood"] or 0]}
        for row in tiny.table(40)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def trainer_of(folder: Path, rows: Any, heads: dict[str, HeadConfig], **settings: Any) -> MultiHeadTrainer:
    return MultiHeadTrainer(
        model=still(**heads),
        args=arguments(folder, max_steps=2, **settings),
        train_dataset=rows,
        eval_dataset=rows,
        processing_class=tiny.tokenizer(),
    )


def test_nothing_is_said_again_after_infer_heads(path: Path, tmp_path: Path) -> None:
    heads = infer_heads(path, {"topic": "topics", "mood": "mood"}, sep={"topic": "|"}, empty="none")
    parts = stratified_split(path, heads, [0.5, 0.5])
    trainer = trainer_of(tmp_path / "out", parts["train"], heads)
    trainer.train()
    trainer.save_model()
    metrics = trainer.evaluate(str(path))
    model, tokenizer = MultiHeadModel.from_pretrained(tmp_path / "out"), tiny.tokenizer()
    assert model.config.heads["topic"].reading == LabelReading("topics", "|", "none")
    for rows in (str(path), pd.read_csv(path), polars.read_csv(path)):
        found, _ = evaluated(model, rows, tokenizer)
        assert found["topic_f1_micro"] == pytest.approx(metrics["eval_topic_f1_micro"])
        assert found["loss"] == pytest.approx(metrics["eval_loss"], rel=1e-5)
    printed = json.loads(cli("evaluate", tmp_path / "out", path, "--json").stdout)
    assert printed["topic_f1_micro"] == pytest.approx(metrics["eval_topic_f1_micro"])
    assert confidence_intervals(model, path, tokenizer=tokenizer, n_resamples=10).rows["topic"] == 40
    assert tune_thresholds(model, path, min_support=1, tokenizer=tokenizer).heads
    assert write_report(model, path, tmp_path / "report", tokenizer=tokenizer, n_resamples=10).heads["topic"].rows == 40
    tuned = cli("tune-thresholds", tmp_path / "out", path, "--split", "train", "--dry-run")
    assert "these rows have no splits" in tuned.stderr
    assert cli("tune-thresholds", tmp_path / "out", path, "--dry-run", "--json").returncode == 0
    shown = json.loads(cli("inspect", path, "--model", tmp_path / "out", "--json").stdout)["heads"]["topic"]
    assert (shown["labelled"], shown["column"], shown["sep"], shown["empty"]) == ({"": 40}, "topics", "|", "none")


def test_the_trainer_remembers_what_its_arguments_say(path: Path, tmp_path: Path) -> None:
    heads = {"topic": HeadConfig(tiny.TOPICS, MULTI), "mood": HeadConfig(tiny.MOODS)}
    said: dict[str, Any] = {"label_columns": {"topic": "topics"}, "sep": "|", "empty": "none"}
    trainer = trainer_of(tmp_path / "out", path, heads, **said)
    trainer.save_model()
    saved = MultiHeadModel.from_pretrained(tmp_path / "out").config.heads
    assert saved["topic"].reading == LabelReading("topics", "|", "none")
    assert saved["mood"].reading is None  # a separator means nothing to it
    again = trainer_of(tmp_path / "more", path, dict(saved), empty="missing")
    assert again.config.heads["topic"].reading == LabelReading("topics", "|", "missing")
    labels = [row["labels"]["topic"] for row in again.train_dataset]
    assert None in labels
    assert [row["labels"]["topic"] for row in trainer.train_dataset] == [own or [0, 0, 0] for own in labels]


def test_a_model_that_is_only_evaluated_remembers_nothing_new(path: Path) -> None:
    model = still(topics=HeadConfig(tiny.TOPICS, MULTI, reading={"sep": "|"}))
    evaluated(model, path, tiny.tokenizer(), reading={"topics": LabelReading(empty="missing")})
    evaluated(model, path, tiny.tokenizer(), empty={"topics": "none"})
    assert model.config.heads["topics"].reading == LabelReading(sep="|")
    with pytest.raises(ValueError, match=r"Unexpected keyword argument 'empty_labels'\. Did you mean .*'empty'"):
        evaluated(model, path, tiny.tokenizer(), empty_labels="none")


def test_the_trainer_and_the_commands_ask(path: Path, tmp_path: Path) -> None:
    heads = {"topics": HeadConfig(tiny.TOPICS, MULTI, reading={"sep": "|"})}
    rows = pd.read_csv(path)
    with pytest.raises(ValueError, match=f"train_dataset: head 'topics', {ASKED}"):
        trainer_of(tmp_path / "out", rows, heads)
    model = still(**heads)
    for call in (
        lambda: evaluated(model, rows, tiny.tokenizer()),
        lambda: tune_thresholds(model, rows, tokenizer=tiny.tokenizer()),
        lambda: write_report(model, rows, tmp_path / "report", tokenizer=tiny.tokenizer(), n_resamples=10),
    ):
        with pytest.raises(ValueError, match=ASKED):
            call()
    model.save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    run = {
        "model": {"start_from": str(tmp_path / "model")},
        "data": {"train": str(path)},
        "training": {"output_dir": str(tmp_path / "out"), "use_cpu": True},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    folder = tmp_path / "model"
    for command in (
        ["evaluate", folder, path],
        ["tune-thresholds", folder, path],
        ["report", folder, path, "-o", tmp_path / "report"],
        ["inspect", path, "--model", folder],
        ["inspect", path, "--label-column", "topics", "--sep", "|"],
        ["train", tmp_path / "run.yaml"],
    ):
        done = cli(*command)
        assert done.returncode == 1
        assert "Say what an empty cell means" in done.stderr.splitlines()[-1]
        assert "--empty none or --empty missing" in done.stderr.splitlines()[-1]
    assert cli("evaluate", folder, path, "--empty", "topics=none").returncode == 0


def test_joined_numbers_of_a_file_that_holds_one_in_each_row(tmp_path: Path) -> None:
    for part, cells in (("train", ["1.10|1.1", "1.1"]), ("validation", ["1.10", "1.1"])):
        (tmp_path / f"{part}.csv").write_text("text,topics\n" + "".join(f"w1,{cell}\n" for cell in cells))
    heads = infer_heads(tmp_path / "train.csv", ["topics"], sep="|")
    trainer = trainer_of(tmp_path / "out", tmp_path / "validation.csv", heads)
    assert [row["labels"]["topics"] for row in trainer.train_dataset] == [[0, 1], [1, 0]]
    model = trainer.model
    expected, _ = evaluated(
        model, Dataset.from_dict({"text": ["w1", "w1"], "topics": ["1.10", "1.1"]}), tiny.tokenizer()
    )
    assert evaluated(model, tmp_path / "validation.csv", tiny.tokenizer())[0] == expected
    trainer.save_model()
    printed = json.loads(cli("evaluate", tmp_path / "out", tmp_path / "validation.csv", "--json").stdout)
    assert printed == pytest.approx(expected)


def test_a_dataset_dict_stands_for_its_parts(tmp_path: Path) -> None:
    parts = DatasetDict(test=tiny.table(4), train=tiny.table(12), validation=tiny.table(8, seed=1))
    trainer = MultiHeadTrainer(still(), arguments(tmp_path), None, parts, parts, tiny.tokenizer())
    assert (len(trainer.train_dataset), len(trainer.eval_dataset)) == (12, 8)
    assert "eval_mood_accuracy" in trainer.evaluate()
    sets = MultiHeadTrainer(
        still(), arguments(tmp_path), None, dict(parts), DatasetDict(a=parts["test"]), tiny.tokenizer()
    )
    assert len(sets.train_dataset) == 24  # several datasets, mixed
    assert list(sets.eval_dataset) == ["a"]


def test_the_arguments_as_flags_and_as_json() -> None:
    parser = HfArgumentParser(MultiHeadTrainingArguments)
    flags = ["--output_dir", "x", "--sep", '{"topic": "|"}', "--empty", "none", "--multi_hot", "true"]
    (args,) = parser.parse_args_into_dataclasses([*flags, "--label_columns", '{"topic": ["a", "b"]}'])
    assert args.reading == {
        "label_columns": {"topic": ["a", "b"]},
        "sep": {"topic": "|"},
        "empty": "none",
        "multi_hot": True,
    }
    (args,) = parser.parse_args_into_dataclasses(["--output_dir", "x", "--multi_hot", '{"topic": false}'])
    assert args.multi_hot == {"topic": False}
    with pytest.raises(ValueError, match=r"multi_hot 'maybe': give True or False"):
        MultiHeadTrainingArguments("x", multi_hot="maybe")
    with pytest.raises(ValueError, match=r"unknown empty 'nothing'\. Did you mean 'none'"):
        MultiHeadTrainingArguments("x", empty={"topic": "nothing"})


def test_one_separator_in_a_run_of_several_sets(path: Path, tmp_path: Path) -> None:
    tiny.save_encoder(tmp_path / "encoder")
    rows = pd.read_csv(path, keep_default_na=False)
    rows[["text", "topics"]].to_csv(tmp_path / "a.csv", index=False)
    rows[["text", "mood"]].to_csv(tmp_path / "b.csv", index=False)
    done = train_from_config(
        {
            "model": {"encoder": str(tmp_path / "encoder")},
            "heads": {"topics": {}, "mood": {}},
            "data": {"train": {"a": str(tmp_path / "a.csv"), "b": str(tmp_path / "b.csv")}},
            "training": {
                "output_dir": str(tmp_path / "out"),
                "sep": "|",
                "empty": "none",
                "max_steps": 1,
                "use_cpu": True,
            },
        }
    )
    heads = done.trainer.config.heads
    assert heads["topics"] == HeadConfig(sorted(tiny.TOPICS), MULTI, **LOSS, reading={"sep": "|", "empty": "none"})
    assert heads["mood"] == HeadConfig(sorted(tiny.MOODS))

"""The card that the Trainer writes, and `multihead-hf card`."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from command_line import cli
from datasets import Value
from huggingface_hub import ModelCard
from training_runs import arguments, trainer_for

from multihead_hf import HeadConfig, MultiHeadModel, MultiHeadTrainer, calibrate, tune_thresholds, write_report
from multihead_hf.publishing.card import CARD, FACTS, read_facts

KNOWN = {"language": "nl", "license": "apache-2.0", "datasets": ["me/rows"], "widget_texts": ["w1 w2", "w3"]}


def trained(folder: Path, **settings: Any) -> MultiHeadTrainer:
    settings = {"num_train_epochs": 2, "learning_rate": 5e-3, "eval_strategy": "epoch", **settings}
    trainer = trainer_for(folder, model=tiny.model(pooling="mean"), **settings)
    trainer.train()
    return trainer


def figures(folder: Path) -> dict[str, float]:
    (evaluation,) = read_facts(folder).evaluations
    return evaluation["metrics"]


def test_the_chosen_rate_of_new_heads_is_in_the_card(tmp_path: Path) -> None:
    trainer = trained(tmp_path / "model", head_learning_rate=None, lr_scheduler_type="constant")
    trainer.save_model()
    (rate,) = trainer.chosen_head_rates
    assert rate > trainer.args.learning_rate
    assert rate in {group["lr"] for group in trainer.optimizer.param_groups}
    assert read_facts(tmp_path / "model").training["hyperparameters"]["head_learning_rate"] == f"{rate:g}"
    trainer.train()  # with the same optimizer
    trainer.save_model()
    assert read_facts(tmp_path / "model").training["hyperparameters"]["head_learning_rate"] == f"{rate:g}"
    trained(tmp_path / "given", head_learning_rate=0.01).save_model()
    assert read_facts(tmp_path / "given").training["hyperparameters"]["head_learning_rate"] == 0.01


def test_every_save_writes_the_card(tmp_path: Path) -> None:
    folder = tmp_path / "complaints"
    trainer = trained(folder, save_strategy="epoch", model_card=KNOWN)
    first = figures(folder / "checkpoint-6")
    metrics = [entry for entry in trainer.state.log_history if "eval_f1" in entry]
    assert first["topic_f1_micro"] == metrics[0]["eval_topic_f1_micro"]
    trainer.save_model()
    data = ModelCard.load(folder / CARD).data
    assert data.language == ["nl"]
    assert data.license == "apache-2.0"
    facts = read_facts(folder)
    assert facts.model_id == "complaints"
    assert facts.base_model is None  # it was made here
    assert (facts.training["rows"], facts.training["validation_rows"]) == (48, 16)
    assert "; validated on 16 rows. Encoder: `bert` with mean pooling" in (folder / CARD).read_text()
    assert facts.training["hyperparameters"]["learning_rate"] == 5e-3
    assert "output_dir" not in facts.training["hyperparameters"]
    table = tiny.table(48)
    moods = [value for value in table["mood"] if value is not None]
    assert facts.training["labels"]["mood"] == {name: moods.count(place) for place, name in enumerate(tiny.MOODS)}
    assert figures(folder)["topic_f1_micro"] == metrics[-1]["eval_topic_f1_micro"]
    assert str(tmp_path) not in (folder / CARD).read_text() + (folder / FACTS).read_text()


@pytest.mark.slow
def test_the_code_in_the_card_runs_without_the_package(tmp_path: Path) -> None:
    trainer = trained(tmp_path / "complaints", model_card=KNOWN, max_length=16)
    trainer.save_model()
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / "complaints" / CARD).read_text(), flags=re.S)
    assert len(blocks) == 2
    code = "import sys\nsys.modules['multihead_hf'] = None\n" + "\n".join(blocks)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-2].startswith("topic [")
    assert lines[-1].startswith("mood [")


def test_figures_are_those_of_the_model_that_is_saved(tmp_path: Path) -> None:
    best = trained(
        tmp_path / "best",
        num_train_epochs=4,
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        learning_rate=3e-2,
    )
    entries = {entry["step"]: entry for entry in best.state.log_history if "eval_f1" in entry}
    best.save_model()
    assert figures(tmp_path / "best")["mood_loss"] == entries[best.state.best_global_step]["eval_mood_loss"]
    # and what was evaluated later counts
    metrics = best.evaluate(tiny.table(30))
    best.save_model()
    assert figures(tmp_path / "best")["mood_loss"] == metrics["eval_mood_loss"]


def test_several_evaluation_sets(tmp_path: Path) -> None:
    trainer = trained(tmp_path / "a")
    rows = tiny.table(60)
    trainer.evaluate({"north": rows.select(range(30)), "south": rows.select(range(30, 60)).remove_columns("mood")})
    trainer.save_model()
    evaluations = {own["name"]: own["metrics"] for own in read_facts(tmp_path / "a").evaluations}
    assert list(evaluations) == ["north", "south"]
    assert "mood_f1_macro" in evaluations["north"]
    assert "mood_f1_macro" not in evaluations["south"]
    assert "On north:" in (tmp_path / "a" / CARD).read_text()


@pytest.mark.parametrize("change", [tune_thresholds, calibrate])
def test_figures_from_before_a_change_are_said_to_be(tmp_path: Path, change: Any) -> None:
    trainer = trained(tmp_path)
    trainer.save_model()
    warning = "were changed after the metrics above"
    assert warning not in (tmp_path / CARD).read_text()
    change(trainer, tiny.table(40))
    trainer.save_model()
    assert warning in (tmp_path / CARD).read_text()
    trainer.evaluate()
    trainer.save_model()
    assert warning not in (tmp_path / CARD).read_text()


def test_a_report_brings_intervals_and_pictures(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    report = write_report(trainer, tiny.table(40), tmp_path / "_report", n_resamples=20)
    trainer.save_model()
    card = (tmp_path / CARD).read_text()
    own = report.heads["mood"].intervals["f1_macro"]
    assert f"| {own.value:.3f} | {own.low:.3f} to {own.high:.3f} |" in card
    baseline = report.heads["mood"].baseline
    assert baseline is not None
    assert f"| {own.low:.3f} to {own.high:.3f} | {baseline.figures['f1_macro']:.3f} |" in card
    assert cli("card", tmp_path, "--license", "mit").returncode == 0
    assert "license: mit" in (tmp_path / CARD).read_text()
    assert f"| {baseline.figures['f1_macro']:.3f} |\n" in (tmp_path / CARD).read_text()
    (kept,) = read_facts(tmp_path).evaluations
    assert kept["baseline"]["mood"] == {"rows": baseline.rows, "figures": baseline.figures}
    linked = re.findall(r"\]\((assets/.*?)\)", card)
    assert len(linked) == len(report.pictures)
    assert all((tmp_path / path).is_file() for path in linked)
    # no text of the data
    texts = [text for text in tiny.table(40)["text"] if len(text) > 8]
    assert not any(text in card + (tmp_path / FACTS).read_text() for text in texts)
    trainer.train()  # another model, which the report does not know
    trainer.save_model()
    assert "assets/" not in (tmp_path / CARD).read_text()
    assert not list((tmp_path / "assets").glob("*.png"))


def test_a_report_after_tuning_is_not_stale_and_one_before_it_is(tmp_path: Path) -> None:
    warning = "were changed after the metrics above"
    trainer = trained(tmp_path)
    tune_thresholds(trainer, tiny.table(40), min_support=1)
    write_report(trainer, tiny.table(40), tmp_path / "_report", n_resamples=5)
    trainer.save_model()
    assert warning not in (tmp_path / CARD).read_text()
    tune_thresholds(trainer, tiny.table(40), granularity="head")
    trainer.save_model()
    assert warning in (tmp_path / CARD).read_text()
    trainer.evaluate(tiny.table(20), metric_key_prefix="test")  # not what the card tells of
    trainer.save_model()
    assert warning in (tmp_path / CARD).read_text()
    trainer.evaluate()  # fresh figures come before a report on other thresholds
    trainer.save_model()
    assert warning not in (tmp_path / CARD).read_text()


def test_figures_of_an_earlier_step_say_so(tmp_path: Path) -> None:
    trainer = trained(tmp_path, eval_on_start=True, eval_strategy="no")
    trainer.save_model()
    assert "were computed at step 0, before training continued" in (tmp_path / CARD).read_text()


@pytest.mark.parametrize("several", [False, True])
def test_a_run_that_is_resumed_at_its_end_keeps_its_evaluation(tmp_path: Path, several: bool) -> None:
    """Killed after its last checkpoint, it evaluates no more."""
    settings = {"eval_strategy": "steps", "eval_steps": 4, "save_strategy": "steps", "save_steps": 6, "max_steps": 6}
    rows = tiny.table(48)

    def made() -> MultiHeadTrainer:
        sets = {"one": rows.select(range(16)), "two": rows.select(range(16, 32))} if several else rows
        args = arguments(tmp_path / "out", **settings)
        return MultiHeadTrainer(tiny.model(), args, None, rows, sets, tiny.tokenizer())

    first = made()
    first.train()
    first.save_model()
    expected = read_facts(tmp_path / "out").evaluations
    assert len(expected) == 1 + several
    again = made()
    again.train(resume_from_checkpoint=True)
    again.save_model()
    assert again.state.global_step == 6
    found = read_facts(tmp_path / "out").evaluations
    assert [(own.get("step"), own["name"]) for own in found] == [(own.get("step"), own["name"]) for own in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"])
    # of an evaluation before the last step that is said
    early = made()
    early.train(resume_from_checkpoint=True)
    entries = early.state.log_history
    assert [entry["step"] for entry in entries if "eval_loss" in entry or "eval_one_loss" in entry][-1] == 6
    early.state.log_history = [{**entry, "step": 4} for entry in entries if entry["step"] == 6]
    early._card.on_train_begin(early.args, early.state, early.control)
    assert {own["step"] for own in early.card_facts().evaluations} == {4}
    # a fresh run has none
    fresh = made()
    fresh.args.eval_strategy = "no"
    fresh.train()
    assert fresh.card_facts().evaluations == []


def test_heads_whose_names_end_alike(tmp_path: Path) -> None:
    heads = {"mood": tiny.two_heads()["mood"], "user_mood": tiny.two_heads()["mood"]}
    trainer = trainer_for(tmp_path, model=tiny.model(heads=heads), max_steps=1)
    rows = tiny.table(20)
    trainer.evaluate(rows.add_column("user_mood", [tiny.MOODS[0]] * 20))
    trainer.save_model()
    (evaluation,) = read_facts(tmp_path).evaluations
    assert evaluation["name"] is None
    assert {"mood_f1_macro", "user_mood_f1_macro"} <= set(evaluation["metrics"])


def test_a_metric_that_is_nan_and_labels_that_came_later_do_not_stop_a_save(tmp_path: Path) -> None:
    trainer = trained(tmp_path, compute_metrics=lambda _: {"topic_f1_micro": float("nan"), "mine": float("nan")})
    trainer.save_model()
    assert not re.search(r"(: |\| )\.?nan", (tmp_path / CARD).read_text())
    trainer.model.extend_head("topic", ["new"])
    trainer.save_model()
    card = (tmp_path / CARD).read_text()
    assert "| new | – | 0.500 |" in card
    assert "were changed after the metrics above" in card


def test_a_card_that_is_not_utf8_is_kept(tmp_path: Path) -> None:
    (tmp_path / CARD).write_bytes("# Café".encode("latin-1"))
    trained(tmp_path).save_model()
    assert (tmp_path / CARD).read_bytes() == "# Café".encode("latin-1")


def test_the_card_names_where_it_lies(tmp_path: Path) -> None:
    trainer = trained(tmp_path / "runs")
    trainer.save_model(str(tmp_path / "final"))
    assert read_facts(tmp_path / "final").model_id == "final"
    trainer.hub_model_id = "me/final"  # as `init_hf_repo` sets it
    trainer.save_model(str(tmp_path / "final"))
    assert 'pipeline("multi-head-text-classification", "me/final"' in (tmp_path / "final" / CARD).read_text()


def test_an_encoder_from_a_path_is_no_base_model(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    for name, expected in (("/gone/me/bert", None), ("me/bert", "me/bert"), (str(tmp_path), None)):
        trainer.config.encoder._name_or_path = name
        assert trainer.card_facts().base_model == expected


def test_limits_of_labels_are_told(tmp_path: Path) -> None:
    heads = tiny.two_heads()
    heads["topic"].min_labels = 1
    trainer = trainer_for(tmp_path, model=tiny.model(heads=heads), max_steps=1)
    trainer.train()
    trainer.save_model()
    assert "| topic | 3 | multi-label, at least 1 per row; threshold 0.5 |" in (tmp_path / CARD).read_text()


def test_the_figures_of_other_heads_are_left_out(tmp_path: Path) -> None:
    """The model is changed and saved outside the Trainer, and the card is written by the command."""
    trainer = trained(tmp_path)
    trainer.save_model()
    assert {"topic_f1_micro", "mood_f1_macro"} <= figures(tmp_path).keys()
    model = MultiHeadModel.from_pretrained(tmp_path)
    model.remove_head("topic")
    model.add_head("topic", HeadConfig(["x", "y"], "multi_label_classification"))
    model.save_pretrained(tmp_path)
    assert cli("card", tmp_path).returncode == 0
    assert not [key for key in figures(tmp_path) if key.startswith("topic")]
    assert "mood_f1_macro" in figures(tmp_path)
    shown = (tmp_path / CARD).read_text()
    assert "| topic | 2 | multi-label; threshold 0.5 | – |" in shown
    assert "training rows for roads" not in shown
    model.remove_head("mood")
    model.save_pretrained(tmp_path)
    assert cli("card", tmp_path).returncode == 0
    assert "No evaluation is recorded." in (tmp_path / CARD).read_text()


def test_the_figures_of_other_thresholds_are_said_to_be(tmp_path: Path) -> None:
    trained(tmp_path).save_model()
    warning = "were changed after the metrics above"
    assert cli("card", tmp_path).returncode == 0
    assert warning not in (tmp_path / CARD).read_text()
    model = MultiHeadModel.from_pretrained(tmp_path)
    model.set_thresholds("topic", 0.95)
    model.save_pretrained(tmp_path)
    assert cli("card", tmp_path).returncode == 0
    assert warning in (tmp_path / CARD).read_text()


def test_a_head_that_learned_nothing_is_said(tmp_path: Path) -> None:
    rows = tiny.table(24).remove_columns("mood").add_column("mood", [None] * 24, feature=Value("int64"))
    trainer = MultiHeadTrainer(
        tiny.model(), arguments(tmp_path, max_steps=1), None, rows, processing_class=tiny.tokenizer()
    )
    trainer.train()
    trainer.save_model()
    said = "- mood: no training row had a label of this head, so it learned nothing in this training."
    assert said in (tmp_path / CARD).read_text()
    assert "- topic: no training row" not in (tmp_path / CARD).read_text()


def test_of_an_adapter_peft_writes_the_card(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    adapter = LoraConfig(target_modules=["query"], modules_to_save=["heads"])
    trainer = trainer_for(tmp_path, model=get_peft_model(tiny.model(), adapter), max_steps=1)
    trainer.train()
    trainer.save_model()
    assert ModelCard.load(tmp_path / CARD).data.library_name == "peft"
    assert not (tmp_path / FACTS).exists()


def test_somebodys_card_is_kept(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text("# Mine")
    trainer = trained(tmp_path, save_strategy="epoch")
    trainer.save_model()
    trainer.create_model_card()
    assert (tmp_path / CARD).read_text() == "# Mine"


def test_push_arguments_reach_the_card(tmp_path: Path) -> None:
    trainer = trained(tmp_path, model_card={"language": "en"})
    trainer.create_model_card(language="nl", license="mit", tags="x", finetuned_from="a/b", dataset_tags="me/rows")
    data = ModelCard.load(tmp_path / CARD).data
    assert (data.language, data.license, data.base_model, data.datasets) == (["nl"], "mit", "a/b", ["me/rows"])
    assert "x" in data.tags


def test_command_adds_what_is_known_now(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    trainer = trained(folder, model_card={"license": "mit"})
    trainer.save_model()
    rows = tmp_path / "rows.parquet"
    tiny.table(40).to_parquet(rows)
    options = ["--label-column", "topic=topic_labels", "--label-column", "mood"]
    assert cli("report", folder, rows, "-o", tmp_path / "report", "--n-resamples", "20", *options).returncode == 0
    done = cli(
        "card", folder, "--language", "nl", "--report", tmp_path / "report", "--rows-name", "forty rows", "--tag", "x"
    )
    assert done.returncode == 0, done.stderr
    facts = read_facts(folder)
    assert (facts.license, facts.language, facts.tags) == ("mit", ["nl"], ["x"])
    assert cli("card", folder, "--tag", "y").returncode == 0
    assert read_facts(folder).tags == ["x", "y"]
    assert "not a valid repository name on the Hub" in cli("card", folder, "--dataset", "a b").stderr
    assert facts.evaluations[0]["name"] == "forty rows"
    assert facts.training["rows"] == 48  # still known
    saved = json.loads((tmp_path / "report" / "report.json").read_text())
    assert facts.evaluations[0]["metrics"]["mood_accuracy"] == saved["heads"]["mood"]["figures"]["accuracy"]
    assert (folder / "assets" / "mood_confusion.png").is_file()
    (folder / CARD).write_text("# Mine")
    done = cli("card", folder)
    assert done.returncode == 1
    assert "--replace overwrites it" in done.stderr
    assert cli("card", folder, "--replace").returncode == 0
    assert "# model" in (folder / CARD).read_text()


def test_command_and_bad_input(tmp_path: Path) -> None:
    trainer = trained(tmp_path / "model")
    trainer.save_model()
    done = cli("card", tmp_path / "model", "--report", tmp_path)
    assert done.returncode == 1
    assert "has no readable report" in done.stderr
    report = {
        "rows": 1,
        "confidence_level": 0.9,
        "pictures": [],
        "heads": {"mood": {"labels": {"x": {}}, "figures": {}}},
    }
    (tmp_path / "report.json").write_text(json.dumps(report))
    done = cli("card", tmp_path / "model", "--report", tmp_path)
    assert "is about another model: its head 'mood' has the labels ['x']" in done.stderr
    assert cli("card", tmp_path / "nowhere").returncode == 1


def test_arguments_are_checked(tmp_path: Path) -> None:
    assert arguments(tmp_path, model_card='{"language": "nl"}').model_card == {"language": ["nl"]}
    with pytest.raises(ValueError, match="no field 'lang'"):
        arguments(tmp_path, model_card={"lang": "nl"})


def test_the_card_names_the_encoder(tmp_path: Path) -> None:
    folder = tiny.save_encoder(tmp_path / "tiny-encoder")
    model = MultiHeadModel.from_encoder(folder, heads=tiny.two_heads())
    trainer = trainer_for(tmp_path / "out", model=model, max_steps=1)
    trainer.train()
    trainer.save_model()
    card = (tmp_path / "out" / CARD).read_text()
    assert "Encoder: tiny-encoder, `bert` with cls pooling" in card
    assert str(tmp_path) not in card + (tmp_path / "out" / "config.json").read_text()
    assert trainer.card_facts().base_model is None
    model.encoder.name_or_path = "org/encoder"  # as a name on the Hub
    assert trainer.card_facts().base_model == "org/encoder"

"""What is shown while training and evaluating."""

import html
import logging
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
import transformers.trainer
from datasets import Dataset
from training_runs import trainer_for
from transformers import PrinterCallback, ProgressCallback, TrainerState

from multihead_hf import HeadConfig, MultiHeadTrainer, MultiHeadTrainingArguments
from multihead_hf.data.counting import HeadCounts
from multihead_hf.evaluation.tables import number
from multihead_hf.training import console, console_choice
from multihead_hf.training.console import collected_tables, evaluation_title, log_line
from multihead_hf.training.description import ParameterGroup, RunFacts, describe_run

START = """\
Training for 2 epochs (12 steps), 8 rows a step, float32
head   task          labels  labelled  unlabelled  none apply  rare labels (fewer than 10 rows)
topic  multi-label        3        44           4           1  -
mood   single-label       2        44           4           -  -
rows: train 48, evaluation 16
trained (parameters, at the peak learning rate): encoder 35,648 at 0.001, heads 165 at 0.01
losses of the heads: added as they are (head_weighting="fixed")

"""
SETTINGS = {
    **{"num_train_epochs": 2, "logging_steps": 3, "eval_strategy": "epoch", "report_to": "none"},
    **{"learning_rate": 1e-3, "head_learning_rate": 1e-2, "warmup_steps": 2},
}
TIMES = re.compile(r"Trained to step 12 in \d+\.\d s, \d+\.\d rows a second; mean loss \d\.\d{4}\n")
HEADER = "head   labels  rows  unlabelled  accuracy  F1 micro  F1 macro  precision  recall    loss\n"


def log_entries(trainer: Any) -> list[str]:
    """The lines that are expected of the training losses in a trainer's log, in order."""
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [
        f"step {entry['step']:>2}  loss {number(entry['loss'])}  topic {number(entry['topic_loss'])}  "
        f"mood {number(entry['mood_loss'])}  lr {entry['learning_rate_encoder']:.1e} "
        f"(heads {entry['learning_rate_heads']:.1e})\n"
        for entry in entries
    ]


def table(
    entry: dict[str, Any], begin: str, rows: tuple[int, int] = (14, 15), total: int = 16, prefix: str = "eval"
) -> str:
    """The table that is expected of a logged evaluation."""
    entry = {key.removeprefix(f"{prefix}_"): number(value) for key, value in entry.items()}
    left = [str(total - labelled) if labelled < total else "-" for labelled in rows]
    return (
        f"{begin}loss {entry['loss']}  mean F1 {entry['f1']}\n"
        + HEADER
        + f"topic       3  {rows[0]:>4}  {left[0]:>10}         -    {entry['topic_f1_micro']}    {entry['topic_f1_macro']}"
        f"     {entry['topic_precision_micro']}  {entry['topic_recall_micro']}  {entry['topic_loss']}\n"
        f"mood        2  {rows[1]:>4}  {left[1]:>10}    {entry['mood_accuracy']}         -    {entry['mood_f1_macro']}"
        f"     {entry['mood_precision_macro']}  {entry['mood_recall_macro']}  {entry['mood_loss']}\n\n"
    )


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_a_run_shows_a_table_at_its_start_and_for_each_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], disable_tqdm: bool
) -> None:
    trainer = trainer_for(tmp_path, disable_tqdm=disable_tqdm, **SETTINGS)
    trainer.train()
    lines = log_entries(trainer)
    assert len(lines) == 4
    first, second = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    shown = capsys.readouterr()
    expected = [START, *lines[:2], table(first, "epoch 1  step 6  "), *lines[2:], table(second, "epoch 2  step 12  ")]
    assert TIMES.sub("", shown.out) == "".join(expected)
    assert len(TIMES.findall(shown.out)) == 1
    assert ("12/12" in shown.err) == (not disable_tqdm)
    found = trainer.evaluate()
    assert capsys.readouterr().out == table(found, "epoch 2  step 12  ")
    print(trainer.last_evaluation)
    assert capsys.readouterr().out.rstrip() == table(found, "").rstrip()


def test_logs_are_those_of_the_stock_callbacks(tmp_path: Path) -> None:
    histories = []
    for own in (True, False):
        trainer = trainer_for(tmp_path / str(own), **SETTINGS)
        if not own:
            trainer.remove_callback(PrinterCallback)
        trainer.train()
        times = ("runtime", "per_second", "preparation_time")
        histories.append(
            [
                {key: each for key, each in entry.items() if not key.endswith(times)}
                for entry in trainer.state.log_history
            ]
        )
    assert histories[0] == histories[1]
    assert {"eval_topic_roc_auc_macro", "eval_mood_mcc", "eval_f1", "epoch", "step"} <= set(histories[0][2])
    assert "total_flos" in histories[0][-1]


def test_a_table_for_each_evaluation_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_for(tmp_path)
    rows = trainer.eval_dataset
    found = trainer.evaluate({"a": rows, "b": rows.select(range(4))})
    shown = capsys.readouterr().out
    absent = "labels have no row here and count as 0 in F1 macro; over the others it is 0."
    assert f"mood: 1 of 2 {absent}" in shown
    shown = "".join(line for line in shown.splitlines(keepends=True) if absent not in line)
    tables = [
        table(found, f"evaluation set {name!r}  ", labelled, total, f"eval_{name}")
        for name, labelled, total in (("a", (14, 15), 16), ("b", (3, 4), 4))
    ]
    assert shown == f"{tables[0]}{tables[1]}step 0  eval_f1 {number(found['eval_f1'])}\n"
    trainer.evaluate(rows, metric_key_prefix="test")
    assert capsys.readouterr().out.startswith("test  loss ")
    trainer.eval_dataset = {"a": rows, "b": rows}
    trainer.args.max_steps = 1
    trainer.train()
    assert "\nrows: train 48, evaluation 'a' 16, evaluation 'b' 16\n" in capsys.readouterr().out


def test_a_resumed_run_says_where_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    saving = {**SETTINGS, "save_strategy": "epoch", "logging_steps": None}
    trainer_for(tmp_path, **saving).train()
    capsys.readouterr()
    resumed = trainer_for(tmp_path, **saving)
    with caplog.at_level(logging.WARNING):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    shown = capsys.readouterr().out
    assert shown.startswith("Resuming at step 6 of 2 epochs (12 steps), 8 rows a step, float32\nhead ")
    assert "do not match" not in caplog.text  # a share of the run and the steps that it makes are one setting
    assert resumed.args.logging_steps == 0.05
    assert resumed.state.logging_steps == 1


def test_metrics_of_ones_own_and_log_entries_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_for(tmp_path, compute_metrics=lambda prediction: {"cost": 12.5, "mood_accuracy": 0.123456})
    trainer.evaluate()
    shown = capsys.readouterr().out
    assert shown.endswith("\ncost 12.5000\n\n")
    assert "0.1235" in shown
    trainer.log({"probe": 0.25, "note": "warm", "broken": float("nan")})
    assert capsys.readouterr().out == "step 0  probe 0.2500  note warm  broken not finite\n"


def test_without_metrics_the_table_has_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = trainer_for(tmp_path, prediction_loss_only=True).evaluate()
    topic, mood = (number(found[f"eval_{name}_loss"]) for name in ("topic", "mood"))
    assert capsys.readouterr().out == (
        f"loss {number(found['eval_loss'])}\nhead   labels    loss\ntopic       3  {topic}\nmood        2  {mood}\n\n"
    )


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_the_callback_can_be_removed_and_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], disable_tqdm: bool
) -> None:
    stock = PrinterCallback if disable_tqdm else ProgressCallback

    class Own(stock):  # type: ignore[misc,valid-type]
        """A progress callback of one's own."""

    def shown(trainer: Any) -> list[type]:
        return [type(each) for each in trainer.callback_handler.callbacks if isinstance(each, stock)]

    trainer = trainer_for(tmp_path, disable_tqdm=disable_tqdm, max_steps=1)
    assert [issubclass(each, console.ConsoleCallback) for each in shown(trainer)] == [True]
    trainer.remove_callback(stock)
    trainer.train()
    assert capsys.readouterr().out == ""
    trainer = trainer_for(tmp_path, disable_tqdm=disable_tqdm, max_steps=1, callbacks=[Own()])
    assert shown(trainer) == [Own, stock]  # as the stock Trainer has it
    trainer.train()
    assert "{'loss': " in capsys.readouterr().out


def test_only_the_first_process_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_for(tmp_path)
    callback = next(each for each in trainer.callback_handler.callbacks if isinstance(each, PrinterCallback))
    state = TrainerState(is_world_process_zero=False, is_local_process_zero=True)
    callback.on_train_begin(trainer.args, state, trainer.control, optimizer=None)
    callback.on_log(trainer.args, state, trainer.control, logs={"loss": 1.0})
    callback.on_evaluate(trainer.args, state, trainer.control, metrics={"eval_runtime": 1.0})
    assert capsys.readouterr().out == ""


def test_tables_can_be_collected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = trainer_for(tmp_path)
    with collected_tables(trainer) as tables:
        trainer.evaluate()
    assert capsys.readouterr().out == ""
    assert [each.startswith("loss ") for each in tables] == [True]
    trainer.evaluate()
    assert capsys.readouterr().out == f"{tables[0]}\n\n"


# ---- a head that predicts nothing ----


def silent(trainer: Any, threshold: float) -> None:
    trainer.model.set_thresholds("topic", threshold)


def test_a_head_that_predicts_nothing_is_warned_about_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_for(tmp_path, model=tiny.model(), rows=64)
    rows = trainer.train_dataset
    expected = (
        r"head 'topic' reached no threshold on 58 labelled rows: its highest probability is 0\.\d+ \(threshold 0\.99\)\. "
        r"Tune thresholds \(tune_thresholds\), raise head_learning_rate, or train longer\."
    )
    silent(trainer, 0.99)
    trainer.evaluate(rows)
    trainer.evaluate(rows)
    (warned,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert re.fullmatch(expected, warned.getMessage())
    trainer.evaluate({"late": rows})
    assert re.fullmatch(f"evaluation set 'late': {expected}", caplog.records[-1].getMessage())
    silent(trainer, 0.5)
    trainer.evaluate(rows)
    before = len(caplog.records)
    silent(trainer, 0.01)
    trainer.evaluate(rows)
    assert "head 'topic' predicts almost everything" in caplog.records[-1].getMessage()
    silent(trainer, 0.99)
    trainer.evaluate(rows)
    assert len(caplog.records) == before + 2  # it has changed in between


def test_single_label_heads_that_learn_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_for(tmp_path, model=tiny.model(), rows=64, train_heads=["mood"], max_steps=1, learning_rate=1e-9)
    rows = trainer.train_dataset
    trainer.evaluate(rows)
    assert "head 'mood'" not in caplog.text  # it is new
    trainer.train()
    trainer.evaluate(rows)
    trainer.evaluate(rows)
    warned = [record.getMessage() for record in caplog.records if "head 'mood' predicts" in record.getMessage()]
    assert warned == [
        "head 'mood' predicts 'angry' for all 59 labelled rows, and 52.5% have that label. Check that its texts and "
        "labels belong together, train longer, or label more rows."
    ]


def test_of_many_weak_heads_some_are_described(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"h{number}" for number in range(24)]
    rows = Dataset.from_list([{"text": f"w{row}", **dict.fromkeys(names, "ab"[row % 2])} for row in range(40)])
    model = tiny.model(heads={name: HeadConfig(["a", "b"]) for name in names})
    args = MultiHeadTrainingArguments(
        str(tmp_path), max_steps=1, learning_rate=1e-9, head_learning_rate=1e-9, report_to="none"
    )
    trainer = MultiHeadTrainer(model, args, None, rows, rows, tiny.tokenizer())
    trainer.train()
    assert "count alike (from 0.693 of h0 to 0.693 of h0)" in " ".join(capsys.readouterr().out.split())
    trainer.evaluate()
    warned = [record.getMessage() for record in caplog.records if "labelled rows" in record.getMessage()]
    described = [name for message in warned for name in re.findall(r"head '(\w+)'", message)]
    (others,) = re.findall(r"and \d+ other heads have learned nothing or need other thresholds: (.*)", caplog.text)
    assert len(described) == 5 == len(warned)
    assert set(described) < set(names)
    assert f"and {len(others.split(', '))} other heads" in caplog.text
    assert not set(described) & set(others.split(", "))


def test_before_the_first_step_nothing_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_for(tmp_path, model=tiny.model(), rows=64, eval_on_start=True, eval_strategy="steps", max_steps=1)
    trainer.eval_dataset = trainer.train_dataset
    silent(trainer, 0.99)
    trainer.train()
    assert [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry] == [0, 1]
    assert len([record for record in caplog.records if "reached no threshold" in record.getMessage()]) == 1


# ---- the texts themselves ----


def test_a_run_with_everything() -> None:
    labels = [f"label_{i}" for i in range(40)]
    heads = {
        "topic": HeadConfig(labels=labels, problem_type="multi_label_classification", loss_weight=2.0),
        "mood": HeadConfig(labels=["calm", "Calm ", "angry"]),
        "spam": HeadConfig(labels=["no", "yes, much"]),
        "empty": HeadConfig(labels=["a", "b"]),
    }
    counts = {
        "topic": HeadCounts(np.array([9] * 20 + [10] * 20), 120_000, 3, 400),
        "mood": HeadCounts(np.array([50, 0, 60]), 110, 119_893),
        "spam": HeadCounts(np.array([120_003, 0]), 120_003),
        "empty": HeadCounts(np.array([0, 0]), 0, 120_003),
    }
    facts = RunFacts(
        heads=heads,
        trained_heads=["topic", "mood"],
        counts=counts,
        rows={"train": 120_003, "evaluation 'a'": 200, "evaluation 'b'": None},
        steps=45_000,
        epochs=1.5,
        first_step=200,
        batch_rows=64,
        precision="bf16 mixed precision",
        groups=[
            ParameterGroup("encoder", 22_565_376, [5e-5, 4.5e-5, 1e-5]),
            ParameterGroup("heads", 47_355, [1e-2]),
            ParameterGroup("head_weighting", 2, [1e-2]),
        ],
        frozen={"encoder": 11_000_000, "heads": 0},
        head_weighting="uncertainty",
        notes=["A further line."],
    )
    text = describe_run(facts)
    assert text == (
        "Resuming at step 200 of 1.5 epochs (45,000 steps), 64 rows a step, bf16 mixed precision\n"
        "head   task          labels  labelled  unlabelled  none apply  rare labels (fewer than 10 rows)\n"
        "topic  multi-label       40   120,000           3         400  20: label_0, label_1, label_2, ...\n"
        "mood   single-label       3       110     119,893           -  1: 'Calm '\n"
        "spam   single-label       2   120,003           -           -  1: 'yes, much'\n"
        "empty  single-label       2         0     120,003           -  -\n"
        "rows: train 120,003, evaluation 'a' 200, evaluation 'b' streamed\n"
        "trained (parameters, at the peak learning rate): encoder 22,565,376 at 1e-05 to 5e-05, heads 47,355\n"
        "  at 0.01, head weighting 2 at 0.01\n"
        "frozen (parameters): encoder 11,000,000; the heads spam, empty are not trained\n"
        "losses of the heads: weighted by learned uncertainties, times their loss_weight (topic 2, mood 1)\n"
        '  (head_weighting="uncertainty")\n'
        "Head 'mood' has labels that differ only in case, blanks or Unicode form: 'Calm ' and 'calm'.\n"
        "A further line."
    )
    facts.trained_heads = ["topic", "empty"]
    assert "Head 'empty' has no labelled training row: it learns nothing.\n" in describe_run(facts)
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()


def test_a_stream_of_which_nothing_is_counted() -> None:
    facts = RunFacts(
        heads={"mood": HeadConfig(labels=["calm"])},
        trained_heads=["mood"],
        counts=None,
        rows={"train": None},
        steps=100,
        epochs=None,
        first_step=0,
        batch_rows=8,
        precision="float32",
        groups=[ParameterGroup("parameters", 10, [0.1])],
        frozen={"encoder": 0, "heads": 0},
        head_weighting="fixed",
    )
    assert describe_run(facts) == (
        "Training for 100 steps, 8 rows a step, float32\n"
        "head  task          labels\n"
        "mood  single-label       1\n"
        "rows: train streamed\n"
        "trained (parameters, at the peak learning rate): parameters 10 at 0.1\n"
        "Head 'mood' has one class only, 'calm': there is nothing to learn."
    )


def test_the_facts_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.model(heads=tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.5))
    settings = {"layer_learning_rate_decay": 0.5, "head_weighting": "uncertainty", "gradient_accumulation_steps": 3}
    trainer = trainer_for(tmp_path, model=model, max_steps=1, lr_scheduler_type="linear", warmup_steps=1, **settings)
    trainer.train()
    shown = capsys.readouterr().out
    assert "Training for 1 step, 24 rows a step, float32\n" in shown
    # at the first step of a warm-up the rates themselves are 0
    trained = (
        "encoder 35,648 at 1.25e-05 to 5e-05, heads 165 at 5e-05, thresholds 3 at 0.00025, head weighting 2 at 5e-05"
    )
    assert f"trained (parameters, at the peak learning rate): {trained} " in " ".join(shown.split())
    trainer = trainer_for(tmp_path, model=tiny.model(), max_steps=1, freeze_encoder=True, train_heads=["mood"])
    trainer.train()
    shown = capsys.readouterr().out
    assert "trained (parameters, at the peak learning rate): heads 66 at 5e-05\n" in shown
    assert "frozen (parameters): encoder 35,648, heads 99; the heads topic are not trained\n" in shown
    stream = trainer_for(tmp_path, max_steps=1, rows=16)
    stream.train_dataset = stream.train_dataset.to_iterable_dataset()
    stream.train()
    assert "\nrows: train streamed, evaluation 16\n" in capsys.readouterr().out


def test_a_log_line_stays_short() -> None:
    rates = {"learning_rate": 9.512e-5, "learning_rate_encoder": 9.512e-5, "learning_rate_heads": 9.512e-3}
    logs = {
        "loss": 1.5,
        "grad_norm": 2.0,
        "scenario_loss": 0.25,
        "intent_loss": 3.5,
        "entities_loss": 0.0625,
        "epoch": 1,
    }
    begin = "step  23  loss 1.5000  scenario 0.2500  intent 3.5000  entities 0.0625"
    line = log_line({**logs, **rates}, 23, 450, ["scenario", "intent", "entities"])
    assert line == f"{begin}  lr 9.5e-05 (heads 9.5e-03)"
    line = log_line({**logs, "learning_rate": 5e-5}, 23, 450, ["scenario", "intent", "entities"])
    assert line == f"{begin}  lr 5.0e-05"
    line = log_line({**logs, "learning_rate_encoder": 0.0, "learning_rate_heads": 0.0}, 23, 450, ["scenario"])
    assert line == "step  23  loss 1.5000  scenario 0.2500  lr 0.0e+00"


def test_a_log_line_of_many_heads_ends_in_dots() -> None:
    heads = [f"head_number_{i}" for i in range(30)]
    logs = {"loss": 1.5, "learning_rate": 5e-5, **{f"{name}_loss": 0.25 for name in heads}}
    shown = "  ".join(f"{name} 0.2500" for name in heads[:3])
    assert log_line(logs, 7, 12_000, heads) == f"step     7  loss 1.5000  {shown}  ..."
    four = log_line(logs, 7, 12_000, heads[:3])  # there is room for the losses and not for the rate
    assert four == f"step     7  loss 1.5000  {shown}"
    assert log_line({"loss": float("nan")}, 1, 1, heads) == "step 1  loss not finite"


def test_titles_of_evaluations() -> None:
    assert evaluation_title("eval", None, 0) == ""
    assert evaluation_title("eval", 1.25, 10) == "epoch 1.25  step 10"
    assert evaluation_title("eval_a", 2.0, 10) == "evaluation set 'a'  epoch 2  step 10"
    assert evaluation_title("test", 0.0, 0) == "test"


# ---- defaults ----


def test_short_and_long_runs_log_twenty_times() -> None:
    args = MultiHeadTrainingArguments("out")
    for steps, every in ((2, 1), (450, 23), (100_000, 5000)):
        state = TrainerState()
        state.compute_steps(args, steps)
        assert state.logging_steps == every
    assert MultiHeadTrainingArguments("out", logging_steps=7).logging_steps == 7


def test_every_epoch_of_a_short_run_shows_a_loss(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, num_train_epochs=3, logging_steps=None)
    trainer.train()
    epochs = {int(np.ceil(entry["epoch"])) for entry in trainer.state.log_history if "loss" in entry}
    assert epochs == {1, 2, 3}


def test_evaluation_follows_saving_where_nothing_is_said() -> None:
    """As with `TrainingArguments`: the best model can be loaded at the end without a number given."""
    best = {"eval_strategy": "steps", "load_best_model_at_end": True}
    assert MultiHeadTrainingArguments("out", **best).eval_steps == 500
    assert MultiHeadTrainingArguments("out", **best, eval_steps=100).eval_steps == 100
    assert MultiHeadTrainingArguments("out", eval_strategy="steps", logging_steps=20).eval_steps == 20
    assert MultiHeadTrainingArguments("out", eval_strategy="epoch").eval_steps is None


def test_after_the_training_the_step_is_that_of_the_model_which_is_kept(tmp_path: Path) -> None:
    highest_loss = {"metric_for_best_model": "loss", "greater_is_better": True}  # that of the first epoch
    epochs = {"eval_strategy": "epoch", "save_strategy": "epoch", "load_best_model_at_end": True}
    trainer = trainer_for(tmp_path, num_train_epochs=2, learning_rate=1e-3, **epochs, **highest_loss)
    trainer.train()
    first, last = trainer.state.best_global_step, trainer.state.global_step
    assert first < last
    with collected_tables(trainer) as tables:
        trainer.evaluate()
    assert tables[0].startswith(f"epoch 1  step {first}  ")
    trainer.save_model()
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"2 epochs, {last} steps, of which the checkpoint of step {first} is kept" in card


def test_memory_is_pinned_where_an_accelerator_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def pinned(device: str | None, **settings: Any) -> bool:
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: device is not None)
        current = None if device is None else torch.device(device)
        monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: current)
        return MultiHeadTrainingArguments("out", **settings).dataloader_pin_memory

    assert [pinned("cuda"), pinned("mps"), pinned(None)] == [True, False, False]
    assert [pinned("cuda", use_cpu=True), pinned("cuda", dataloader_pin_memory=False)] == [False, False]
    assert pinned(None, dataloader_pin_memory=True, bf16=False)  # (in bf16 on a CPU, transformers does not pin)


def test_nothing_is_said_of_what_an_untrained_head_learns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = Dataset.from_dict({"text": ["a", "b"], "mood": ["calm", "angry"]})
    MultiHeadTrainer(
        tiny.model(heads=tiny.two_heads()),
        MultiHeadTrainingArguments(str(tmp_path), max_steps=1, report_to="none", train_heads=["mood"]),
        train_dataset=rows,
        processing_class=tiny.tokenizer(),
    ).train()
    printed = capsys.readouterr().out
    assert "the heads topic are not trained" in printed
    assert "Head 'topic'" not in printed


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([[1.0, None], [None, 1.0]], "Head 'topic': every known cell is 1, and the others are unknown, so it learns"),
        ([[0.0, 0.0], [0.0, None]], "Head 'topic': no label applies to any training row, so it learns to predict none"),
    ],
)
def test_a_head_without_negatives_or_positives_is_said(
    cells: list, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = Dataset.from_dict({"text": ["a", "b"], "topic": cells})
    heads = {"topic": HeadConfig(labels=["roads", "waste"], problem_type="multi_label_classification")}
    args = MultiHeadTrainingArguments(str(tmp_path), max_steps=1, report_to="none")
    MultiHeadTrainer(tiny.model(heads=heads), args, train_dataset=rows, processing_class=tiny.tokenizer()).train()
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.filterwarnings("error")
def test_a_run_with_defaults_warns_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transformers.utils.logging.enable_progress_bar()
    try:
        trainer = trainer_for(tmp_path, use_cpu=torch.accelerator.is_available(), max_steps=2, save_strategy="steps")
        trainer.train()
        trainer.save_model()
    finally:
        transformers.utils.logging.disable_progress_bar()
    assert (tmp_path / "checkpoint-2" / "model.safetensors").is_file()
    shown = capsys.readouterr()
    assert "Writing model shards" not in shown.err + shown.out
    assert "pin_memory" not in shown.err + shown.out


# ---- notebooks ----


class Html(str):
    """Stands for `IPython.display.HTML`."""


@pytest.fixture
def displayed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What a notebook shows: each entry is a list of the states that one output has had."""
    outputs: list[Any] = []

    def show(html: Html, display_id: bool = False) -> Any:
        outputs.append([html])
        return types.SimpleNamespace(update=outputs[-1].append)

    display: Any = types.ModuleType("IPython.display")
    display.HTML, display.display = Html, show
    ipython: Any = types.ModuleType("IPython")
    ipython.display = display
    loaded = ("transformers.utils.notebook", "multihead_hf.training.notebook")
    for name in loaded:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    from transformers.utils.notebook import NotebookProgressCallback

    monkeypatch.setattr(transformers.trainer, "DEFAULT_PROGRESS_CALLBACK", NotebookProgressCallback)
    monkeypatch.setattr(console_choice, "is_in_notebook", lambda: True)
    yield outputs
    for name in loaded:  # they hold the stand-in
        sys.modules.pop(name, None)


@pytest.mark.parametrize("evaluates", [True, False])
def test_a_notebook_shows_the_table_and_not_every_metric(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], displayed: list[Any], evaluates: bool
) -> None:
    settings = {**SETTINGS, "eval_strategy": "epoch" if evaluates else "no"}
    trainer = trainer_for(tmp_path, disable_tqdm=False, **settings)
    trainer.train()
    found = trainer.evaluate()
    start, bar, *tables = displayed
    assert start == [f"<pre>{html.escape(START.rstrip())}</pre>"]
    columns = re.findall(r"<th>(.*?)</th>", bar[-1]) or re.findall(r"<th style=.*?>(.*?)</th>", bar[-1])
    assert columns == ["Epoch", "Training Loss", "Validation Loss", "F1"] if evaluates else ["Step", "Training Loss"]
    text = [each[0] for each in tables if each[0].startswith("<pre>")]
    assert text[-1] == f"<pre>{table(found, 'epoch 2  step 12  ').rstrip()}</pre>"
    assert len(text) == (3 if evaluates else 1)
    assert "mcc" not in "".join(map(str, displayed))
    assert capsys.readouterr().out == ""


def test_a_notebook_with_several_evaluation_sets(tmp_path: Path, displayed: list[Any]) -> None:
    trainer = trainer_for(tmp_path, disable_tqdm=False, **SETTINGS)
    rows = trainer.eval_dataset
    trainer.eval_dataset = {"a": rows, "b": Dataset.from_list(list(rows))}
    trainer.train()
    text = [each[0] for each in displayed if each[0].startswith("<pre>")]
    titles = [each.split("  ")[0].removeprefix("<pre>") for each in text[1:]]
    assert titles == ["evaluation set &#x27;a&#x27;", "evaluation set &#x27;b&#x27;"] * 2
    last = re.findall(r"<th>(.*?)</th>", displayed[1][-1]) or re.findall(r"<th style=.*?>(.*?)</th>", displayed[1][-1])
    assert {"A Loss", "A F1", "B Loss", "B F1", "F1"} <= set(last)

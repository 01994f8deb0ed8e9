"""What a run with nothing set does: rates, epochs, precision; and that it learns."""

import functools
import inspect
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from training_runs import still, trainer_for
from transformers import HfArgumentParser, TrainingArguments, set_seed

from multihead_hf import (
    HeadConfig,
    MultiHeadConfig,
    MultiHeadDataCollator,
    MultiHeadModel,
    MultiHeadTrainer,
    MultiHeadTrainingArguments,
    prepare_dataset,
)
from multihead_hf.training import arguments as arguments_file
from multihead_hf.training import defaults
from multihead_hf.training.choices import moves_like_adam
from multihead_hf.training.defaults import encoder_rate, feature_size, fresh_head_rate, run_length

OPEN = {"learning_rate": None, "head_learning_rate": None, "num_train_epochs": None}


def rates(trainer: MultiHeadTrainer) -> dict[str, float]:
    return {group["name"]: group["lr"] for group in trainer.create_optimizer().param_groups}


@pytest.mark.parametrize(("width", "rate"), [(384, 3e-4), (768, 7.5e-5), (1024, 4.2e-5), (32, 1e-3)])
def test_the_encoder_s_rate_follows_its_width(width: int, rate: float) -> None:
    assert encoder_rate(width, 100) == rate


@pytest.mark.parametrize(
    ("steps", "rate"), [(0, 3e-4), (500, 3e-4), (1_000, 1.5e-4), (1_500, 9.9e-5), (100_000, 9.9e-5)]
)
def test_the_encoder_s_rate_falls_with_the_number_of_steps(steps: float, rate: float) -> None:
    assert encoder_rate(384, steps) == rate


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, 10 * 48 / 4),
        ({"num_train_epochs": 50}, 600),
        ({"num_train_epochs": 50, "gradient_accumulation_steps": 4}, 150),
        ({"max_steps": 900}, 900),
    ],
)
def test_the_steps_of_the_rate_are_those_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], steps: float
) -> None:
    monkeypatch.setattr(defaults, "encoder_rate", lambda width, steps: encoder_rate(12 * width, steps))
    args = MultiHeadTrainingArguments(
        str(tmp_path), use_cpu=True, report_to="none", per_device_train_batch_size=4, **settings
    )
    made = MultiHeadTrainer(still(), args, train_dataset=tiny.table(48), processing_class=tiny.tokenizer())
    assert made.config.hidden_size == 32
    assert made.args.learning_rate == encoder_rate(384, steps)


@pytest.mark.parametrize(
    ("rows", "epochs"),
    [(40, 20), (80, 20), (128, 13), (500, 10), (1_000, 10), (2_000, 8), (8_000, 3), (1_000_000, 3), (None, 3), (0, 3)],
)
def test_few_rows_get_more_epochs(rows: int | None, epochs: int) -> None:
    assert run_length(tiny.two_heads(), True).epochs_for(rows, 16) == epochs
    if rows == 1_000:
        assert run_length(tiny.two_heads(), False).epochs_for(rows, 16) == 16


@pytest.mark.parametrize(
    ("heads", "trains_encoder", "steps"),
    [
        ({"topic": tiny.two_heads()["topic"]}, True, 1_000),
        ({"mood": tiny.two_heads()["mood"]}, True, 500),
        ({"mood": tiny.two_heads()["mood"]}, False, 1_000),
        (tiny.two_heads(), True, 1_000),
    ],
)
def test_single_label_heads_need_fewer_steps(heads: dict[str, HeadConfig], trains_encoder: bool, steps: int) -> None:
    assert run_length(heads, trains_encoder).steps == steps


def test_a_run_of_single_label_heads_has_fewer_epochs(tmp_path: Path) -> None:
    model = MultiHeadModel(
        MultiHeadConfig(encoder=tiny.bert_config(dropout=0.1), heads={"mood": tiny.two_heads()["mood"]})
    )
    args = MultiHeadTrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    rows = tiny.table(800).select_columns(["text", "mood"])
    trainer = MultiHeadTrainer(model, args, train_dataset=rows, processing_class=tiny.tokenizer())
    assert trainer.args.num_train_epochs == 10
    trainer.create_optimizer()
    told = "num_train_epochs 10 (for 500 steps, in 3 to 10 epochs, or up to 20 with few rows)"
    assert told in trainer.chosen_settings()[0]
    both = MultiHeadModel(MultiHeadConfig(encoder=tiny.bert_config(dropout=0.1), heads=tiny.two_heads()))

    def epochs(**settings: Any) -> float:
        args = MultiHeadTrainingArguments(str(tmp_path), use_cpu=True, report_to="none", **settings)
        found = MultiHeadTrainer(both, args, train_dataset=tiny.table(800), processing_class=tiny.tokenizer())
        return found.args.num_train_epochs

    assert epochs() == 10
    assert epochs(freeze_encoder=True) == 20
    assert epochs(train_heads=["mood"]) == 10
    assert epochs(train_heads=["mood"], freeze_encoder=True) == 20


def test_what_is_left_open_is_filled_into_a_copy(tmp_path: Path) -> None:
    args = MultiHeadTrainingArguments(str(tmp_path), use_cpu=True, per_device_train_batch_size=4)
    model = still()
    made = MultiHeadTrainer(
        model=model, args=args, train_dataset=tiny.table(48), processing_class=tiny.tokenizer(), eval_dataset=None
    )
    assert (args.learning_rate, args.num_train_epochs, args.head_learning_rate) == (None, None, None)
    assert (made.args.learning_rate, made.args.num_train_epochs) == (1e-3, 10.0)
    given = trainer_for(tmp_path, learning_rate=3e-5, num_train_epochs=1)
    assert (given.args.learning_rate, given.args.num_train_epochs) == (3e-5, 1)


def test_max_steps_goes_with_open_epochs(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, max_steps=2, **OPEN)
    trainer.train()
    assert trainer.state.global_step == 2


def test_fresh_heads_get_a_rate_by_the_size_of_their_features(tmp_path: Path) -> None:
    set_seed(0)
    heads = {"linear": HeadConfig(labels=tiny.MOODS), "mlp": HeadConfig(labels=tiny.MOODS, architecture="mlp")}
    model = MultiHeadModel(MultiHeadConfig(encoder=tiny.bert_config(dropout=0.1), heads=heads))
    columns = {"linear": "mood", "mlp": "mood"}
    args = MultiHeadTrainingArguments(str(tmp_path), use_cpu=True, label_columns=columns)
    trainer = MultiHeadTrainer(model=model, args=args, train_dataset=tiny.table(64), processing_class=tiny.tokenizer())
    rows = [trainer.train_dataset[index * 4] for index in range(16)]
    batch = MultiHeadDataCollator(trainer.processing_class, model)(rows)
    with torch.no_grad():
        features = model.eval().encode(batch["input_ids"], batch["attention_mask"])
    size = features.abs().sum(-1).mean().item()
    found = rates(trainer)
    assert found["heads_linear"] == pytest.approx(fresh_head_rate("linear", size))
    assert found["heads_mlp"] == pytest.approx(fresh_head_rate("mlp", size))
    assert found["heads_linear"] > found["heads_mlp"] > found["encoder"]


def test_wider_and_longer_features_get_lower_rates() -> None:
    assert fresh_head_rate("linear", 91) == 0.022
    assert fresh_head_rate("linear", 400) == 0.005
    assert fresh_head_rate("linear", 0.0) == 0.1


def test_measuring_changes_neither_modes_nor_random_numbers(tmp_path: Path) -> None:
    model = MultiHeadModel(MultiHeadConfig(encoder=tiny.bert_config(dropout=0.5), heads=tiny.two_heads()))
    model.train()
    model.encoder.embeddings.eval()
    rows = prepare_dataset(tiny.table(8), tiny.tokenizer(), model)
    state = torch.get_rng_state()
    collate = MultiHeadDataCollator(tiny.tokenizer(), model)
    assert feature_size(model, rows, collate) == feature_size(model, rows, collate) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert not model.encoder.embeddings.training


def test_the_features_of_windows_are_measured(tmp_path: Path) -> None:
    model = still()
    model.config.truncation, model.config.max_length = "windows", 6
    rows = prepare_dataset(tiny.table(8), tiny.tokenizer(), model)
    assert feature_size(model, rows, MultiHeadDataCollator(tiny.tokenizer(), model)) > 0


def test_heads_that_were_trained_keep_to_the_learning_rate(tmp_path: Path) -> None:
    first = trainer_for(tmp_path / "first", max_steps=1, **OPEN)
    assert rates(first)["heads"] > 0.01
    first.train()
    first.save_model()
    again = trainer_for(tmp_path / "again", first.model, **OPEN)
    assert rates(again) == {"encoder": 1e-3, "heads": 1e-3}
    loaded = MultiHeadModel.from_pretrained(tmp_path / "first")
    assert rates(trainer_for(tmp_path / "loaded", loaded, **OPEN))["heads"] == 1e-3
    loaded.add_head("new", HeadConfig(labels=tiny.MOODS))
    added = trainer_for(tmp_path / "added", loaded, label_columns={"new": "mood"}, **OPEN)
    found = rates(added)
    assert sorted(found) == ["encoder", "heads_linear_0.001", f"heads_linear_{max(found.values()):g}"]
    assert max(found.values()) > 0.01


def test_frozen_heads_stay_fresh(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, max_steps=1, train_heads=["mood"], **OPEN)
    trainer.train()
    assert trainer.model.heads["topic"].is_fresh
    assert not trainer.model.heads["mood"].is_fresh


def test_optimizers_that_do_not_move_like_adam_keep_the_learning_rate(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, optim="sgd", **OPEN)
    assert set(rates(trainer).values()) == {1e-3}
    assert "the heads have the learning_rate of the encoder" in trainer.chosen_settings()[-1]
    assert rates(trainer_for(tmp_path, optim="adafactor", **OPEN))["heads"] > 0.01
    given = trainer_for(tmp_path, **OPEN)
    given.optimizer_cls_and_kwargs = (functools.partial(torch.optim.AdamW, eps=1e-6), {})
    assert moves_like_adam(given.args, given.optimizer_cls_and_kwargs)


def test_what_was_chosen_is_said(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, **OPEN)
    trainer.create_optimizer()
    (told,) = trainer.chosen_settings()
    assert told.startswith(
        "chosen automatically: learning_rate 0.001 (by the encoder's width and the number of steps), head_learning_rate 0.08"
    )
    assert told.endswith("num_train_epochs 17 (for 1,000 steps, in 3 to 10 epochs, or up to 20 with few rows)")
    trainer.args.learning_rate = 7e-6
    assert "learning_rate 7e-06" not in trainer.chosen_settings()[0]
    assert trainer_for(tmp_path).chosen_settings() == []


def test_with_a_frozen_encoder_the_learning_rate_is_that_of_the_heads(tmp_path: Path) -> None:
    frozen = {**OPEN, "freeze_encoder": True}
    assert rates(trainer_for(tmp_path, **{**frozen, "learning_rate": 3e-3})) == {"heads": 3e-3}
    assert rates(trainer_for(tmp_path, **frozen))["heads"] > 0.01
    assert rates(trainer_for(tmp_path, **{**OPEN, "learning_rate": 3e-3}))["heads"] > 0.01
    changed = trainer_for(tmp_path, **frozen)
    changed.args.learning_rate = 4e-3  # as a hyperparameter search does
    assert rates(changed) == {"heads": 4e-3}


def test_model_init(tmp_path: Path) -> None:
    trainer = MultiHeadTrainer(
        model_init=lambda: still(),
        args=MultiHeadTrainingArguments(str(tmp_path), use_cpu=True, max_steps=1, report_to="none", save_strategy="no"),
        train_dataset=tiny.table(32),
        processing_class=tiny.tokenizer(),
    )
    assert (trainer.args.learning_rate, trainer.args.num_train_epochs) == (1e-3, 20.0)
    trainer.train()
    assert {group["name"]: group["initial_lr"] > 0.01 for group in trainer.optimizer.param_groups} == {
        "encoder": False,
        "heads": True,
    }


def test_every_changed_default_is_in_the_table() -> None:
    from dataclasses import fields

    theirs = {each.name: each.default for each in fields(TrainingArguments)}
    ours = {each.name: each.default for each in fields(MultiHeadTrainingArguments) if each.name in theirs}
    changed = {name for name, default in ours.items() if default != theirs[name]}
    text = inspect.getdoc(MultiHeadTrainingArguments) or ""  # (newer Pythons take the indentation out of `__doc__`)
    told = {name for name in theirs if f"\n| `{name}` |" in text}
    assert changed == told


def test_switches_need_no_value_on_a_command_line(tmp_path: Path) -> None:
    parser = HfArgumentParser(MultiHeadTrainingArguments)
    given = ["--output_dir", str(tmp_path), "--use_cpu"]
    (args,) = parser.parse_args_into_dataclasses([*given, "--bf16", "--dataloader_pin_memory"])
    assert args.bf16 is True
    (args,) = parser.parse_args_into_dataclasses([*given, "--bf16", "false"])
    assert args.bf16 is False


@pytest.mark.parametrize(
    ("has_bf16", "settings", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"bf16": False}, False),
    ],
)
def test_bf16_where_the_processor_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_bf16: bool, settings: dict[str, Any], expected: bool
) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    monkeypatch.setattr(arguments_file, "is_faster_in_bf16", lambda on_cpu: has_bf16)
    assert MultiHeadTrainingArguments(str(tmp_path), **settings).bf16 is expected
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert MultiHeadTrainingArguments(str(tmp_path), **settings).bf16 is False


@pytest.mark.slow
def test_with_nothing_set_every_head_learns(tmp_path: Path) -> None:
    """The first run of a newcomer: a multi-label head beside a single-label one, on an encoder without pretraining."""
    rows = tiny.table(600)
    set_seed(0)
    heads = tiny.two_heads()
    model = MultiHeadModel(MultiHeadConfig(encoder=tiny.bert_config(dropout=0.1), heads=heads, pooling="mean"))
    trainer = MultiHeadTrainer(
        model=model,
        args=MultiHeadTrainingArguments(str(tmp_path), report_to="none", save_strategy="no", disable_tqdm=True),
        train_dataset=rows.select(range(480)),
        eval_dataset=rows.select(range(480, 600)),
        processing_class=tiny.tokenizer(),
    )
    trainer.train()
    found = trainer.evaluate()
    for name, head in heads.items():
        assert found[f"eval_{name}_{'f1_micro' if head.multi_label else 'accuracy'}"] > 0.9, name


def test_bf16_is_left_out_for_a_frozen_encoder_in_float16_on_a_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arguments_file, "is_faster_in_bf16", lambda on_cpu: True)
    for dtype, bf16 in ((torch.float32, True), (torch.float16, False)):
        model = tiny.model()
        model.encoder.to(dtype)
        args = MultiHeadTrainingArguments(
            str(tmp_path), max_steps=1, freeze_encoder=True, use_cpu=True, report_to="none"
        )
        assert args.bf16
        trainer = MultiHeadTrainer(model, args, train_dataset=tiny.table(8), processing_class=tiny.tokenizer())
        assert trainer.args.bf16 is bf16
        assert trainer.accelerator.mixed_precision == ("bf16" if bf16 else "no")
        trainer.train()

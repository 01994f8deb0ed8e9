"""Checkpoints: what they hold, resuming exactly, and refusing those that are incomplete or another model's."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import load_file
from training_runs import arguments, still, trainer_for, weights
from transformers import EarlyStoppingCallback, TrainerCallback

from multihead_hf import HeadConfig, MultiHeadModel, MultiHeadTrainer, prepare_dataset
from multihead_hf.training import defaults
from multihead_hf.training.checkpoints import find_problem
from multihead_hf.training.defaults import encoder_rate


def test_best_model_and_early_stopping(tmp_path: Path) -> None:
    trainer = trainer_for(
        tmp_path,
        num_train_epochs=12,
        learning_rate=0.0,  # nothing improves after the first epoch
        head_learning_rate=1e-12,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="topic_f1_micro",
        callbacks=[EarlyStoppingCallback(early_stopping_patience=3)],
    )
    trainer.train()
    assert trainer.state.epoch == 4
    assert trainer.state.best_global_step == 6
    assert str(trainer.state.best_model_checkpoint).endswith("checkpoint-6")


def test_checkpoints_are_whole_and_published_folders_hold_no_pickle(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path / "out", max_steps=2, save_strategy="steps", save_steps=2)
    trainer.train()
    trainer.save_model()
    code = {path.name for path in (Path(__file__).parents[2] / "multihead_hf" / "model").glob("*_multihead.py")}
    checkpoint = {path.name for path in (tmp_path / "out" / "checkpoint-2").iterdir()}
    published = {path.name for path in (tmp_path / "out").iterdir() if path.is_file()}
    model = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} | code
    model |= {"README.md", "model_card.json"}
    assert published == model
    assert model | {"training_args.bin", "optimizer.pt", "trainer_state.json"} <= checkpoint
    saved = MultiHeadModel.from_pretrained(tmp_path / "out" / "checkpoint-2")
    for key, value in saved.state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[key])


def test_resume_continues_the_same_run(tmp_path: Path) -> None:
    settings = {
        "max_steps": 8,
        "save_strategy": "steps",
        "save_steps": 4,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 8,
    }
    heads = tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.565)
    whole = trainer_for(tmp_path / "whole", still(**heads), **settings)
    whole.train()
    resumed = trainer_for(tmp_path / "again", still(**heads), **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert resumed.state.global_step == 8
    for key, value in weights(whole.model).items():
        assert torch.equal(value, weights(resumed.model)[key]), key


def test_logs_go_on_after_a_resume_and_a_second_run(tmp_path: Path) -> None:
    settings = {"max_steps": 6, "save_steps": 4, "save_strategy": "steps", "logging_steps": 2, "learning_rate": 1e-2}
    whole = trainer_for(tmp_path / "whole", **settings)
    whole.train()
    expected = [entry for entry in whole.state.log_history if "mood_loss" in entry][-1]
    resumed = trainer_for(tmp_path / "again", **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    found = [entry for entry in resumed.state.log_history if "mood_loss" in entry][-1]
    keys = ("step", "loss", "topic_loss", "mood_loss", "topic_bce")
    assert {key: found[key] for key in keys} == pytest.approx({key: expected[key] for key in keys}, abs=1e-5)
    resumed.train()
    again = [entry for entry in resumed.state.log_history if "mood_loss" in entry]
    assert len(again) == 3
    assert all(
        entry["loss"] == pytest.approx((entry["topic_loss"] + entry["mood_loss"]) / 2, abs=1e-4) for entry in again
    )


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("trainer_state.json", Path.unlink, r"trainer_state.json is missing"),
        ("trainer_state.json", _cut, r"trainer_state.json cannot be read \(JSONDecodeError"),
        ("model.safetensors", _cut, r"model.safetensors cannot be read \(SafetensorError"),
        ("model.safetensors", Path.unlink, r"model.safetensors is missing"),
        ("optimizer.pt", _cut, r"optimizer.pt cannot be read \(BadZipFile"),
        ("scheduler.pt", Path.unlink, r"scheduler.pt is missing"),
        ("rng_state.pth", Path.unlink, r"rng_state.pth is missing"),
    ],
)
def test_an_incomplete_checkpoint_is_refused(tmp_path: Path, name: str, damage: Any, message: str) -> None:
    settings = {"max_steps": 3, "save_strategy": "steps", "save_steps": 1}
    trainer_for(tmp_path / "out", **settings).train()
    damage(tmp_path / "out" / "checkpoint-3" / name)
    trainer = trainer_for(tmp_path / "out", **settings)
    before = weights(trainer.model)
    with pytest.raises(
        ValueError,
        match=rf"checkpoint-3 cannot be resumed from: {message}.*newest complete checkpoint is .*checkpoint-2",
    ):
        trainer.train(resume_from_checkpoint=True)
    assert all(torch.equal(value, before[key]) for key, value in weights(trainer.model).items())
    assert trainer.state.global_step == 0
    trainer.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    assert trainer.state.global_step == 3


class Evil:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('code of a checkpoint has run')",))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("trainer_state.json", [], "trainer_state.json cannot be read"),
        ("trainer_state.json", {"global_step": "3"}, "global_step is '3'"),
        ("trainer_state.json", {"global_step": 3, "log_history": [5]}, "log_history is not a list of dicts"),
        ("trainer_state.json", {"global_step": 3, "best_model_checkpoint": 5}, "best_model_checkpoint is 5"),
        ("trainer_state.json", {"global_step": 3, "unknown": 5}, "KeyError: 'unknown'"),
        ("config.json", [], "config.json cannot be read"),
        ("config.json", {"heads": 5}, "config.json cannot be read"),
        ("config.json", {"heads": [{"name": "topic"}]}, "config.json cannot be read"),
        ("trained_parameters.json", [], "trained_parameters.json cannot be read"),
        *(
            (name, Evil(), f"{name} holds more than tensors")
            for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth")
        ),
    ],
)
def test_a_checkpoint_with_strange_values_is_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    settings = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer_for(tmp_path / "out", **settings).train()
    path = tmp_path / "out" / "checkpoint-1" / name
    assert path.is_file()
    if isinstance(content, Evil):
        torch.save(content, path)
    else:
        path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        trainer_for(tmp_path / "out", **{**settings, "max_steps": 2}).train(resume_from_checkpoint=True)
    assert "checkpoint-1" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_streams_incomplete_last_step_is_left_out(tmp_path: Path) -> None:
    """10 rows in steps of 2 × 2 rows: two steps an epoch, and nothing of the last two rows in the next one."""
    rows = prepare_dataset(tiny.table(10), tiny.tokenizer(), still())
    settings = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-2,
        "max_steps": 4,
    }
    runs = []
    for given, extra in (
        (rows.to_iterable_dataset(), {}),
        (rows.select(range(8)), {"train_sampling_strategy": "sequential"}),
    ):
        args = arguments(tmp_path, **settings, **extra)
        trainer = MultiHeadTrainer(still(), args, None, given, None, tiny.tokenizer())
        trainer.train()
        runs.append(
            (weights(trainer.model), [entry["loss"] for entry in trainer.state.log_history if "mood_loss" in entry])
        )
    assert len(runs[0][1]) == 4
    assert runs[0][1] == pytest.approx(runs[1][1], abs=1e-6)
    for key, value in runs[0][0].items():
        torch.testing.assert_close(value, runs[1][0][key], atol=1e-6, rtol=1e-5)


def test_a_checkpoint_of_other_heads_is_refused(tmp_path: Path) -> None:
    first = trainer_for(tmp_path / "out", max_steps=1, save_strategy="steps", save_steps=1)
    first.train()
    checkpoint = str(tmp_path / "out" / "checkpoint-1")
    renamed = still(thema=tiny.two_heads()["topic"], mood=tiny.two_heads()["mood"])
    rows = tiny.table(8)
    args = arguments(tmp_path / "other")
    trainer = MultiHeadTrainer(renamed, args, None, rows, None, tiny.tokenizer())
    with pytest.raises(
        ValueError, match=r"checkpoint heads \['topic', 'mood'\] do not match the model's heads \['thema', 'mood'\]"
    ):
        trainer.train(resume_from_checkpoint=checkpoint)
    more = tiny.two_heads()
    more["mood"] = HeadConfig(labels=[*tiny.MOODS, "sad"])
    trainer = MultiHeadTrainer(still(**more), args, None, rows, None, tiny.tokenizer())
    with pytest.raises(
        ValueError,
        match=r"head 'mood' has other labels than in the model: only in the checkpoint \[\], only in the model \['sad'\]",
    ):
        trainer.train(resume_from_checkpoint=checkpoint)


def test_a_weights_file_of_other_heads_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    still().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    settings = json.loads(path.read_text())

    def with_heads(*heads: dict) -> None:
        path.write_text(json.dumps({**settings, "heads": list(heads)}))

    topic, mood = settings["heads"]
    with_heads(topic, {**mood, "name": "feeling"})
    with pytest.raises(ValueError, match=r"has heads that are not in its configuration \(head_mood\)"):
        MultiHeadModel.from_pretrained(tmp_path)
    with_heads(topic, {**mood, "labels": ["calm", "angry", "sad"], "label_weights": None})
    with pytest.raises(
        ValueError,
        match=r"head 'mood': heads.head_mood.layers.1.bias has shape \(2,\) in the checkpoint, but shape \(3,\) by the configuration",
    ):
        MultiHeadModel.from_pretrained(tmp_path)
    # a head that is only in the configuration is a fresh one, and said to be
    with_heads(topic, mood, {**mood, "name": "new"})
    library = logging.getLogger("transformers")
    propagate, library.propagate = library.propagate, True
    with caplog.at_level(logging.WARNING):
        model = MultiHeadModel.from_pretrained(tmp_path)
    library.propagate = propagate
    fresh = model.heads["new"].layers[-1]
    assert torch.isfinite(fresh.weight).all()
    assert 0.005 < fresh.weight.std() < 0.05
    assert not fresh.bias.any()
    assert "no weights for the heads ['new']" in caplog.text


def test_a_cut_shard_is_refused(tmp_path: Path) -> None:
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer = trainer_for(tmp_path / "out", **settings)
    trainer.train()
    for step in (1, 2):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        (folder / "model.safetensors").unlink()
        trainer.model.save_pretrained(folder, max_shard_size="20KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert find_problem(str(folder)) is None
    _cut(shards[1])
    with pytest.raises(ValueError, match=rf"{shards[1].name} cannot be read.*complete checkpoint is .*checkpoint-1"):
        trainer_for(tmp_path / "out", **settings).train(resume_from_checkpoint=True)
    _cut(folder / "model.safetensors.index.json")
    with pytest.raises(
        ValueError, match=r"model.safetensors.index.json cannot be read.*complete checkpoint is .*checkpoint-1"
    ):
        trainer_for(tmp_path / "out", **settings).train(resume_from_checkpoint=True)


def test_a_checkpoint_of_another_number_of_processes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    trainer_for(tmp_path / "out", **settings).train()
    folder = tmp_path / "out" / "checkpoint-1"
    (folder / "rng_state.pth").rename(folder / "rng_state_1.pth")
    with pytest.raises(ValueError, match=r"rng_state_0.pth is missing"):
        trainer_for(tmp_path / "out", **settings).train(resume_from_checkpoint=str(folder))
    (folder / "rng_state_0.pth").write_bytes((folder / "rng_state_1.pth").read_bytes())
    trainer_for(tmp_path / "out", **settings).train(resume_from_checkpoint=str(folder))
    assert "made by 2 processes, but this run has 1: training continues, but not bit for bit" in caplog.text


def test_a_stream_is_resumed_in_its_first_pass_only(tmp_path: Path) -> None:
    rows = prepare_dataset(tiny.table(32), tiny.tokenizer(), still())
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "learning_rate": 1e-2}
    settings |= {"max_steps": 6, "save_strategy": "steps", "save_steps": 1}

    def trainer(stream: Any) -> MultiHeadTrainer:
        return MultiHeadTrainer(still(), arguments(tmp_path, **settings), None, stream, None, tiny.tokenizer())

    whole = trainer(rows.to_iterable_dataset().repeat(2))
    whole.train()
    expected = weights(whole.model)
    for step in (3, 5):  # four steps in a pass of the stream itself
        again = trainer(rows.to_iterable_dataset().repeat(2))
        again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert all(torch.equal(value, expected[key]) for key, value in weights(again.model).items())
    trainer(rows.to_iterable_dataset()).train()
    with pytest.raises(ValueError, match=r"checkpoint-5: its run had read the stream 1 times.*stream.repeat"):
        trainer(rows.to_iterable_dataset()).train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))


def test_the_best_model_comes_with_its_thresholds(tmp_path: Path) -> None:
    heads = tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.565)
    trainer = trainer_for(
        tmp_path,
        still(**heads),
        max_steps=4,
        learning_rate=1e-2,
        head_weighting="uncertainty",
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_threshold_mean",
        greater_is_better=True,  # the first step's is the highest
        compute_metrics=lambda _: {"threshold_mean": 1.0 / (trainer.state.global_step + 1)},
    )
    trainer.train()
    assert str(trainer.state.best_model_checkpoint).endswith("checkpoint-1")
    parameter = trainer.model.heads["topic"].threshold_logits
    assert trainer.model.config.heads["topic"].thresholds == pytest.approx(torch.sigmoid(parameter).tolist())
    saved = load_file(tmp_path / "checkpoint-1" / "head_weighting.safetensors")["log_variances"]
    assert torch.equal(trainer.head_weights.log_variances, saved)


def test_a_checkpoint_of_another_optimizer_is_refused(tmp_path: Path) -> None:
    trainer_for(tmp_path, still(), max_steps=2, save_steps=1, save_strategy="steps").train()
    again = trainer_for(tmp_path, still(), max_steps=3, save_steps=1, save_strategy="steps", optim="sgd")
    with pytest.raises(ValueError, match="its run had the optimizer 'adamw_torch', but this run has 'sgd'"):
        again.train(resume_from_checkpoint=True)


def test_what_differs_from_the_run_of_a_checkpoint_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"save_steps": 1, "save_strategy": "steps"}
    trainer_for(tmp_path, still(), max_steps=2, **settings).train()
    caplog.clear()
    trainer_for(tmp_path, still(), max_steps=3, **settings).train(resume_from_checkpoint=True)
    assert "this run has" not in caplog.text
    table = tiny.table(48)
    other = table.remove_columns("mood").add_column("mood", [tiny.MOODS[1 - (mood or 0)] for mood in table["mood"]])
    for rows, told in (
        (other, "other training rows or labels"),
        (table.take(40), "40 training rows instead of 48 training rows"),
        (table.to_iterable_dataset(), "a stream of training rows instead of 48 training rows"),
    ):
        caplog.clear()
        again = MultiHeadTrainer(
            still(), arguments(tmp_path, max_steps=4), train_dataset=rows, processing_class=tiny.tokenizer()
        )
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
        assert f"checkpoint-2: this run has {told}. Training continues with that" in caplog.text
    caplog.clear()
    heads = {**still().config.heads, "topic": tiny.two_heads(dropout=0.0)["topic"]}
    heads["topic"].loss = "focal"
    trainer_for(tmp_path, still(**heads), max_steps=4, max_length=7).train(str(tmp_path / "checkpoint-2"))
    assert "loss of head 'topic' 'focal' instead of 'soft_f1_bce'" in caplog.text
    assert "max_length 7 instead of None" in caplog.text
    assert "training rows" not in caplog.text


def test_a_resumed_run_keeps_the_rate_that_was_chosen_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "encoder_rate", lambda width, steps: encoder_rate(12 * width, steps))
    settings = {"learning_rate": None, "num_train_epochs": 1, "save_strategy": "epoch"}
    trainer_for(tmp_path, still(), **settings).train()
    more = trainer_for(tmp_path, still(), **{**settings, "num_train_epochs": 100})
    assert more.args.learning_rate < encoder_rate(384, 1)
    more.args.max_steps = 20
    more.train(resume_from_checkpoint=True)
    assert more.args.learning_rate == more.optimizer.param_groups[0]["initial_lr"] == encoder_rate(384, 1)
    assert f"learning_rate {encoder_rate(384, 1):g}" in more.chosen_settings()[0]
    known = {"learning_rate": encoder_rate(384, 1), "head_learning_rate": None, "num_train_epochs": 1}
    same = trainer_for(tmp_path, still(), **{**settings, **known})
    same.train(resume_from_checkpoint=True)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("learning_rate", 1e-5, "learning rate of encoder 1e-05 instead of 0.0005"),
        ("encoder_learning_rate", 1e-6, "learning rate of encoder 1e-06 instead of 0.0005"),
        ("head_learning_rate", 1e-5, "learning rate of heads 1e-05 instead of 0.0005"),
        ("layer_learning_rate_decay", 0.5, "other groups of parameters"),
        ("weight_decay", 0.3, "weight_decay of encoder 0.3 instead of 0.0"),
        ("adam_beta1", 0.5, r"betas of encoder \(0.5, 0.999\) instead of \(0.9, 0.999\)"),
        ("adam_epsilon", 1e-3, "eps of encoder 0.001 instead of 1e-08"),
    ],
)
def test_settings_that_a_resumed_optimizer_would_ignore_are_refused(
    tmp_path: Path, name: str, value: float, said: str
) -> None:
    settings = {"learning_rate": 5e-4, "max_steps": 2, "save_steps": 1, "save_strategy": "steps"}
    trainer_for(tmp_path, still(), **settings).train()
    again = trainer_for(tmp_path, still(), **{**settings, "max_steps": 3, name: value})
    with pytest.raises(ValueError, match=rf"checkpoint-2: .*{said}.*start a new run from its weights"):
        again.train(resume_from_checkpoint=True)
    assert not (tmp_path / "checkpoint-3").exists()
    # a run from the weights of the checkpoint has the new settings
    path = tmp_path / "checkpoint-2"
    trainer_for(tmp_path / "fresh", MultiHeadModel.from_pretrained(path), **{**settings, name: value}).train()


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold_learning_rate": 0.5},  # no thresholds are learned
        {"learning_rate": 1e-5, "encoder_learning_rate": 5e-4, "head_learning_rate": 5e-4},
        {"lr_scheduler_kwargs": {}},
        {"optim_args": ""},
    ],
)
def test_settings_that_change_nothing_are_not_refused(
    tmp_path: Path, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    common = {"learning_rate": 5e-4, "save_steps": 1, "save_strategy": "steps"}
    trainer_for(tmp_path, still(), max_steps=2, **common).train()
    again = trainer_for(tmp_path, still(), max_steps=3, **{**common, **settings})
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 3
    assert "this run has" not in caplog.text


def test_an_optimizer_of_ones_own_is_compared_too(tmp_path: Path) -> None:
    def made(rate: float, steps: int) -> MultiHeadTrainer:
        model = still()
        optimizer = torch.optim.SGD(model.parameters(), lr=rate)
        args = arguments(tmp_path, max_steps=steps, save_steps=1, save_strategy="steps")
        rows, tokenizer = tiny.table(16), tiny.tokenizer()
        return MultiHeadTrainer(model, args, None, rows, processing_class=tokenizer, optimizers=(optimizer, None))

    made(1e-3, 2).train()
    made(1e-3, 3).train(resume_from_checkpoint=True)
    with pytest.raises(ValueError, match=r"learning rate of parameter group 0 0\.05 instead of 0\.001"):
        made(5e-2, 4).train(resume_from_checkpoint=True)


class Wrapped(torch.optim.SGD):
    """An optimizer whose state has no groups at its top."""

    def state_dict(self) -> dict[str, Any]:
        return {"inner": super().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict["inner"])


def test_an_optimizer_whose_state_has_no_groups_is_resumed(tmp_path: Path) -> None:
    rows, tokenizer = tiny.table(16), tiny.tokenizer()
    for steps in (2, 3):
        model = still()
        args = arguments(tmp_path, max_steps=steps, save_steps=1, save_strategy="steps")
        optimizers = (Wrapped(model.parameters(), lr=1e-3, momentum=0.9), None)
        trainer = MultiHeadTrainer(model, args, None, rows, processing_class=tokenizer, optimizers=optimizers)
        trainer.train(resume_from_checkpoint=steps == 3)
        assert trainer.state.global_step == steps


def test_a_schedule_with_a_state_is_resumed_as_it_was(tmp_path: Path) -> None:
    settings = {"save_steps": 1, "save_strategy": "steps", "eval_strategy": "steps", "eval_steps": 1}
    plateau = {"lr_scheduler_type": "reduce_lr_on_plateau", "metric_for_best_model": "loss"}
    trainer_for(tmp_path, still(), max_steps=2, **settings, **plateau).train()
    for other in (settings, {**settings, **plateau, "lr_scheduler_kwargs": {"patience": 9}}):
        with pytest.raises(ValueError, match="does not fit the state of the schedule"):
            trainer_for(tmp_path, still(), max_steps=4, **other).train(resume_from_checkpoint=True)
    trainer_for(tmp_path, still(), max_steps=3, **settings, **plateau).train(resume_from_checkpoint=True)


def test_a_schedule_that_a_resumed_run_has_otherwise_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = {"save_steps": 1, "save_strategy": "steps"}
    trainer_for(tmp_path, still(), max_steps=2, **settings).train()
    other = {"lr_scheduler_type": "cosine", "warmup_steps": 1}
    trainer_for(tmp_path, still(), max_steps=4, **settings, **other).train(resume_from_checkpoint=True)
    assert "this run has lr_scheduler_type 'cosine' instead of 'linear'; warmup_steps 1 instead of 0" in caplog.text


def test_text_settings_that_changed_since_the_rows_were_prepared_are_refused(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, max_steps=1)
    trainer.model.config.max_length = 3
    for call in (trainer.train, trainer.evaluate):
        with pytest.raises(
            ValueError, match=r"was prepared with max_length None \(now 3\): make a new MultiHeadTrainer"
        ):
            call()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = trainer_for(tmp_path / "out", max_steps=4, save_strategy="steps", save_steps=2)
    save = torch.save

    def on_a_full_disk(content: Any, path: str) -> None:
        save(content, "/dev/full" if "checkpoint-4" in path else path)

    monkeypatch.setattr(torch, "save", on_a_full_disk)
    with pytest.raises(OSError, match=r"could not be written .* has [\d,]+ MiB free: make room, and resume"):
        trainer.train()
    again = trainer_for(tmp_path / "out", max_steps=4)
    with pytest.raises(ValueError, match=r"missing\. The newest complete checkpoint is .*checkpoint-2"):
        again.train(resume_from_checkpoint=True)


def test_other_errors_of_a_training_stay_as_they_are(tmp_path: Path) -> None:
    class Broken(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match=r"^something else$"):
        trainer_for(tmp_path, callbacks=[Broken()]).train()

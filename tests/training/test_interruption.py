"""Ctrl+C while a model is trained saves a checkpoint, and a run that is resumed from it is the run without a pause."""

import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import trainer_for, weights
from transformers import TrainerCallback

from multihead_hf.training.interruption import TrainingInterrupted, saved_when_interrupted


class Presses(TrainerCallback):
    """Presses Ctrl+C at the beginning of a step, so many times."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            for _press in range(self.times):
                signal.raise_signal(signal.SIGINT)


SETTINGS: dict[str, Any] = {
    "num_train_epochs": 2,
    "learning_rate": 1e-3,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
}


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 3, 5, 7], ids=["first", "within", "last of an epoch", "later"])
def test_the_run_that_is_resumed_is_the_run_without_a_pause(tmp_path: Path, step: int) -> None:
    whole = trainer_for(tmp_path / "whole", **SETTINGS)
    whole.train()
    paused = trainer_for(tmp_path / "paused", callbacks=[Presses(step)], **SETTINGS)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingInterrupted) as stop, saved_when_interrupted(paused):
        paused.train()
    assert signal.getsignal(signal.SIGINT) is before
    assert stop.value.step == step + 1
    assert Path(stop.value.checkpoint) == tmp_path / "paused" / f"checkpoint-{step + 1}"
    assert Path(stop.value.checkpoint).is_dir()
    assert str(stop.value) == f"stopped after step {step + 1}, and saved {stop.value.checkpoint}"
    resumed = trainer_for(tmp_path / "paused", **SETTINGS)
    with saved_when_interrupted(resumed):
        resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 12
    for key, value in weights(whole.model).items():
        assert torch.equal(weights(resumed.model)[key], value), key


def test_the_second_time_it_stops_at_once(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, callbacks=[Presses(3, times=2)], **SETTINGS)
    with pytest.raises(KeyboardInterrupt) as stop, saved_when_interrupted(trainer):
        trainer.train()
    assert not isinstance(stop.value, TrainingInterrupted)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_in_the_last_step_there_is_nothing_to_resume(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, callbacks=[Presses(11)], **SETTINGS)
    with saved_when_interrupted(trainer):
        trainer.train()
    assert trainer.state.global_step == 12


def test_outside_a_training_and_outside_the_main_thread_nothing_changes(tmp_path: Path) -> None:
    trainer = trainer_for(tmp_path, **SETTINGS)
    with pytest.raises(KeyboardInterrupt), saved_when_interrupted(trainer):
        signal.raise_signal(signal.SIGINT)
    found = []

    def elsewhere() -> None:
        with saved_when_interrupted(trainer):
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]


def test_the_checkpoint_stays_where_only_the_best_one_is_kept(tmp_path: Path) -> None:
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "save_total_limit": 1}
    settings = {
        **SETTINGS,
        **best,
        "learning_rate": 1e-12,
        "head_learning_rate": 1e-12,
    }  # (the first epoch stays the best)
    trainer = trainer_for(tmp_path, callbacks=[Presses(8)], **settings)
    with pytest.raises(TrainingInterrupted) as stop, saved_when_interrupted(trainer):
        trainer.train()
    assert stop.value.step == 9
    assert Path(stop.value.checkpoint).is_dir()
    assert trainer.args.save_total_limit == 1
    resumed = trainer_for(tmp_path, **settings)
    with saved_when_interrupted(resumed):
        resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 12

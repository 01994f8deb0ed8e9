"""Ctrl+C during training saves a checkpoint to resume from."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

logger = logging.get_logger(__name__)


class TrainingInterrupted(KeyboardInterrupt):
    """Error after Ctrl+C, when a checkpoint was saved.

    Args:
        checkpoint: Folder of the checkpoint.
        step: Number of optimizer steps done.
    """

    def __init__(self, checkpoint: str, step: int) -> None:
        super().__init__(f"stopped after step {step}, and saved {checkpoint}")
        self.checkpoint = checkpoint
        self.step = step


class _StopAfterStep(TrainerCallback):
    """Callback that, after an interrupt, saves one more checkpoint without an evaluation."""

    def __init__(self) -> None:
        self.interrupted = False
        self.training = False

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.training = True

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.training = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.interrupted and state.global_step < state.max_steps:
            control.should_save, control.should_evaluate = True, False

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # not earlier: the checkpoint contains `control`, and a resumed run must not stop immediately
        if self.interrupted:
            control.should_training_stop = True
            args.save_total_limit = None  # at 1, the end of a training deletes every checkpoint but the best one

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if control.should_training_stop and self.interrupted:
            control.should_save = control.should_evaluate = False


@contextmanager
def saved_when_interrupted(trainer: Trainer) -> Iterator[None]:
    """Stop training after the current step with a checkpoint on the first Ctrl+C, and immediately on the second.

    This works in a single process and its main thread; otherwise nothing changes, because several processes would stop
    at different steps.

    Raises:
        TrainingInterrupted: Ctrl+C was pressed and the checkpoint is saved.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or trainer.args.world_size > 1:
        yield
        return
    stop = _StopAfterStep()
    before, limit = signal.getsignal(signal.SIGINT), trainer.args.save_total_limit

    def interrupt(number: int, frame: FrameType | None) -> None:
        if stop.interrupted or not stop.training:
            raise KeyboardInterrupt
        stop.interrupted = True
        logger.warning("Stopping after this step, with a checkpoint. Ctrl+C once more stops at once, without one.")

    trainer.add_callback(stop)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        trainer.args.save_total_limit = limit
        trainer.remove_callback(stop)
    step = trainer.state.global_step
    if stop.interrupted and step < trainer.state.max_steps:
        assert trainer.args.output_dir is not None
        raise TrainingInterrupted(os.path.join(trainer.args.output_dir, f"checkpoint-{step}"), step)

"""Console output of training and evaluation, by callbacks that replace transformers' progress callbacks.

They show a table when a training starts, one short line for each log of losses, and a table for each evaluation.
`log_history` and the trackers of `report_to` are not affected.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer
from tqdm.auto import tqdm
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from ..evaluation.metric_names import evaluation_keys
from ..evaluation.tables import evaluation_table, number
from ..publishing.card_callback import kept_checkpoint
from .description import WIDTH, describe_run, facts_of_run

if TYPE_CHECKING:
    from .trainer import MultiHeadTrainer

_TIMES = ("runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
_RATE = "learning_rate"


class Console:
    """Texts about the runs of one trainer, and the function that shows them.

    Args:
        trainer: A `MultiHeadTrainer`.
        write: Function that shows a text; by default it prints above the progress bars.
    """

    def __init__(self, trainer: "MultiHeadTrainer", write: Callable[[str], Any] = tqdm.write) -> None:
        self.trainer = trainer
        self.write = write
        self._begun = time.monotonic(), 0

    def start(self, state: TrainerState, optimizer: Optimizer) -> None:
        """Show the description of the run."""
        self._begun = time.monotonic(), state.global_step
        self.write(f"{describe_run(facts_of_run(self.trainer, state, optimizer))}\n")

    def log(self, state: TrainerState, logs: Mapping[str, Any]) -> None:
        """Show a log entry in one line. Evaluations have a table instead, see `evaluation`."""
        if "total_flos" in logs:
            self.write(end_line(state.global_step, logs))
        elif not self._is_evaluation(logs):
            self.write(log_line(logs, state.global_step, state.max_steps, list(self.trainer.config.heads)))

    def evaluation(self, state: TrainerState, metrics: Mapping[str, Any]) -> None:
        """Show the table of an evaluation, followed by the user's metrics."""
        if not self._is_evaluation(metrics):
            return  # the mean over several datasets, which was shown as a log entry
        heads, counted = self.trainer.config.heads, self.trainer.last_evaluation
        prefix = f"{self.trainer.metric_prefix}_"
        figures = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
        # after the training, the model may be an earlier checkpoint
        kept = None if self.trainer.is_in_train else kept_checkpoint(self.trainer.args, state)
        step, epoch = (state.global_step, state.epoch) if kept is None else kept
        title = evaluation_title(self.trainer.metric_prefix, epoch, step) + self._time_left(state)
        lines = [evaluation_table(heads, figures, None if counted is None else counted.rows(), title)]
        if counted is not None and not self.trainer.is_in_train:
            lines += counted.absent_labels()
        known = {*evaluation_keys(heads), *_TIMES}
        lines += [f"{key} {_value(value)}" for key, value in figures.items() if key not in known]
        self.write("\n".join([*lines, ""]))

    def _time_left(self, state: TrainerState) -> str:
        """Return the minutes that the training still takes if it goes on as fast; empty outside of it."""
        begun, first_step = self._begun
        done = state.global_step - first_step
        if not self.trainer.is_in_train or done < 1:
            return ""
        minutes = (time.monotonic() - begun) * (state.max_steps - state.global_step) / done / 60
        return f"  about {minutes:,.0f} min left" if minutes >= 1 else ""

    def summary_keys(self, metrics: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the keys of an evaluation's loss and mean F1, or all keys of any other log entry."""
        prefix = self.trainer.metric_prefix
        return (f"{prefix}_loss", f"{prefix}_f1") if self._is_evaluation(metrics) else tuple(metrics)

    def _is_evaluation(self, logs: Mapping[str, Any]) -> bool:
        return f"{self.trainer.metric_prefix}_runtime" in logs and "total_flos" not in logs


class ConsoleCallback(TrainerCallback):
    """Shows a run on a console; mixed into transformers' own progress callbacks, so that removing those removes it."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print the description of the run."""
        if state.is_world_process_zero:
            self.console.start(state, kwargs["optimizer"])
        super().on_train_begin(args, state, control, **kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print one line of the log entry."""
        if state.is_world_process_zero:
            assert logs is not None
            self.console.log(state, logs)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print the metrics of the evaluation."""
        super().on_evaluate(args, state, control, metrics=metrics, **kwargs)  # closes the bar
        if state.is_world_process_zero:
            assert metrics is not None
            self.console.evaluation(state, metrics)


class ConsoleProgressCallback(ConsoleCallback, ProgressCallback):
    """Progress bars, with tables and short lines above them."""


class ConsolePrinterCallback(ConsoleCallback, PrinterCallback):
    """Tables and short lines, without progress bars (`disable_tqdm=True`)."""


@contextlib.contextmanager
def collected_tables(trainer: "MultiHeadTrainer") -> Iterator[list[str]]:
    """Collect what a trainer's console would show into a list, instead of showing it."""
    texts: list[str] = []
    consoles = [
        callback.console for callback in trainer.callback_handler.callbacks if isinstance(callback, ConsoleCallback)
    ]
    before = [console.write for console in consoles]
    for console in consoles:
        console.write = lambda text: texts.append(text.rstrip("\n"))
    try:
        yield texts
    finally:
        for console, write in zip(consoles, before, strict=True):
            console.write = write


def log_line(logs: Mapping[str, Any], step: int, steps: int, heads: list[str]) -> str:
    """Return one short line of a log entry.

    While training these are the losses and the learning rate, otherwise all entries. If the line is too long, the
    learning rate is left out, and then the losses of the last heads.
    """
    parts = [f"step {step:>{len(str(steps))}}"]
    if "loss" not in logs:
        return "  ".join([*parts, *(f"{key} {_value(value)}" for key, value in logs.items() if key != "epoch")])
    parts.append(f"loss {_value(logs['loss'])}")
    losses = [f"{name} {_value(logs[f'{name}_loss'])}" for name in heads if f"{name}_loss" in logs]
    line = "  ".join([*parts, *losses, *_rates(logs)])
    shown = len(losses)
    while len(line) > WIDTH and shown:  # the log has all entries
        line = "  ".join([*parts, *losses[:shown], *(["..."] if shown < len(losses) else [])])
        shown -= 1
    return line


def _rates(logs: Mapping[str, Any]) -> list[str]:
    """Return the learning rate, or those of the encoder and the heads if they differ."""
    rates = {part: logs[f"{_RATE}_{part}"] for part in ("encoder", "heads") if f"{_RATE}_{part}" in logs}
    rate = next(iter(rates.values()), logs.get(_RATE))
    if rate is None:
        return []
    of_heads = {value for key, value in logs.items() if key.startswith(f"{_RATE}_heads")} or {rate}
    limits = " to ".join(f"{value:.1e}" for value in sorted({min(of_heads), max(of_heads)}))
    return [f"lr {rate:.1e}" if of_heads == {rate} else f"lr {rate:.1e} (heads {limits})"]


def end_line(step: int, logs: Mapping[str, Any]) -> str:
    """Return the message at the end of a run."""
    seconds, rows = logs.get("train_runtime", 0.0), logs.get("train_samples_per_second", 0.0)
    return (
        f"Trained to step {step} in {seconds:.1f} s, {rows:.1f} rows a second; mean loss {_value(logs['train_loss'])}"
    )


def evaluation_title(prefix: str, epoch: float | None, step: int) -> str:
    """Return the title of a table: the evaluation dataset, and when it was evaluated."""
    when = [f"epoch {epoch:.4g}", f"step {step}"] if step and epoch is not None else []
    return "  ".join([*([set_title(prefix)] if set_title(prefix) else []), *when])


def set_title(prefix: str) -> str:
    """Return the name of an evaluation dataset from the prefix of its metrics; empty for the default prefix `eval`."""
    if prefix == "eval":
        return ""
    return f"evaluation set {prefix.removeprefix('eval_')!r}" if prefix.startswith("eval_") else prefix


def _value(value: object) -> str:
    """Return a number of a log entry as text; numbers that are not finite are written as words."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return number(float(value)) if math.isfinite(value) else "not finite"

"""Output of training in a notebook: transformers' bar and table of losses, and a table for each evaluation."""

import html
from typing import TYPE_CHECKING, Any

from IPython import display
from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.utils.notebook import NotebookProgressCallback

from .console import Console, ConsoleCallback

if TYPE_CHECKING:
    from .trainer import MultiHeadTrainer


class ConsoleNotebookCallback(ConsoleCallback, NotebookProgressCallback):
    """A table of losses with a row for each evaluation: its loss and mean F1, and below it the heads' scores."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add a row to the table of the notebook while training."""
        if self.training_tracker is not None:
            NotebookProgressCallback.on_log(self, args, state, control, logs=logs, **kwargs)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the main metrics in the table of the notebook, and print the evaluation."""
        assert metrics is not None
        few = {key: value for key, value in metrics.items() if key in self.console.summary_keys(metrics)}
        NotebookProgressCallback.on_evaluate(self, args, state, control, metrics=few, **kwargs)
        if state.is_world_process_zero:
            self.console.evaluation(state, metrics)


def notebook_callback(trainer: "MultiHeadTrainer") -> ConsoleNotebookCallback:
    """Return the callback that shows a trainer's runs in a notebook."""
    return ConsoleNotebookCallback(Console(trainer, show))


def show(text: str) -> None:
    """Show lines of text in a monospaced font."""
    display.display(display.HTML(f"<pre>{html.escape(text.rstrip())}</pre>"))

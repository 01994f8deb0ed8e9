"""Choice of the console of a run: a terminal with or without progress bars, or a notebook."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import transformers.trainer
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from transformers.utils import is_in_notebook

from .console import Console, ConsolePrinterCallback, ConsoleProgressCallback

if TYPE_CHECKING:
    from .trainer import MultiHeadTrainer


def use_console(trainer: "MultiHeadTrainer") -> None:
    """Replace the progress callback that `Trainer.__init__` has added by a console callback.

    A callback that the user has passed is kept, and no other is added.
    """
    expected = PrinterCallback if trainer.args.disable_tqdm else transformers.trainer.DEFAULT_PROGRESS_CALLBACK
    kinds: dict[type, Callable[[], TrainerCallback]] = {
        PrinterCallback: lambda: ConsolePrinterCallback(Console(trainer)),
        ProgressCallback: lambda: ConsoleProgressCallback(Console(trainer)),
    }
    if is_in_notebook():
        # (both require IPython)
        from transformers.utils.notebook import NotebookProgressCallback

        from .notebook import notebook_callback

        kinds[NotebookProgressCallback] = lambda: notebook_callback(trainer)
    callbacks = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, tuple(kinds))]
    if len(callbacks) == 1 and type(callbacks[0]) is expected and expected in kinds:
        trainer.remove_callback(callbacks[0])
        trainer.add_callback(kinds[expected]())

"""Command line `multihead-hf`: reads options, calls the library, and prints errors in one line.

Each command has a module of its name with a function `command`. Only the module of the called command is imported, and
no module imports torch, transformers or datasets before its options have been read, so that help and usage errors are
fast.
"""

import functools
import importlib
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

try:
    import typer
except ImportError:
    raise SystemExit('The command line needs typer: pip install "multihead-hf[cli]"') from None

from .. import __version__
from ..utils.messages import near_names
from .expansion import expanded
from .options import NAME

COMMANDS = {  # in the order of a typical workflow
    "inspect": "Inspect a dataset before training.",
    "train": "Train a model on your table, or from a YAML file.",
    "tune-thresholds": "Choose thresholds on validation rows.",
    "evaluate": "Print the metrics of each head on labelled rows.",
    "report": "Evaluate a model: write a report as a web page.",
    "predict": "Predict the labels of any number of texts.",
    "explain": "Show how much each word contributes to a label.",
    "demo": "Show a model as a page in a browser.",
    "export": "Export a model as an ONNX or OpenVINO graph.",
    "card": "Rewrite the model card.",
    "convert": "Convert an older checkpoint to a multi-head model.",
}
# commands that can run in several processes
IN_PROCESSES = ("predict", "train")


def _parse_args(parse_args: Callable[[Any, list[str]], list[str]], ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 (of click, or of typer's copy of it)
    """Parse the arguments of a command, with more helpful errors for unknown values and options."""
    try:
        return parse_args(ctx, args)
    except Exception as error:
        choice = re.fullmatch(
            r"(?:Value error, )?(['\"])(.*)\1 is not one of (.*?)\.?", getattr(error, "message", None) or ""
        )
        if choice:  # (some versions of typer begin with the name of an exception)
            hint = near_names(choice[2], re.findall("'(.*?)'", choice[3]))
            error.message = f"{choice[2]!r} is not one of {choice[3]}.{hint}"  # type: ignore[attr-defined]
        elif ctx.command.name == "train" and hasattr(error, "possibilities"):  # (not an option without its value)
            _hint_at_settings(error)
        raise


def _hint_at_settings(error: Any) -> None:  # noqa: ANN401 (as above)
    """Say in the error for an unknown option of `train` how to give a setting of that name."""
    from .signatures import training_argument_names

    word = error.option_name.lstrip("-").replace("-", "_")
    options = error.possibilities or ()
    longer = [name for name in options if name.startswith(f"{error.option_name}-")]  # --output of --output-dir
    if longer:
        error.possibilities = longer
    elif word and not near_names(error.option_name, options, 0.85):
        known = training_argument_names()
        found = [name for name in known if f"_{word}_" in f"_{name}_"]
        found = found or [name for name in known if near_names(word, [name], 0.85)]
        if found:
            error.possibilities = None
            error.message += f". For a setting of the training: --set training.{found[0]}=VALUE (--keys lists all)"


class _Commands(typer.core.TyperGroup):
    """Commands, each imported when it is called."""

    def list_commands(self, ctx: object) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401 (of click, or of typer's copy of it)
        if cmd_name not in COMMANDS:
            ctx.fail(f"No such command {cmd_name!r}.{near_names(cmd_name, COMMANDS)} Commands: {', '.join(COMMANDS)}")
        module = importlib.import_module(f".{cmd_name.replace('-', '_')}", __name__)
        program = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        program.command(cmd_name)(expanded(module.command))
        command = typer.main.get_command(program)
        command.parse_args = functools.partial(_parse_args, command.parse_args)  # type: ignore[method-assign]
        return command

    def format_commands(self, ctx: object, formatter: Any) -> None:  # noqa: ANN401 (as above)
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    name=NAME,
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error came from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """One pretrained encoder, any number of named classification heads.

    Exit codes: 0, 1 for an error (in one line, with what to type), 2 for wrong usage, 130 after Ctrl+C.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and context.invoked_subcommand not in IN_PROCESSES:
        raise ValueError(
            "this command runs as one process: start it without a launcher. With several GPUs, make only one "
            "visible: CUDA_VISIBLE_DEVICES=0"
        )


def main() -> None:
    """Run the command line."""
    if not sys.stderr.isatty():  # in a log file each update of a progress bar is a line
        os.environ.setdefault("TQDM_MININTERVAL", "30")  # seconds
        if "train" in sys.argv[1:]:  # its tables show the progress
            os.environ.setdefault("TQDM_DISABLE", "1")
    try:
        app()
    except KeyboardInterrupt:  # (typer reports one within a command)
        print(f"{NAME}: stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        message = " ".join(str(error).split())
        if not isinstance(error, (ValueError, OSError, ImportError)):  # expected errors, with helpful messages
            message = f"unexpected {type(error).__name__}: {message} (--debug shows where)"
        print(f"{NAME}: {message}", file=sys.stderr)
        sys.exit(1)

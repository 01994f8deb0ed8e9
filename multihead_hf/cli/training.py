"""The command that trains."""

import contextlib
import sys
from typing import Annotated

import typer

from .options import JsonOption, app, as_text


@app.command("train", short_help="Train a model as a YAML file says.")
def train_command(
    config: Annotated[str | None, typer.Argument(help="A YAML file; --example prints one to start from.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE instead of the file's: training.learning_rate=1e-4; also several."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint in output_dir.")] = False,
    example: Annotated[bool, typer.Option("--example", help="Print a file to start from.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="Print every key, its default and its meaning.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model as a YAML file says: model, heads, data, training (MultiHeadTrainingArguments) and end.

    Several processes: accelerate launch -m multihead_hf.cli train run.yaml
    """
    from ..training.run import train_from_config
    from ..training.run_config import EXAMPLE, describe_keys, parse_change

    if example or keys:
        print(EXAMPLE if example else describe_keys())
        return
    if config is None:
        raise typer.BadParameter("name a YAML file; --example prints one to start from", param_hint="CONFIG")
    # with --json the output is the figures alone, and what the Trainer prints is not in it
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        run = train_from_config(config, dict(map(parse_change, change or [])), resume)
    if not run.trainer.is_world_process_zero():
        return
    if as_json:
        print(as_text(run.metrics))
    else:
        print("\n\n".join(run.said))
        print(f"\nThe model is {run.trainer.args.output_dir}")

"""`multihead-hf train`: a whole run as a YAML file says."""

import contextlib
import sys
from typing import Annotated, Any

import typer

from .expansion import library
from .options import JsonOption, as_text


def command(
    settings: Annotated[dict[str, Any], library("train_from_config", "resume")],
    config: Annotated[str | None, typer.Argument(help="A YAML file; --example prints one to start from.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE instead of the file's: training.learning_rate=1e-4; also several."),
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Print a file to start from.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="Print every key, its default and its meaning.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a model as a YAML file says: model, heads, data, training (MultiHeadTrainingArguments) and after_training.

    Several processes: accelerate launch -m multihead_hf.cli train run.yaml
    """
    if not (example or keys or config):
        raise typer.BadParameter("name a YAML file; --example prints one to start from", param_hint="CONFIG")
    if config and not (example or keys):
        from .run_keys import check_run_keys

        check_run_keys(config, change or [])
    from .. import train_from_config
    from ..training.run_config import EXAMPLE, describe_keys, parse_change

    if example or keys:
        print(EXAMPLE if example else describe_keys())
        return
    # with --json the output is the figures alone, and what the Trainer prints is not in it
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        run = train_from_config(config, dict(map(parse_change, change or [])), **settings)
    if not run.trainer.is_world_process_zero():
        return
    if as_json:
        print(as_text(run.metrics))
    else:
        print("\n\n".join(run.said))
        print(f"\nThe model is {run.trainer.args.output_dir}")

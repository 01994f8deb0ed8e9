"""The command that explains one prediction."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..evaluation.files import write_whole
from ..inference.loading import load_model, saved_config
from .options import JsonOption, ModelArgument, app, as_text


@app.command("explain", short_help="Say how much each word speaks for a label.")
def explain_command(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(help="The text; - reads it from the standard input.")],
    text_pair: Annotated[
        str | None, typer.Option(help="The second text, for a model that was trained on pairs of texts.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="Name of a head; not needed where the model has one only.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Name of one of its labels. Default: that with the highest probability.")
    ] = None,
    method: Annotated[
        Literal["integrated_gradients", "lime", "occlusion"],
        typer.Option(
            help="integrated_gradients: shares of the label's logit, from gradients. lime: weights of a linear model "
            "of its probability, from texts with words left out. occlusion: how much its probability falls without a "
            "word."
        ),
    ] = "integrated_gradients",
    html: Annotated[str | None, typer.Option(help="Also write a web page with the text in colours here.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a web page that exists.")] = False,
    baseline: Annotated[
        Literal["pad", "mask", "unk"] | None,
        typer.Option(help="integrated_gradients: which token stands for no word. Default: pad."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="integrated_gradients: additivity error to aim at, as a share of the change of the logit (0.005)."
        ),
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="integrated_gradients: the most steps. Default: 512.")] = None,
    num_samples: Annotated[int | None, typer.Option(help="lime: texts with words left out. Default: 1000.")] = None,
    seed: Annotated[int | None, typer.Option(help="lime: of the words that are left out. Default: 0.")] = None,
    window: Annotated[int | None, typer.Option(help="occlusion: words that are left out together. Default: 1.")] = None,
    quantity: Annotated[
        Literal["probability", "logit"] | None,
        typer.Option(help="occlusion: what falls. Default: probability."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts, or steps, that are computed at a time.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain one prediction of a saved model: how much each word of a text speaks for a label.

    Integrated gradients and LIME need the extra explain, occlusion does not.
    """
    from ..inference.explanation import explain, settings_of

    if html is not None:
        check_page(html, overwrite)
    config = saved_config(model)
    columns = config.text_columns
    if columns and len(columns) != (1 if text_pair is None else 2):
        raise typer.BadParameter(f"the model was trained on the columns {columns}", param_hint="--text-pair")
    if head is None:
        if len(config.heads) > 1:
            raise typer.BadParameter(f"name one of the heads {list(config.heads)}", param_hint="--head")
        head = next(iter(config.heads))
    settings: dict[str, Any] = {
        "baseline": baseline,
        "tolerance": tolerance,
        "max_steps": max_steps,
        "num_samples": num_samples,
        "seed": seed,
        "window": window,
        "quantity": quantity,
        "batch_size": batch_size,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    for name in given:
        if name not in settings_of(method):
            raise typer.BadParameter(f"{method} does not read it", param_hint=f"--{name.replace('_', '-')}")
    first = sys.stdin.read().rstrip("\n") if text == "-" else text
    found = explain(
        *load_model(model),
        first if text_pair is None else (first, text_pair),
        head,
        label,
        method,
        **given,
    )
    if html is not None:
        write_whole(Path(html), found.to_html().encode())
    if as_json:
        print(as_text(found.to_dict()))
        return
    show_in_terminal(found)
    if html is not None:
        print(f"\nThe page is {html}")


def check_page(path: str, overwrite: bool) -> None:
    """
    Raises:
        ValueError: the page exists already, or there is no folder for it.
    """
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: give a file")
    if os.path.exists(path) and not overwrite:
        raise ValueError(f"{path} exists: --overwrite replaces it")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ValueError(f"{path}: there is no folder {folder}")


def show_in_terminal(found: Any) -> None:
    """Print an explanation, in a terminal in colours (rich comes with typer)."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(found)
    else:
        print(found)

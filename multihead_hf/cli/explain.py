"""`multihead-hf explain`: score each word of a text for a label."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .expansion import library
from .options import JsonOption, ModelArgument, as_text

if TYPE_CHECKING:
    from ..explanation.explain import Explanation

_OF_GRADIENTS, _OF_LIME, _OF_OCCLUSION = (
    {"of": method, "unset": True} for method in ("integrated_gradients", "lime", "occlusion")
)


def command(
    model: ModelArgument,
    text: Annotated[str, typer.Argument(help="The text; - reads it from the standard input.")],
    gradients: Annotated[
        dict[str, Any],
        library(
            "explanation.gradients.integrated_gradients",
            baseline={"type": Literal["pad", "mask", "unk"], **_OF_GRADIENTS},
            tolerance=_OF_GRADIENTS,
            max_steps=_OF_GRADIENTS,
        ),
    ],
    lime: Annotated[dict[str, Any], library("explanation.perturbation.lime", num_samples=_OF_LIME, seed=_OF_LIME)],
    occlusion: Annotated[
        dict[str, Any],
        library(
            "explanation.perturbation.occlusion",
            window=_OF_OCCLUSION,
            quantity={"type": Literal["probability", "logit"], **_OF_OCCLUSION},
        ),
    ],
    text_pair: Annotated[
        str | None, typer.Option(help="The second text, for a model that was trained on pairs of texts.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="Name of a head; not needed if the model has only one.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Name of a label of the head. Default: the label with the highest probability.")
    ] = None,
    method: Annotated[
        Literal["integrated_gradients", "lime", "occlusion"],
        typer.Option(
            help="integrated_gradients: shares of the label's logit, from gradients. lime: weights of a linear model "
            "of its probability, from texts with words left out. occlusion: how much its probability falls without a "
            "word."
        ),
    ] = "integrated_gradients",
    html: Annotated[str | None, typer.Option(help="Also write a web page with the coloured text to this file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a web page that exists.")] = False,
    batch_size: Annotated[
        int | None, typer.Option(help="Number of texts, or steps, that are computed at a time.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Explain one prediction of a saved model: how much each word of a text supports a label.

    Integrated gradients and LIME need the extra explain, occlusion does not.
    """
    from .. import explain
    from ..explanation.explain import settings_of
    from ..prediction.loading import load_model, saved_config
    from ..utils.files import write_whole

    if html is not None:
        check_page(html, overwrite)
    config = saved_config(model)
    columns = config.text_columns
    if columns and len(columns) != (1 if text_pair is None else 2):
        raise typer.BadParameter(
            f"the model was trained on the columns {columns}: give one text for each of them", param_hint="--text-pair"
        )
    if head is None:
        if len(config.heads) > 1:
            raise typer.BadParameter(f"name one of the heads {list(config.heads)}", param_hint="--head")
        head = next(iter(config.heads))
    settings = {**gradients, **lime, **occlusion, "batch_size": batch_size}
    options = {name: value for name, value in settings.items() if value is not None}
    for name in options:
        if name not in settings_of(method):
            raise typer.BadParameter(f"{method} does not use this option", param_hint=f"--{name.replace('_', '-')}")
    first = sys.stdin.read().rstrip("\n") if text == "-" else text
    explanation = explain(
        *load_model(model),
        first if text_pair is None else (first, text_pair),
        head,
        label,
        method,
        **options,
    )
    if html is not None:
        write_whole(Path(html), explanation.to_html().encode())
    if as_json:
        print(as_text(explanation.to_dict()))
        return
    show_in_terminal(explanation)
    if html is not None:
        print(f"\nThe page is {html}")


def check_page(path: str, overwrite: bool) -> None:
    """Check that the page can be written.

    Raises:
        ValueError: If the page exists already, or its folder does not exist.
    """
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder: give a file")
    if os.path.exists(path) and not overwrite:
        raise ValueError(f"{path} exists: --overwrite replaces it")
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise ValueError(f"{path}: there is no folder {folder}")


def show_in_terminal(explanation: "Explanation") -> None:
    """Print an explanation, in colours if the output is a terminal (rich comes with typer)."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(explanation)
    else:
        print(explanation)

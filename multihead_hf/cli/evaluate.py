"""`multihead-hf evaluate`: figures of each head on labelled rows."""

from typing import Annotated, Any

import typer

from .expansion import library
from .options import (
    DataArgument,
    FileOptions,
    JsonOption,
    LabelOptions,
    ModelArgument,
    SplitOption,
    as_text,
    read_part,
    show,
)


def command(
    model: ModelArgument,
    data: DataArgument,
    labels: LabelOptions,
    files: FileOptions,
    settings: Annotated[dict[str, Any], library("confidence_intervals", n_resamples={"min": 2})],
    split: SplitOption = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Bootstrap intervals of accuracy, precision, recall and F1 instead.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a table of the main figures of each head of a saved model on labelled rows; --json prints all of them."""
    from .. import confidence_intervals
    from ..evaluation.evaluate import evaluated
    from ..prediction.loading import load_model, saved_config

    config = saved_config(model)
    reading = labels.reading(config)
    loaded, tokenizer = load_model(model)
    rows = read_part(data, files, config.heads, reading, split)
    if intervals:
        show(confidence_intervals(loaded, rows, tokenizer=tokenizer, **settings, **reading), as_json)
        return
    figures, counted = evaluated(loaded, rows, tokenizer, **reading)
    print(as_text(figures) if as_json else counted)

"""`multihead-hf inspect`: inspect a dataset before training."""

from typing import Annotated, Any

import typer

from .expansion import library
from .options import DataArgument, FileOptions, JsonOption, TableOptions, read, show


def command(
    data: DataArgument,
    settings: Annotated[
        dict[str, Any],
        library("inspect_dataset", max_length={"min": 1}, batch_size={"min": 1}, rare_below={"min": 1}),
    ],
    files: FileOptions,
    labels: TableOptions,
    model: Annotated[
        str | None,
        typer.Option(help="A saved multi-head model: its heads, tokenizer and text settings. Or name --label-column."),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Tokenizer to count tokens with. Without it and without --model, words are counted."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Inspect a dataset before training: tasks, lengths, label counts, rare labels, duplicates and empty texts."""
    columns = labels.columns()
    if model is None and not columns:
        raise typer.BadParameter(
            "name the columns of the labels, --label-column topic --label-column mood, or a --model"
        )
    from .. import infer_heads, inspect_dataset
    from ..prediction.loading import load_tokenizer, saved_config

    config = None if model is None else saved_config(model)
    known: dict[str, Any] = dict.fromkeys(columns) if config is None else config.heads
    reading = labels.options(list(known))
    rows = read(data, files, known, {**reading, "label_columns": columns})
    heads: Any = infer_heads(rows, columns, **reading) if config is None else config
    counter = tokenizer if tokenizer is not None else model
    report = inspect_dataset(
        rows,
        heads,
        None if counter is None else load_tokenizer(counter),
        text_columns=labels.text_column,
        label_columns=columns or None,
        **settings,
        **reading,
    )
    show(report, as_json)

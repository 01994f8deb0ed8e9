"""`multihead-hf report`: evaluate a model on labelled rows, as a web page."""

import os
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
    read,
    read_part,
    show,
    warn_of_training_rows,
)


def command(
    model: ModelArgument,
    data: DataArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of the report; created if it does not exist.")],
    labels: LabelOptions,
    files: FileOptions,
    settings: Annotated[
        dict[str, Any], library("write_report", "title", "baseline", max_mistakes={"min": 0}, n_resamples={"min": 2})
    ],
    split: SplitOption = None,
    train_data: Annotated[
        list[str] | None,
        typer.Option(
            help="Training rows of the linear baseline: files, a glob or a folder. May be given several times. "
            "Default: the split train of DATA, if it has one."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a saved model on labelled rows: metrics with intervals, labels, plots and mistakes as a web page."""
    if train_data and not settings["baseline"]:
        raise typer.BadParameter(
            "only the linear baseline uses this option, and --no-baseline turns the baseline off",
            param_hint="--train-data",
        )
    from .. import write_report
    from ..evaluation.report_files import saved_history
    from ..prediction.loading import load_model, saved_config

    config = saved_config(model)
    _check_place(output, list(config.heads), overwrite)
    reading = labels.reading(config)
    loaded, tokenizer = load_model(model)
    warn_of_training_rows(model, data, split)
    report = write_report(
        loaded,
        read(data, files, config.heads, reading),
        output,
        tokenizer=tokenizer,
        split=split,
        history=saved_history(model),
        train_dataset=read_part(train_data, files, config.heads, reading, parts=("train",)) if train_data else None,
        **settings,
        **reading,
    )
    show(report, as_json)


def _check_place(output: str, heads: list[str], overwrite: bool) -> None:
    """Check that the report can be written to the folder.

    Raises:
        ValueError: If it is a file, or contains a file that the report would replace.
    """
    from ..evaluation.report_page import files_of_report

    if os.path.exists(output) and not os.path.isdir(output):
        raise ValueError(f"{output} is a file: give a folder for the report")
    existing = [name for name in files_of_report(heads) if os.path.exists(os.path.join(output, name))]
    if existing and not overwrite:
        raise ValueError(
            f"{os.path.join(output, existing[0])} exists: use another folder, or replace the existing files "
            "(--overwrite)"
        )

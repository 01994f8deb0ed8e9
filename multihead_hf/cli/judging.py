"""Commands that look at rows, and at what a saved model makes of them."""

import os
from typing import Annotated, Any, Literal

import typer

from ..data.heads import infer_heads
from ..data.inspection import inspect_dataset
from ..data.reading import joined_columns
from ..data.sources import DEFAULT_PARTS, read_dataset
from ..inference.loading import load_model, load_tokenizer, saved_config
from .options import (
    BatchSizeOption,
    DataArgument,
    DelimiterOption,
    EmptyOption,
    JsonOption,
    LabelColumnOption,
    ModelArgument,
    MultiHotOption,
    SepOption,
    SplitOption,
    TextColumnOption,
    app,
    as_text,
    check_folder,
    label_columns,
    label_options,
    reading_options,
    rows_of,
    show,
)


@app.command("inspect", short_help="Look at a data set before training.")
def inspect_command(
    data: DataArgument,
    label_column: LabelColumnOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="A saved multi-head model: its heads, tokenizer and text settings. Or name --label-column."),
    ] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Counts tokens; without it (and --model) words count.")] = None,
    text_column: TextColumnOption = None,
    max_length: Annotated[int | None, typer.Option(help="Length after which texts are cut.", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Rows of a batch, for labels without a positive in it.", min=1)] = 16,
    rare_below: Annotated[int, typer.Option(help="A label with fewer rows than this is rare.", min=1)] = 10,
    sep: SepOption = None,
    empty: EmptyOption = None,
    multi_hot: MultiHotOption = None,
    delimiter: DelimiterOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at a data set before training: tasks, lengths, label counts, rare labels, duplicates and empty texts."""
    columns = label_columns(label_column or [])
    if model is None and not columns:
        raise typer.BadParameter("name the labels' columns, --label-column topic --label-column mood, or a --model")
    config = None if model is None else saved_config(model)
    known: dict[str, Any] = dict.fromkeys(columns) if config is None else config.heads
    reading = label_options(sep, empty, multi_hot, list(known))
    strings = joined_columns(known, {**reading, "label_columns": columns})
    rows = read_dataset(data[0] if len(data) == 1 else data, delimiter=delimiter, strings=strings)
    heads: Any = infer_heads(rows, columns, **reading) if config is None else config
    counter = tokenizer if tokenizer is not None else model
    report = inspect_dataset(
        rows,
        heads,
        None if counter is None else load_tokenizer(counter),
        max_length=max_length,
        batch_size=batch_size,
        rare_below=rare_below,
        text_columns=text_column,
        label_columns=columns or None,
        **reading,
    )
    show(report, as_json)


@app.command("report", short_help="Judge a model on labelled rows: a web page.")
def report_command(
    model: ModelArgument,
    data: DataArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of the report; made where it does not exist.")],
    split: SplitOption = None,
    label_column: LabelColumnOption = None,
    text_column: TextColumnOption = None,
    sep: SepOption = None,
    empty: EmptyOption = None,
    multi_hot: MultiHotOption = None,
    delimiter: DelimiterOption = None,
    title: Annotated[str | None, typer.Option(help="Of the page. Default: the model's name.")] = None,
    most: Annotated[int, typer.Option(help="Mistakes of a head on the page; the tables have all.", min=0)] = 500,
    draws: Annotated[int, typer.Option(help="Draws of the bootstrap intervals.", min=2)] = 1000,
    batch_size: BatchSizeOption = 32,
    train_data: Annotated[
        list[str] | None,
        typer.Option(
            help="Training rows of the linear baseline: files, a glob or a folder; also several. "
            "Default: the split train of DATA, if it has one."
        ),
    ] = None,
    baseline: Annotated[
        bool,
        typer.Option(
            "--baseline/--no-baseline", help="A linear baseline, TF-IDF with logistic regression, beside each head."
        ),
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Judge a saved model on labelled rows: figures with intervals, labels, pictures and mistakes as a web page."""
    from ..evaluation.reporting import saved_history, write_report

    if train_data and not baseline:
        raise typer.BadParameter(
            "only the linear baseline reads it, and --no-baseline leaves that out", param_hint="--train-data"
        )
    config = saved_config(model)
    _check_report_place(output, list(config.heads), overwrite)
    reading = reading_options(config, label_column, text_column, sep, empty, multi_hot, batch_size)
    loaded, tokenizer = load_model(model)
    report = write_report(
        loaded,
        read_dataset(
            data[0] if len(data) == 1 else data, delimiter=delimiter, strings=joined_columns(config.heads, reading)
        ),
        output,
        tokenizer=tokenizer,
        split=split,
        title=title,
        history=saved_history(model),
        baseline=baseline,
        train_dataset=rows_of(train_data, delimiter, None, ("train",), config, reading) if train_data else None,
        most=most,
        draws=draws,
        **reading,
    )
    show(report, as_json)


def _check_report_place(output: str, heads: list[str], overwrite: bool) -> None:
    """
    Raises:
        ValueError: it is no folder, or holds a file that the report would replace.
    """
    from ..evaluation.report_page import files_of_report

    if os.path.exists(output) and not os.path.isdir(output):
        raise ValueError(f"{output} is a file: give a folder for the report")
    there = [name for name in files_of_report(heads) if os.path.exists(os.path.join(output, name))]
    if there and not overwrite:
        raise ValueError(
            f"{os.path.join(output, there[0])} exists: take another folder, or replace what is there (--overwrite)"
        )


@app.command("evaluate", short_help="Print the figures of each head on labelled rows.")
def evaluate_command(
    model: ModelArgument,
    data: DataArgument,
    split: SplitOption = None,
    label_column: LabelColumnOption = None,
    text_column: TextColumnOption = None,
    sep: SepOption = None,
    empty: EmptyOption = None,
    multi_hot: MultiHotOption = None,
    delimiter: DelimiterOption = None,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="Bootstrap intervals of accuracy, precision, recall and F1 instead.")
    ] = False,
    draws: Annotated[int, typer.Option(help="Draws of the intervals.", min=2)] = 1000,
    batch_size: BatchSizeOption = 32,
    as_json: JsonOption = False,
) -> None:
    """Print a table of the main figures of each head of a saved model on labelled rows; --json prints all of them."""
    from ..evaluation.comparison import confidence_intervals
    from ..evaluation.evaluate import evaluated

    config = saved_config(model)
    reading = reading_options(config, label_column, text_column, sep, empty, multi_hot, batch_size)
    loaded, tokenizer = load_model(model)
    rows = rows_of(data, delimiter, split, DEFAULT_PARTS, config, reading)
    if intervals:
        report = confidence_intervals(loaded, rows, tokenizer=tokenizer, draws=draws, **reading)
        show(report, as_json)
        return
    figures, counted = evaluated(loaded, rows, tokenizer, **reading)
    print(as_text(figures) if as_json else counted)


@app.command("tune-thresholds", short_help="Choose thresholds on validation rows.")
def tune_thresholds_command(
    model: Annotated[str, typer.Argument(help="Folder of a saved multi-head model; its config.json is changed.")],
    data: DataArgument,
    split: Annotated[
        str | None, typer.Option(help="Which part of a folder or Hub data set. Default: validation.")
    ] = None,
    metric: Annotated[
        Literal["f1", "recall_at_precision", "cost"],
        typer.Option(help="What is best; recall_at_precision reads --precision, cost reads --costs."),
    ] = "f1",
    granularity: Annotated[
        Literal["auto", "head", "label"],
        typer.Option(help="One threshold per head or per label; auto: what is best on held-out rows, or no change."),
    ] = "auto",
    min_support: Annotated[
        int, typer.Option(help="Labels with fewer positives share the common threshold of their head.", min=1)
    ] = 10,
    head: Annotated[list[str] | None, typer.Option(help="Name of a head; also several. Default: all.")] = None,
    precision: Annotated[
        float | None, typer.Option(help="The least precision, for recall_at_precision. Default: 0.9.")
    ] = None,
    costs: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Of a false positive and of a false negative, for cost. Default: 1 1."),
    ] = None,
    calibrate_too: Annotated[
        bool, typer.Option("--calibrate", help="First fit a temperature to each head, on the same rows.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be found, and change nothing.")] = False,
    label_column: LabelColumnOption = None,
    text_column: TextColumnOption = None,
    sep: SepOption = None,
    empty: EmptyOption = None,
    multi_hot: MultiHotOption = None,
    delimiter: DelimiterOption = None,
    batch_size: BatchSizeOption = 32,
    as_json: JsonOption = False,
) -> None:
    """Choose the thresholds of a saved model's multi-label heads on validation rows, and keep them in its folder."""
    from ..evaluation.predictions import predicted
    from ..evaluation.tuning import calibrate, tune_thresholds
    from ..publishing.decisions import save_decisions

    chosen: dict[str, Any] = {}
    for name, value, reader in (("precision", precision, "recall_at_precision"), ("costs", costs, "cost")):
        if value is not None and metric != reader:
            raise typer.BadParameter(f"{metric} does not read it, --metric {reader} does", param_hint=f"--{name}")
        if value is not None:
            chosen[name] = value
    config = saved_config(model)
    reading = reading_options(config, label_column, text_column, sep, empty, multi_hot, batch_size)
    check_folder(model)
    loaded, tokenizer = load_model(model)
    labelled = rows_of(data, delimiter, split, ("validation",), config, reading)
    rows = predicted(loaded, labelled, tokenizer, **reading)
    found: dict[str, Any] = {}
    if calibrate_too:
        found["calibration"] = calibrate(loaded, rows, heads=head or None)
    several = [name for name, own in loaded.config.heads.items() if own.multi_label and (not head or name in head)]
    if several or not calibrate_too:
        found["thresholds"] = tune_thresholds(
            loaded,
            rows,
            metric,
            granularity,
            min_support,
            heads=several if head and calibrate_too else head or None,
            **chosen,
        )
    changed = calibrate_too or any(own.choice != "unchanged" for own in found["thresholds"].heads.values())
    if changed and not dry_run:
        save_decisions(model, loaded)
    if as_json:
        print(as_text({key: own.to_dict() for key, own in found.items()}))
    else:
        print("\n\n".join(str(own) for own in found.values()))
        place = os.path.join(model, "config.json")
        print(f"\nThe thresholds are in {place}" if changed and not dry_run else "\nNothing was changed")

"""The command that predicts files."""

import sys
from typing import Annotated, Literal

import typer

from ..inference.loading import saved_config
from ..model.configuration_multihead import MultiHeadConfig
from .options import DelimiterOption, JsonOption, ModelArgument, TextColumnOption, app, show


@app.command("predict", short_help="Predict the labels of any number of texts.")
def predict_command(
    model: ModelArgument,
    data: Annotated[
        list[str],
        typer.Argument(
            help="Files (CSV, TSV, JSON Lines, Parquet, Arrow), globs or folders of them, or a data set on the Hub."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write: .parquet, .jsonl or .csv.")],
    text_column: TextColumnOption = None,
    head: Annotated[list[str] | None, typer.Option(help="Name of a head; also several. Default: all.")] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="Predict labels from this probability on, instead of the saved thresholds: 0.4 for all multi-label "
            "heads, NAME=0.4 for one, NAME:LABEL=0.4 for one label. Also several."
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(help="The best labels of each head instead of the predicted ones.", min=1)
    ] = None,
    all_scores: Annotated[
        bool, typer.Option("--all-scores", help="Also the probabilities of all labels of each head, in their order.")
    ] = False,
    keep: Annotated[
        list[str] | None, typer.Option(help="A column of the input to keep; also several. Default: all.")
    ] = None,
    prefix: Annotated[str, typer.Option(help="Of the columns of heads.")] = "predicted_",
    sep: Annotated[str, typer.Option(help="Between the labels of a row in CSV files.")] = "|",
    delimiter: DelimiterOption = None,
    split: Annotated[str | None, typer.Option(help="Part of a data set on the Hub.")] = None,
    config: Annotated[str | None, typer.Option(help="Configuration of a data set on the Hub.")] = None,
    precision: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(help="fp16 is for CUDA; auto: the fastest on some batches of your texts."),
    ] = "auto",
    batch_tokens: Annotated[
        int | None, typer.Option(help="Tokens of a batch. Default: 2,048 on a CPU, 65,536 on a GPU.", min=1)
    ] = None,
    window_rows: Annotated[
        int, typer.Option(help="Rows that are read, sorted by length and written at a time.", min=1)
    ] = 8192,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. Default: CUDA where there is one.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first row that cannot be read.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a run that was ended left off.")] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Replace an output that exists. With --resume: go on, or begin again where the settings have changed.",
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict the labels of any number of texts.

    Rows that cannot be read are left out, and go to OUTPUT.errors.jsonl with the reason. Several processes share the
    work: torchrun --nproc_per_node 2 -m multihead_hf.cli predict …
    """
    from accelerate import PartialState

    from ..inference.files import predict_files
    from ..inference.predictor import MultiHeadPredictor

    limits = thresholds(threshold or [], saved_config(model), head or [])
    processes = PartialState(cpu=device == "cpu")
    predictor = MultiHeadPredictor.from_pretrained(
        model,
        heads=head,
        precision=precision,
        batch_tokens=batch_tokens,
        window_rows=window_rows,
        device=device or processes.device,
    )
    try:
        report = predict_files(
            predictor,
            data,
            output,
            text_columns=text_column,
            keep=keep,
            top_k=top_k,
            threshold=limits,
            all_scores=all_scores,
            prefix=prefix,
            sep=sep,
            delimiter=delimiter,
            split=split,
            config=config,
            strict=strict,
            resume=resume,
            overwrite=overwrite,
            progress=not quiet,
        )
    except KeyboardInterrupt:
        print(f"\n{output}.parts holds what is done: --resume goes on", file=sys.stderr)
        raise
    if processes.is_main_process:
        if predictor.choice is not None and not as_json:
            print(predictor.choice)
        show(report, as_json)


def thresholds(
    options: list[str], config: MultiHeadConfig, predicted: list[str]
) -> float | dict[str, float | dict[str, float]] | None:
    """One number for all heads, or head → number or label → number, of `P`, `NAME=P` and `NAME:LABEL=P`.

    Args:
        options: as they were typed.
        config: of the model.
        predicted: heads that are predicted; none stands for all.

    Raises:
        BadParameter: none of these, both a number for all and others, two for one label, or one for a head that is not
            predicted.
    """
    found: dict[str, float | dict[str, float]] = {}
    for option in options:
        place, _, value = option.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"{option!r}: give 0.4, NAME=0.4 or NAME:LABEL=0.4", param_hint="--threshold"
            ) from None
        if not place:
            if len(options) > 1:
                raise typer.BadParameter("give one number, or NAME=0.4 for each head", param_hint="--threshold")
            return number
        # names and labels may hold colons
        fitting = [name for name in config.heads if place == name or place.startswith(f"{name}:")]
        head = max(fitting, key=len, default=place)
        if predicted and head in config.heads and head not in predicted:
            raise typer.BadParameter(
                f"{option!r}: head {head!r} is not predicted, --head names {predicted}", param_hint="--threshold"
            )
        if head == place:
            if head in found:
                raise typer.BadParameter(f"head {head!r}: one number, or labels with theirs", param_hint="--threshold")
            found[head] = number
            continue
        labels = found.setdefault(head, {})
        if not isinstance(labels, dict):
            raise typer.BadParameter(f"head {head!r}: one number, or labels with theirs", param_hint="--threshold")
        label = place[len(head) + 1 :]
        if label in labels:
            raise typer.BadParameter(f"head {head!r}, label {label!r}: give one number", param_hint="--threshold")
        labels[label] = number
    return found or None

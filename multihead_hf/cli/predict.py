"""`multihead-hf predict`: predict the labels of any number of texts."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .expansion import library
from .options import JsonOption, ModelArgument, show

if TYPE_CHECKING:
    from ..model.configuration_multihead import MultiHeadConfig


def command(
    model: ModelArgument,
    data: Annotated[
        list[str],
        typer.Argument(
            help="Files (CSV, TSV, JSON Lines, Parquet, Arrow, Excel), globs or folders, or a dataset on the Hub."
        ),
    ],
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write: .parquet, .jsonl or .csv.")],
    texts: Annotated[dict[str, Any], library("predict_files", "text_columns")],
    settings: Annotated[
        dict[str, Any],
        library(
            "MultiHeadPredictor",
            heads={},
            precision={"type": Literal["auto", "fp32", "bf16", "fp16", "int8"]},
            backend={"type": Literal["auto", "torch", "openvino", "onnx"]},
            batch_tokens={"min": 1},
            window_rows={"min": 1},
            device={"type": str | None},
        ),
    ],
    files: Annotated[
        dict[str, Any],
        library(
            "predict_files",
            *(
                "all_scores",
                "keep",
                "prefix",
                "sep",
                "delimiter",
                "encoding",
                "split",
                "config",
                "strict",
                "resume",
                "overwrite",
            ),
            top_k={"min": 1},
        ),
    ],
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="Threshold to use instead of the saved ones: 0.4 for all multi-label heads, NAME=0.4 for one head, "
            "NAME:LABEL=0.4 for one label. May be given several times."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Predict the labels of any number of texts.

    Rows that cannot be read are left out, and go to OUTPUT.errors.jsonl with the reason; where they are in another
    encoding, or all are bad, the exit code is 1. Several processes share the work:
    torchrun --nproc_per_node 2 -m multihead_hf.cli predict …
    """
    from .. import MultiHeadPredictor, predict_files
    from ..prediction.loading import saved_config
    from ..utils.hardware import processes as processes_of

    limits = thresholds(threshold or [], saved_config(model), settings["heads"] or [])
    processes = processes_of(settings["device"] == "cpu")
    settings["device"] = settings["device"] or processes.device
    predictor = MultiHeadPredictor.from_pretrained(model, **settings)
    try:
        report = predict_files(predictor, data, output, threshold=limits, progress=not quiet, **texts, **files)
    except KeyboardInterrupt:
        if os.path.isdir(f"{output}.parts"):
            print(f"\n{output}.parts holds the predictions made so far: --resume continues from them", file=sys.stderr)
        raise
    if processes.is_main_process:
        if predictor.choice is not None and not as_json:
            print(predictor.choice)
        show(report, as_json)
        # rows were lost that the option `encoding` could have saved, or all of them
        if report.undecoded or (report.bad_rows and not report.rows):
            raise typer.Exit(1)


def thresholds(
    options: list[str], config: "MultiHeadConfig", predicted: list[str]
) -> float | dict[str, float | dict[str, float]] | None:
    """Return one number for all heads, or head → number or label → number, from `P`, `NAME=P` and `NAME:LABEL=P`.

    Args:
        options: options as they were typed.
        config: configuration of the model.
        predicted: heads that are predicted; an empty value stands for all.

    Raises:
        BadParameter: If an option has none of these forms, a number for all heads comes with other numbers, a label has
            two numbers, or a head is not predicted.
    """
    numbers: dict[str, float | dict[str, float]] = {}
    for option in options:
        target, _, value = option.rpartition("=")
        try:
            number = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"{option!r}: give 0.4, NAME=0.4 or NAME:LABEL=0.4", param_hint="--threshold"
            ) from None
        if not target:
            if len(options) > 1:
                raise typer.BadParameter("give one number, or NAME=0.4 for each head", param_hint="--threshold")
            return number
        # names and labels may contain colons
        fitting = [name for name in config.heads if target == name or target.startswith(f"{name}:")]
        head = max(fitting, key=len, default=target)
        if predicted and head in config.heads and head not in predicted:
            raise typer.BadParameter(
                f"{option!r}: head {head!r} is not predicted; --head selects {predicted}", param_hint="--threshold"
            )
        if head == target:
            if head in numbers:
                raise typer.BadParameter(
                    f"head {head!r}: give either one number for the head, or one for each label",
                    param_hint="--threshold",
                )
            numbers[head] = number
            continue
        labels = numbers.setdefault(head, {})
        if not isinstance(labels, dict):
            raise typer.BadParameter(
                f"head {head!r}: give either one number for the head, or one for each label", param_hint="--threshold"
            )
        label = target[len(head) + 1 :]
        if label in labels:
            raise typer.BadParameter(f"head {head!r}, label {label!r}: give one number", param_hint="--threshold")
        labels[label] = number
    return numbers or None

"""`multihead-hf evaluate`: print the metrics of each head on labelled rows."""

from typing import Annotated, Any, Literal

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
    warn_of_training_rows,
)


def command(
    model: ModelArgument,
    data: DataArgument,
    labels: LabelOptions,
    files: FileOptions,
    settings: Annotated[dict[str, Any], library("confidence_intervals", n_resamples={"min": 2})],
    computing: Annotated[
        dict[str, Any],
        library(
            "MultiHeadPredictor",
            backend={"type": Literal["auto", "torch", "openvino", "onnx"], "default": "torch", "unset": True},
            precision={"type": Literal["auto", "fp32", "bf16", "fp16", "int8"], "default": "fp32", "unset": True},
        ),
    ],
    split: SplitOption = None,
    intervals: Annotated[
        bool,
        typer.Option("--intervals", help="Print bootstrap intervals of accuracy, precision, recall and F1 instead."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print a table of the main metrics of each head of a model, or of an exported graph, on labelled rows.

    --json prints all metrics. By default PyTorch computes, in the precision of the weights; an exported graph computes
    as it was written.
    """
    from transformers.utils import logging

    from .. import MultiHeadPredictor, confidence_intervals
    from ..evaluation.collapse import messages, weak_heads
    from ..evaluation.evaluate import evaluated
    from ..evaluation.predictions import predicted
    from ..prediction.backends import GRAPH_DIGEST
    from ..prediction.loading import graph_format, load_model, saved_config

    config = saved_config(model)
    reading = labels.reading(config)
    compute = predictor = None
    options = {name: value for name, value in computing.items() if value is not None}
    is_graph = hasattr(config, GRAPH_DIGEST) or graph_format(model) is not None  # (on the Hub, or in a folder)
    if not is_graph and not options:
        loaded, tokenizer = load_model(model)
    else:
        defaults = {} if is_graph else {"backend": "torch", "precision": "fp32"}
        predictor = MultiHeadPredictor.from_pretrained(model, **{**defaults, **options})
        loaded, tokenizer, compute = predictor.model, predictor.tokenizer, predictor.logits_of_rows
    warn_of_training_rows(model, data, split)
    rows = read_part(data, files, config.heads, reading, split)
    if intervals:
        predictions = predicted(loaded, rows, tokenizer, compute, **reading)
        show(confidence_intervals(loaded, predictions, tokenizer=tokenizer, **settings), as_json)
        return
    metrics, counted = evaluated(loaded, rows, tokenizer, compute, **reading)
    print(as_text(metrics) if as_json else counted)
    for text in messages(weak_heads(counted)):
        logging.get_logger(__name__).warning(text)
    if predictor is not None and not as_json:
        reason = "" if predictor.choice is None else f" ({predictor.choice.reason})"
        print(f"Computed by {predictor.backend} in {predictor.chosen or 'fp32'}{reason}")

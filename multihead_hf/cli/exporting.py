"""The command that writes a model for other runtimes."""

import os
import signal
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import typer

from ..data.sources import DEFAULT_PARTS
from ..inference.loading import load_model, saved_config
from ..model.modeling_multihead import MultiHeadModel
from .options import (
    BatchSizeOption,
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
    reading_options,
    rows_of,
    show,
)


@app.command("export", short_help="Write a model as an ONNX or OpenVINO graph.")
def export_command(
    model: ModelArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder of the graph, made as a whole or not at all.")],
    format: Annotated[
        Literal["onnx", "openvino"],
        typer.Option(help="onnx: model.onnx, model.onnx.data. openvino: openvino_model.xml and .bin."),
    ] = "onnx",
    quantize: Annotated[
        Literal["int8"] | None,
        typer.Option(help="Weights in 8 bits (onnx only); what that changes is printed. Default: float32."),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Labelled rows to compare F1 on: files, a glob, a folder or a data set on the Hub."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Refuse a graph (in float32) whose logits differ from PyTorch's by more.", min=0.0)
    ] = 1e-4,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Also write into a folder that holds something.")
    ] = False,
    split: SplitOption = None,
    label_column: LabelColumnOption = None,
    text_column: TextColumnOption = None,
    sep: SepOption = None,
    empty: EmptyOption = None,
    multi_hot: MultiHotOption = None,
    delimiter: DelimiterOption = None,
    batch_size: BatchSizeOption = 32,
    as_json: JsonOption = False,
) -> None:
    """Write a saved model as an ONNX or OpenVINO graph, which runs without PyTorch and this package.

    One output of logits for each head; labels, thresholds and text settings are in the graph's metadata, and the
    tokenizer lies beside it. The graph is compared with PyTorch before it is kept. Needs the extra onnx or openvino.
    """
    from ..publishing.convert import check_output
    from ..publishing.export import check_packages, export_model

    check_output(output, [model], overwrite)
    config = saved_config(model)
    reading = reading_options(config, label_column, text_column, sep, empty, multi_hot, batch_size)
    check_packages(format)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is half made goes, as with Ctrl+C
    loaded, tokenizer = load_model(model)
    batches = None
    if data:
        batches = _batches(loaded, tokenizer, rows_of(data, delimiter, split, DEFAULT_PARTS, config, reading), reading)
    report = export_model(
        loaded,
        tokenizer,
        output,
        format,
        quantize,
        batches=batches,
        tolerance=tolerance,
        overwrite=overwrite,
    )
    show(report, as_json)
    if not as_json:
        print(f"The graph is {os.path.join(report.folder, report.graph)}")


def _batches(model: MultiHeadModel, tokenizer: Any, rows: Any, reading: dict[str, Any]) -> Iterable[Any]:
    """Labelled rows as padded batches."""
    from torch.utils.data import DataLoader

    from ..data.collator import MultiHeadDataCollator
    from ..data.encoding import prepare_dataset

    options = dict(reading)
    batch_size = options.pop("per_device_eval_batch_size")
    prepared = prepare_dataset(rows, tokenizer, model, **options)
    return DataLoader(prepared, batch_size, collate_fn=MultiHeadDataCollator(tokenizer, model))

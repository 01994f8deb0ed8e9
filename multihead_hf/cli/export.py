"""`multihead-hf export`: write a model for other runtimes."""

import os
import signal
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .expansion import library
from .options import (
    FileOptions,
    JsonOption,
    LabelOptions,
    ModelArgument,
    OverwriteFolderOption,
    SplitOption,
    read_part,
    show,
)

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset
    from transformers import PreTrainedTokenizerBase

    from ..data.rows_like import AnyDataset, RowsLike
    from ..model.configuration_multihead import MultiHeadConfig
    from ..model.modeling_multihead import MultiHeadModel


def command(
    model: ModelArgument,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Folder of the graph; written completely or not at all.")
    ],
    settings: Annotated[
        dict[str, Any],
        library(
            "export_model",
            format={"type": Literal["onnx", "openvino"]},
            quantize={"type": Literal["int8"] | None},
            tolerance={"min": 0.0},
        ),
    ],
    labels: LabelOptions,
    files: FileOptions,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Labelled rows to compare F1 on: files, a glob, a folder or a dataset on the Hub."),
    ] = None,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            help="For int8: files with a few hundred texts like those to predict, in the columns used in training."
        ),
    ] = None,
    overwrite: OverwriteFolderOption = False,
    split: SplitOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a saved model as an ONNX or OpenVINO graph, which runs without PyTorch and this package.

    One output of logits for each head; labels, thresholds and text settings are in the graph's metadata, and the
    tokenizer lies beside it. The graph is compared with PyTorch before it is kept. Needs the extra onnx or openvino.
    """
    from .. import export_model
    from ..prediction.loading import load_model, saved_config
    from ..publishing.convert import check_output
    from ..publishing.export import check_packages

    check_output(output, [model], overwrite)
    config = saved_config(model)
    reading = labels.reading(config)
    check_packages(settings["format"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # removes incomplete files, like Ctrl+C
    loaded, tokenizer = load_model(model)
    batches = (
        _batches(loaded, tokenizer, read_part(data, files, config.heads, reading, split), reading) if data else None
    )
    texts = _texts(read_part(calibration, files, config.heads, reading, None), labels, config) if calibration else None
    report = export_model(
        loaded, tokenizer, output, calibration=texts, batches=batches, overwrite=overwrite, **settings
    )
    show(report, as_json)
    if not as_json:
        print(f"The graph is {os.path.join(report.folder, report.graph)}")


def _texts(rows: "Dataset | IterableDataset", labels: LabelOptions, config: "MultiHeadConfig") -> "AnyDataset":
    """Return rows with their text columns alone, under the model's names.

    Raises:
        ValueError: If a text column does not exist.
    """
    from ..data.columns import features_of
    from ..data.encoding import find_text_columns

    try:
        columns = find_text_columns(features_of(rows), labels.text_column or config.text_columns)
    except ValueError as error:
        raise ValueError(f"calibration: {error}") from None
    names = config.text_columns or ["text", "text_pair"][: len(columns)]
    renamed = {column: name for column, name in zip(columns, names, strict=True) if column != name}
    return rows.select_columns(columns).rename_columns(renamed)


def _batches(
    model: "MultiHeadModel", tokenizer: "PreTrainedTokenizerBase", rows: "RowsLike", reading: dict[str, Any]
) -> Iterable[Any]:
    """Return labelled rows as padded batches."""
    from torch.utils.data import DataLoader

    from .. import MultiHeadDataCollator, prepare_dataset

    options = dict(reading)
    batch_size = options.pop("per_device_eval_batch_size")
    prepared = prepare_dataset(rows, tokenizer, model, **options)
    return DataLoader(prepared, batch_size, collate_fn=MultiHeadDataCollator(tokenizer, model))

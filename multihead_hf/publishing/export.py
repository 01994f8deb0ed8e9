"""Export of models as graphs for ONNX Runtime and OpenVINO, compared with PyTorch before they are saved."""

import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase
from transformers.utils import CONFIG_NAME, logging

from ..model.head_multihead import is_a, near_names
from ..model.modeling_multihead import MultiHeadModel
from ..model.modes_multihead import evaluating
from ..prediction import graph_onnx, graph_openvino
from ..prediction.backends import GRAPH_DIGEST, check_import, graph_digest
from ..prediction.graph import (
    LogitsGraph,
    dynamic_axes,
    float32_copy,
    graph_metadata,
    quiet,
    sample_tokens,
    token_inputs,
)
from . import quantization
from .convert import check_output
from .export_parity import (
    Batch,
    ExportReport,
    HeadComparison,
    LeastChange,
    Runner,
    Tokens,
    check_batches,
    check_texts,
    compare,
    labelled_batches,
)
from .quantization import calibration_batches

if TYPE_CHECKING:
    import onnx_ir
    import openvino

logger = logging.get_logger(__name__)

Program: TypeAlias = "onnx_ir.Model | openvino.Model"

FORMATS: dict[str, Any] = {"onnx": graph_onnx, "openvino": graph_openvino}
QUANTIZE = ("int8",)
TOLERANCE = 1e-4
"""A graph whose logits differ by more from PyTorch's, both in float32, is refused."""

TOKENIZER_FILE = "tokenizer.json"


def export_model(
    model: MultiHeadModel,
    tokenizer: PreTrainedTokenizerBase,
    output: str | os.PathLike,
    format: str = "onnx",
    quantize: str | None = None,
    *,
    calibration: Iterable[Any] | None = None,
    batches: Iterable[Mapping[str, Any]] | None = None,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
) -> ExportReport:
    """Write a model as a graph that needs neither PyTorch nor this package.

    The graph has one output of logits for each head and takes any batch size and length. Labels, thresholds,
    calibration and text settings are in its metadata (`examples/onnx_predict.py` reads them). It is in float32
    whatever the model's precision, and is compared with the model on random token batches and texts before it is kept.

    Args:
        model: A multi-head model, which is not changed. Learned thresholds are exported with their present values.
        tokenizer: Its tokenizer, a fast one; `tokenizer.json` is saved with the graph.
        output: Folder, which is written atomically if it is new.
        format: `"onnx"` (`model.onnx`, `model.onnx.data`) or `"openvino"` (`openvino_model.xml`, `.bin`).
        quantize: `"int8"` for weights and activations in 8 bits. The differences are reported, and the graph is kept.
            Heads and pooling stay in float32.
        calibration: Some hundred texts like those to be predicted, or rows with the columns of the training, which int8
            needs. Ranges of activations are measured on 800 of them, evenly spaced. (Ranges that are measured in each
            batch as it runs would let a text's labels depend on the other texts of the batch.)
        batches: Labelled rows to compare and evaluate on too: padded batches as `MultiHeadDataCollator` returns them.
            With them int8 leaves layers in float32 that cost accuracy: no head's main score falls by more than 0.002.
        tolerance: Largest difference from PyTorch's logits; a graph (in float32) that differs by more is refused.
        overwrite: Whether to write into a folder that is not empty; other files in it stay, but a graph of another
            format, which may be of other weights, is removed.

    Returns:
        The folder, the files and their sizes, and the comparison of each head with the model.

    Raises:
        ValueError: The encoder cannot be exported, the logits differ from the model's, the tokenizer has no
            `tokenizer.json`, or the output exists. Nothing is written then.
        ImportError: A package is missing or too old; the message gives the command that installs it.

    Example:
        >>> from transformers import AutoTokenizer
        >>> from multihead_hf import MultiHeadModel, export_model
        >>> model, tokenizer = MultiHeadModel.from_pretrained("complaints"), AutoTokenizer.from_pretrained("complaints")
        >>> report = export_model(model, tokenizer, "complaints-onnx", overwrite=True)
        >>> report.graph, list(report.heads)
        ('model.onnx', ['topics', 'mood'])
    """
    _check_asked(model, tokenizer, format, quantize, calibration is not None)
    check_output(output, [], overwrite)
    if any(Path(output).glob("*.safetensors")):
        raise ValueError(f"{output} holds the weights of a model: give another folder for the graph")
    check_packages(format)
    if calibration is not None:
        quantization.check_packages()
    output_path = Path(output).resolve()
    beside = next(parent for parent in output_path.parents if parent.is_dir())  # none is made for a refused graph
    thresholds = {name: head.thresholds for name, head in model.config.heads.items()}
    model.sync_thresholds()
    try:
        with evaluating(model), tempfile.TemporaryDirectory(dir=beside, prefix=f".{output_path.name}.") as parent:
            folder, report = _write(model, tokenizer, Path(parent), format, quantize, calibration, batches)
            _check_difference(report.heads, tolerance)
            _save_tokenizer(model, tokenizer, folder)
            _save_config(model, folder, graph_digest(folder, FORMATS[format]))
            _put_in_place(folder, output_path, format)
    finally:
        for name, values in thresholds.items():
            model.config.heads[name].thresholds = values
        model.forget_written_thresholds()
    report.folder = str(output)
    return report


def _check_asked(
    model: object, tokenizer: PreTrainedTokenizerBase, format: str, quantize: str | None, is_calibrated: bool
) -> None:
    if not is_a(model, MultiHeadModel):
        raise ValueError(
            f"a {type(model).__name__} is not a multi-head model; if it is an adapter, export the model that "
            "merge_and_unload() returns"
        )
    if format not in FORMATS:
        raise ValueError(f"format {format!r}: give one of {list(FORMATS)}.{near_names(format, FORMATS)}")
    if quantize is not None and quantize not in QUANTIZE:
        raise ValueError(f"quantize {quantize!r}: give one of {list(QUANTIZE)}, or leave it out")
    if quantize is not None and not is_calibrated:
        raise ValueError(
            f"quantize={quantize!r} needs calibration: a few hundred texts like those to predict "
            "(--calibration rows.csv)"
        )
    if is_calibrated and quantize is None:
        raise ValueError("calibration is for int8: give quantize='int8' (--quantize int8), or leave it out")
    if not tokenizer.is_fast:
        raise ValueError(
            f"a {type(tokenizer).__name__} is written in Python and has no {TOKENIZER_FILE}, which the graph needs: "
            "export needs a fast tokenizer"
        )


def check_packages(format: str) -> None:
    """Check that the packages of a format are installed.

    Raises:
        ImportError: A package is missing or too old; the message gives the command that installs it.
    """
    check_import(format, to_export=True)
    try:
        from transformers.exporters import ExportedModel  # noqa: F401 (older versions have other exporters)
    except ImportError as error:
        raise ImportError(
            "export needs the exporters of transformers (5.23 is tested), and they need Python 3.11: "
            f'pip install -U "transformers>=5.23" ({error})'
        ) from None


def _write(
    model: MultiHeadModel,
    tokenizer: PreTrainedTokenizerBase,
    parent: Path,
    format: str,
    quantize: str | None,
    calibration: Iterable[Any] | None,
    batches: Iterable[Mapping[str, Any]] | None,
) -> tuple[Path, ExportReport]:
    """Write the requested files into a folder in `parent`; return it with the comparison to the model."""
    backend = FORMATS[format]
    source = float32_copy(model)
    inputs = token_inputs(source, tokenizer)
    metadata = graph_metadata(source, tokenizer, inputs)
    outputs = {head["name"]: head["output"] for head in metadata["heads"]}
    sample = sample_tokens(source, inputs)
    labelled = list(labelled_batches(batches or (), inputs))
    if batches is not None and not labelled:
        logger.warning("no row of the data has a label, so no scores are compared")
    texts = None if calibration is None else calibration_batches(source, tokenizer, calibration, inputs)
    with _in_one_line(f"a {source.config.encoder.model_type!r} encoder cannot be exported to {format}"), quiet():
        program = backend.trace(LogitsGraph(source), sample, dynamic_axes(sample))
        program = backend.name_and_describe(program, list(outputs.values()), metadata)
        programs = {"float32": program}
        if quantize is not None and texts is not None:
            programs[quantize] = _quantized(
                program,
                format,
                texts,
                labelled,
                LeastChange(source, outputs),
            )
    runners = {}
    for precision, graph in programs.items():
        (parent / precision).mkdir()
        with _in_one_line(f"the graph ({format}, {precision}) cannot be written and opened again"):
            backend.save(graph, parent / precision)
            runners[precision] = _told(backend.runner(parent / precision), f"the graph ({format}, {precision})")
    all_batches = itertools.chain(check_batches(source, tokenizer, inputs), labelled)
    comparisons = compare(source, runners, outputs, all_batches)
    sizes = {precision: _sizes(parent / precision) for precision in programs}
    final_precision = quantize or "float32"
    folder = parent / final_precision
    if quantize is not None:
        folder = parent / "described"  # (the files of the graphs that were run are still in use)
        folder.mkdir()
        facts = {name: comparison.metadata() for name, comparison in comparisons[quantize].items()}
        backend.save(backend.describe(programs[quantize], {"comparison": facts}), folder)
    report = ExportReport(
        folder=str(folder),
        graph=backend.GRAPH_FILE,
        format=format,
        quantize=quantize,
        files=sizes[final_precision],
        float32_bytes=sum(sizes["float32"].values()),
        heads=comparisons["float32"],
        quantized_heads=None if quantize is None else comparisons[quantize],
    )
    return folder, report


def _quantized(
    program: Program,
    format: str,
    texts: Sequence[quantization.Tokens],
    labelled: list[Batch],
    score: Callable[[Runner, list[Batch]], float],
) -> Program:
    if format == "onnx":
        quantized = quantization.quantize_onnx(program, texts, labelled, score)
    else:
        quantized = quantization.quantize_openvino(program, texts, labelled, score)
    return FORMATS[format].describe(quantized, {"quantize": "int8"})


def _told(run: Runner, what: str) -> Runner:
    """Wrap a runner: its errors become one line with the shape of the tokens."""

    def told(tokens: Tokens) -> Mapping[str, Any]:
        with _in_one_line(f"{what} does not run on tokens of shape {tokens['input_ids'].shape}"):
            return run(tokens)

    return told


def _check_difference(heads: Mapping[str, HeadComparison], tolerance: float) -> None:
    for name, comparison in heads.items():
        if not comparison.difference <= tolerance:
            raise ValueError(
                f"head {name!r}: the graph's logits differ from PyTorch's by {comparison.difference:.1e} (tolerance "
                f"{tolerance:.0e}) on tokens of shape {comparison.shape}. Nothing was written"
            )


def _save_tokenizer(model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save the tokenizer beside the graph, and check that `tokenizer.json` alone gives the same tokens.

    Raises:
        ValueError: It does not.
    """
    tokenizer.save_pretrained(folder)
    alone = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    alone.no_truncation()
    alone.no_padding()
    texts = check_texts(model, tokenizer)
    for text, expected in zip(texts, tokenizer(*zip(*texts, strict=True), verbose=False)["input_ids"], strict=True):
        if alone.encode(text[0], text[1] if text[1:] else None).ids != expected:
            raise ValueError(
                f"{TOKENIZER_FILE} alone tokenizes {text[0][:40]!r} differently from the {type(tokenizer).__name__}: "
                "a program without transformers could not use the graph. Nothing was written"
            )


def _save_config(model: MultiHeadModel, folder: Path, digest: str) -> None:
    """Save the configuration without the model's code, and with a digest of the graph."""
    values = {name: value for name, value in model.config.to_dict().items() if name != "auto_map"}
    values[GRAPH_DIGEST] = digest
    (folder / CONFIG_NAME).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _put_in_place(folder: Path, target: Path, format: str) -> None:
    """Move the folder to its place.

    An existing folder receives the files one by one, the graph last, so that a graph is never without its weights, and
    no graph stays with the configuration of another one.
    """
    graph_file = FORMATS[format].GRAPH_FILE
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, target)
        return
    for backend in FORMATS.values():
        (target / backend.GRAPH_FILE).unlink(missing_ok=True)
    for name, backend in FORMATS.items():
        if name != format and (target / backend.WEIGHTS_FILE).exists():
            (target / backend.WEIGHTS_FILE).unlink()
            logger.warning(f"{target}: the {name} graph that was there is removed")
    for path in sorted(folder.iterdir(), key=lambda path: path.name == graph_file):
        os.replace(path, target / path.name)


def _sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


@contextlib.contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Shorten errors of exporters and quantisers, which are of many kinds and long."""
    try:
        yield
    except (OSError, ImportError):
        raise  # such as a full disk or an old package
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{what}: {type(error).__name__}: {reason[:300]}") from error

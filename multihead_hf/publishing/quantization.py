"""Static int8 quantisation: weights and activations in 8 bits, with ranges measured on the user's texts (NNCF)."""

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from datasets import Dataset
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.collator import pad_tokens
from ..model.modeling_multihead import MultiHeadModel
from ..model.texts_multihead import listed, text_parts
from ..model.truncation_multihead import token_limit
from ..prediction import graph_onnx, quiet_imports
from ..prediction.tokenizing import encode_different, size_of
from ..utils.messages import counted
from ..utils.signal_stack import signal_stack_kept
from .export_parity import Batch

if TYPE_CHECKING:
    import onnx_ir
    import openvino

logger = logging.get_logger(__name__)

Tokens = Mapping[str, npt.NDArray[np.int64]]
Run = Callable[[Tokens], Mapping[str, np.ndarray]]
_BATCH, _MOST_BATCHES = 8, 100  # more batches hardly change the ranges
_ENOUGH = 100  # texts

_RANKED = 32
MOST_LOST = 0.002
"""Layers are left in float32 until no head's main score falls by more than this."""


def check_packages() -> None:
    """Check that NNCF is installed.

    Raises:
        ImportError: It is not installed; the message contains the command that installs it.
    """
    try:
        quiet_imports.nncf()
    except ImportError:
        raise ImportError('int8 needs NNCF: pip install "multihead-hf[int8]"') from None


def calibration_batches(
    model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase, texts: Iterable[Any], inputs: Sequence[str]
) -> list[Tokens]:
    """Return token batches of texts with similar lengths.

    Args:
        model: Model with the text settings.
        tokenizer: Tokenizer of its encoder.
        texts: Strings, pairs, or rows.
        inputs: Names of the graph's inputs.

    Raises:
        ValueError: There are no texts, or a row lacks the model's text columns; the message contains the row.
    """
    columns = model.config.text_columns
    if isinstance(texts, (str, bytes, os.PathLike, Mapping)):
        raise ValueError(
            f"calibration is a {type(texts).__name__}: give texts, or rows with the columns of the training, such as "
            'read_dataset("rows.csv") (--calibration rows.csv)'
        )
    parts = []
    for row, text in _some_of(listed(texts, columns)):
        try:
            parts.append(tuple(text_parts(text, columns)))
        except ValueError as error:
            raise ValueError(f"calibration row {row}: {error}") from None
    if not parts:
        raise ValueError("calibration has no rows: give a few hundred texts like those to predict")
    if len(parts) < _ENOUGH:
        logger.warning(
            f"The ranges of int8 are measured on {counted(len(parts), 'text')} only: give a "
            "few hundred like those to predict"
        )
    rows = encode_different(tokenizer, model.config, parts, token_limit(model.config, tokenizer)).rows
    rows.sort(key=size_of)
    batches = [pad_tokens(tokenizer, rows[begin : begin + _BATCH]) for begin in range(0, len(rows), _BATCH)]
    return [{name: batch[name].numpy() for name in inputs} for batch in batches]


def _some_of(texts: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    """Return row numbers and texts: evenly spaced ones where there are too many, or the first ones of a stream."""
    most = _BATCH * _MOST_BATCHES
    if isinstance(texts, (Dataset, Sequence)):
        rows = len(texts)
        return ((row, texts[row]) for row in (index * rows // min(rows, most) for index in range(min(rows, most))))
    return itertools.islice(enumerate(texts), most)


def quantize_openvino(
    program: "openvino.Model",
    calibration: Sequence[Tokens],
    labelled: Sequence[Batch],
    score: Callable[[Run, list[Batch]], float],
) -> "openvino.Model":
    """Return a graph in int8; heads and pooling stay in float32.

    Args:
        program: An `openvino.Model`, which is not changed.
        calibration: Token batches.
        labelled: Batches with labels. If there are any, layers stay in float32 until the score falls by at most 0.002.
        score: Function (runner of a graph, batches) → score.
    """

    def runner(compiled: "openvino.CompiledModel") -> Run:
        input_names = [port.any_name for port in compiled.inputs]

        def run(tokens: Tokens) -> Mapping[str, np.ndarray]:
            results = compiled({name: tokens[name] for name in input_names})
            return {port.any_name: results[port] for port in compiled.outputs}

        return run

    return _quantized(program.clone(), after_encoder(_openvino_nodes(program)), calibration, labelled, score, runner)


def quantize_onnx(
    program: "onnx_ir.Model",
    calibration: Sequence[Tokens],
    labelled: Sequence[Batch],
    score: Callable[[Run, list[Batch]], float],
) -> "onnx_ir.Model":
    """Return a graph in int8 with quantize and dequantize nodes; heads and pooling stay in float32.

    Args:
        program: An `onnx_ir.Model`, which is not changed.
        calibration: As for `quantize_openvino`.
        labelled: As for `quantize_openvino`.
        score: As for `quantize_openvino`.
    """
    import onnx_ir

    def runner(proto: Any) -> Run:  # noqa: ANN401 (onnx has no types)
        return graph_onnx.runner_of(proto.SerializeToString())

    names = after_encoder(_onnx_nodes(program))
    graph = onnx_ir.from_proto(_quantized(onnx_ir.to_proto(program), names, calibration, labelled, score, runner))
    graph.metadata_props.update(program.metadata_props)
    return graph


def _quantized(
    graph: Any,  # noqa: ANN401 (of either runtime)
    in_float32: list[str],
    calibration: Sequence[Tokens],
    labelled: Sequence[Batch],
    score: Callable[[Run, list[Batch]], float],
    runner: Callable[[Any], Run],
) -> Any:  # noqa: ANN401 (as `graph`)
    """Return the graph in int8, but for the named nodes, and for layers that would cost too much of the score."""
    nncf = quiet_imports.nncf()
    options = {
        "model_type": nncf.ModelType.TRANSFORMER,
        "subset_size": len(calibration),
        "ignored_scope": nncf.IgnoredScope(names=in_float32),
    }
    dataset = nncf.Dataset(list(calibration))
    with signal_stack_kept():
        if not labelled:
            return nncf.quantize(graph, dataset, **options)
        return nncf.quantize_with_accuracy_control(
            graph,
            dataset,
            nncf.Dataset(list(labelled), lambda batch: dict(batch.tokens)),
            lambda model, batches: (score(runner(model), list(batches)), None),
            max_drop=MOST_LOST,
            drop_type=nncf.DropType.ABSOLUTE,
            # layers are ranked on some of the rows, but the score is computed on all rows
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(ranking_subset_size=_RANKED),
            **options,
        )


def after_encoder(nodes: Sequence[tuple[str, bool, Sequence[int]]]) -> list[str]:
    """Return the names of the nodes after the last product of the encoder: pooling and heads.

    Args:
        nodes: Nodes in the order of computation: name, whether it is a product of token states (batch, length, width),
            and the indices of the nodes that read its result.
    """
    is_after: dict[int, bool] = {}
    for index in reversed(range(len(nodes))):
        _, is_product, readers = nodes[index]
        is_after[index] = not is_product and all(is_after[reader] for reader in readers)
    return [name for number, (name, _, _) in enumerate(nodes) if is_after[number]]


def _openvino_nodes(program: "openvino.Model") -> list[tuple[str, bool, list[int]]]:
    nodes = [node for node in program.get_ordered_ops() if node.get_type_name() not in ("Result", "Parameter")]
    indices = {node.get_friendly_name(): index for index, node in enumerate(nodes)}
    descriptions = []
    for node in nodes:
        readers = [port.get_node().get_friendly_name() for out in node.outputs() for port in out.get_target_inputs()]
        is_product = node.get_type_name() == "MatMul" and node.get_output_partial_shape(0).rank.get_length() > 2
        descriptions.append(
            (node.get_friendly_name(), is_product, [indices[name] for name in readers if name in indices])
        )
    return descriptions


def _onnx_nodes(program: "onnx_ir.Model") -> list[tuple[str, bool, list[int]]]:
    nodes: list[Any] = list(program.graph)
    indices = {id(node): index for index, node in enumerate(nodes)}
    descriptions = []
    for node in nodes:
        readers = [
            indices[id(user.node)] for value in node.outputs for user in value.uses() if id(user.node) in indices
        ]
        is_product = node.op_type in ("MatMul", "Gemm") and len(node.outputs[0].shape or ()) > 2
        descriptions.append((node.name, is_product, readers))
    return descriptions

"""ONNX: the graph through transformers' exporter, its metadata, ONNX Runtime's quantiser, and running it."""

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from .graph import METADATA, as_strings

if TYPE_CHECKING:
    from onnx_ir import Model
    from onnxruntime import InferenceSession

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
GRAPH_FILE, WEIGHTS_FILE = "model.onnx", "model.onnx.data"


def trace(graph: nn.Module, sample: dict[str, Any], dynamic_shapes: dict[str, Any]) -> "Model":
    """Return the graph as an `onnx_ir.Model`."""
    from transformers.exporters import OnnxConfig, OnnxExporter

    config = OnnxConfig(dynamic=True, dynamic_shapes=dynamic_shapes, prefer_deferred_runtime_asserts_over_guards=True)
    with contextlib.redirect_stderr(io.StringIO()):  # PyTorch prints a graph that it cannot trace
        return OnnxExporter().export(graph, sample, config).program


def name_and_describe(program: "Model", outputs: list[str], metadata: Mapping[str, Any]) -> "Model":
    """Give the outputs and axes their names, and the graph its metadata.

    The exporter's debug information on each node (with local paths) is removed.
    """
    from onnx_ir import Shape
    from onnx_ir.passes.common import NameFixPass

    graph: Any = program.graph  # its inputs and outputs have shapes
    for value, name in zip(graph.outputs, outputs, strict=True):
        value.name = name
    for node in graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    NameFixPass()(program)  # renames values inside the graph that have the name of an output
    names = [value.name for value in graph.outputs]
    if names != outputs:
        raise RuntimeError(f"the outputs are called {names}, not {outputs}")
    for value in graph.inputs:
        axes = ["batch", "length"] if len(value.shape) == 2 else ["batch", "windows", "length"]
        if any(isinstance(size, int) for size in value.shape):
            raise RuntimeError(f"its input {value.name} has the fixed shape {value.shape}")
        value.shape = Shape(axes)
    for value in graph.outputs:
        value.shape = Shape(["batch", value.shape[-1]])
    program.metadata_props.clear()
    return describe(program, metadata)


def describe(program: "Model", metadata: Mapping[str, Any]) -> "Model":
    """Put metadata into the graph, and return it."""
    program.metadata_props.update({f"{METADATA}.{key}": text for key, text in as_strings(metadata).items()})
    return program


def save(program: "Model", folder: Path) -> None:
    """Write the graph, and its weights beside it."""
    from transformers.exporters import OnnxExporter

    OnnxExporter.save_program(program, folder / GRAPH_FILE)


def runner(folder: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """Return a function that runs the saved graph on the CPU, one batch at a time."""
    return runner_of(folder / GRAPH_FILE)


def runner_of(graph: Path | bytes) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """Return a function that runs a graph, given as a file or as its bytes, as `runner`."""
    session = _session(graph, 0)
    takes = [value.name for value in session.get_inputs()]
    names = [value.name for value in session.get_outputs()]

    def run(tokens: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {name: tokens[name] for name in takes}), strict=True))

    return run


def compiled(
    folder: Path, precision: str, threads: int
) -> Callable[[Iterable[Mapping[str, np.ndarray]], Sequence[str]], list[list[np.ndarray]]]:
    """Return a function that computes outputs of many batches, one batch per thread at a time.

    Args:
        folder: Folder of the graph.
        precision: `"fp32"`, or `"int8"` for a quantized graph.
        threads: Number of CPU threads.
    """
    session = _session(folder / GRAPH_FILE, 1)  # one thread each: batches run in parallel
    takes = [value.name for value in session.get_inputs()]

    def run(batches: Iterable[Mapping[str, np.ndarray]], names: Sequence[str]) -> list[list[np.ndarray]]:
        def one(tokens: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            return session.run(list(names), {name: tokens[name] for name in takes})

        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(one, batches))

    return run


def _session(graph: Path | bytes, threads: int) -> "InferenceSession":
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata of a saved graph."""
    entries = _session(folder / GRAPH_FILE, 1).get_modelmeta().custom_metadata_map
    return {key: json.loads(entries[f"{METADATA}.{key}"]) for key in ("heads", "text", "quantize")}

"""ONNX: the graph through transformers' exporter, its metadata, ONNX Runtime's quantiser, and running it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .export_graph import METADATA, as_strings

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
GRAPH_FILE = "model.onnx"


def trace(graph: nn.Module, sample: dict[str, Any], dynamic_shapes: dict[str, Any]) -> Any:
    """The graph as an `onnx_ir.Model`."""
    from transformers.exporters import OnnxConfig, OnnxExporter

    config = OnnxConfig(dynamic=True, dynamic_shapes=dynamic_shapes, prefer_deferred_runtime_asserts_over_guards=True)
    return OnnxExporter().export(graph, sample, config).program


def name_and_describe(program: Any, outputs: list[str], metadata: Mapping[str, Any]) -> Any:
    """Give the outputs and axes their names, and the graph its metadata. What the exporter noted of each node (its
    place in the code, with paths of this machine) is left out."""
    from onnx_ir import Shape
    from onnx_ir.passes.common import NameFixPass

    for value, name in zip(program.graph.outputs, outputs, strict=True):
        value.name = name
    for node in program.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    NameFixPass()(program)  # a node's value may have had a head's name
    found = [value.name for value in program.graph.outputs]
    if found != outputs:
        raise RuntimeError(f"the outputs are called {found}, and not {outputs}")
    for value in program.graph.inputs:
        axes = ["batch", "length"] if len(value.shape) == 2 else ["batch", "windows", "length"]
        if any(isinstance(size, int) for size in value.shape):
            raise RuntimeError(f"its input {value.name} has the fixed shape {value.shape}")
        value.shape = Shape(axes)
    for value in program.graph.outputs:
        value.shape = Shape(["batch", value.shape[-1]])
    program.metadata_props.clear()
    program.metadata_props.update({f"{METADATA}.{key}": text for key, text in as_strings(metadata).items()})
    return program


def save(program: Any, folder: Path) -> None:
    """Write the graph, and its weights beside it."""
    from transformers.exporters import OnnxExporter

    OnnxExporter.save_program(program, folder / GRAPH_FILE)


def quantize(program: Any, sample: dict[str, Any]) -> Any:
    """int8 weights, and activations quantised while it runs."""
    from transformers.exporters import OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    quantized = OnnxRuntimeQuantizer(OnnxRuntimeDynamicConfig()).quantize(program, sample, "onnx")
    quantized.metadata_props.update({**program.metadata_props, f"{METADATA}.quantize": json.dumps("int8")})
    return quantized


def runner(folder: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """The saved graph, ready to run on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(folder / GRAPH_FILE, options, providers=["CPUExecutionProvider"])
    takes = [each.name for each in session.get_inputs()]
    names = [each.name for each in session.get_outputs()]

    def run(tokens: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {name: tokens[name] for name in takes}), strict=True))

    return run

"""OpenVINO: the graph through transformers' exporter, its metadata, and running it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from .export_graph import METADATA, as_strings

PACKAGES = ("openvino",)
GRAPH_FILE = "openvino_model.xml"


def trace(graph: nn.Module, sample: dict[str, Any], dynamic_shapes: dict[str, Any]) -> Any:
    """The graph as an `openvino.Model`."""
    from transformers.exporters import OpenVINOConfig, OpenVINOExporter

    config = OpenVINOConfig(
        dynamic=True, dynamic_shapes=dynamic_shapes, prefer_deferred_runtime_asserts_over_guards=True, stateful=False
    )
    return OpenVINOExporter().export(graph, sample, config).program


def name_and_describe(program: Any, outputs: list[str], metadata: Mapping[str, Any]) -> Any:
    """Give the outputs their names, and the graph its metadata (`rt_info`)."""
    taken = set(outputs)
    for node in program.get_ordered_ops():
        for value in node.outputs():
            names = value.get_tensor().get_names()
            if names & taken:  # tensors of one name are an error
                value.get_tensor().set_names(names - taken)
    for port, name in zip(program.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    for key, text in as_strings(metadata).items():
        program.set_rt_info(text, [METADATA, key])
    program.validate_nodes_and_infer_types()
    for port in program.inputs:
        if any(size.is_static for size in port.get_partial_shape()):
            raise RuntimeError(f"its input {port.any_name} has the fixed shape {port.get_partial_shape()}")
    return program


def save(program: Any, folder: Path) -> None:
    """Write the graph (.xml), and its weights (.bin) beside it."""
    from transformers.exporters import OpenVINOExporter

    OpenVINOExporter.save_program(program, folder / GRAPH_FILE)


def runner(folder: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """The saved graph, ready to run on the CPU in float32 (left to itself, OpenVINO takes bfloat16 where it can)."""
    import openvino

    core = openvino.Core()
    model = core.compile_model(core.read_model(folder / GRAPH_FILE), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    takes = [port.any_name for port in model.inputs]
    names = [port.any_name for port in model.outputs]

    def run(tokens: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = model({name: tokens[name] for name in takes})
        return {name: found[place] for place, name in enumerate(names)}

    return run

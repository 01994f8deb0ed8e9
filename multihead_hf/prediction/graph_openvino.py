"""OpenVINO: the graph through transformers' exporter, its metadata, and running it."""

import contextlib
import functools
import io
import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from . import quiet_imports
from .graph import METADATA, as_strings

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest, Model

PACKAGES = ("openvino",)
GRAPH_FILE, WEIGHTS_FILE = "openvino_model.xml", "openvino_model.bin"


def trace(graph: nn.Module, sample: dict[str, Any], dynamic_shapes: dict[str, Any]) -> "Model":
    """Return the graph as an `openvino.Model`."""
    quiet_imports.openvino()
    from transformers.exporters import OpenVINOConfig, OpenVINOExporter

    config = OpenVINOConfig(
        dynamic=True, dynamic_shapes=dynamic_shapes, prefer_deferred_runtime_asserts_over_guards=True, stateful=False
    )
    with contextlib.redirect_stderr(io.StringIO()):  # PyTorch prints a graph that it cannot trace
        return OpenVINOExporter().export(graph, sample, config).program


def name_and_describe(program: "Model", outputs: list[str], metadata: Mapping[str, Any]) -> "Model":
    """Give the outputs their names, and the graph its metadata (`rt_info`)."""
    taken = set(outputs)
    for node in program.get_ordered_ops():
        for value in node.outputs():
            names = value.get_tensor().get_names()
            if names & taken:  # tensors with the same name are an error
                value.get_tensor().set_names(names - taken)
    for port, name in zip(program.outputs, outputs, strict=True):
        port.get_tensor().set_names({name})
    describe(program, metadata)
    program.validate_nodes_and_infer_types()
    for port in program.inputs:
        if any(size.is_static for size in port.get_partial_shape()):
            raise RuntimeError(f"its input {port.any_name} has the fixed shape {port.get_partial_shape()}")
    return program


def describe(program: "Model", metadata: Mapping[str, Any]) -> "Model":
    """Put metadata into the graph, and return it."""
    for key, text in as_strings(metadata).items():
        program.set_rt_info(text, [METADATA, key])
    return program


def save(program: "Model", folder: Path) -> None:
    """Write the graph (.xml), and its weights (.bin) beside it."""
    from transformers.exporters import OpenVINOExporter

    OpenVINOExporter.save_program(program, folder / GRAPH_FILE)


def runner(folder: Path) -> Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]:
    """Return a function that runs the saved graph on the CPU, one batch at a time."""
    model = _compile(openvino_core().read_model(folder / GRAPH_FILE), "fp32", {})
    takes = [port.any_name for port in model.inputs]
    names = [port.any_name for port in model.outputs]

    def run(tokens: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = model({name: tokens[name] for name in takes})
        return {name: outputs[index] for index, name in enumerate(names)}

    return run


def compiled(
    folder: Path, precision: str, threads: int
) -> Callable[[Iterable[Mapping[str, np.ndarray]], Sequence[str]], list[list[np.ndarray]]]:
    """Return a function that computes outputs of many batches, one batch per thread at a time.

    Args:
        folder: Folder of the graph.
        precision: `"fp32"`, `"bf16"` or `"int8"` (for a quantized graph; its other layers are in float32).
        threads: Number of CPU threads.
    """
    network = openvino_core().read_model(folder / GRAPH_FILE)
    model: dict[bool, Any] = {}  # compiled on demand, for batches one after another (False) and in parallel (True)

    def run(batches: Iterable[Mapping[str, np.ndarray]], names: Sequence[str]) -> list[list[np.ndarray]]:
        remaining = iter(batches)
        first = list(itertools.islice(remaining, threads))
        side_by_side = len(first) == threads
        if side_by_side not in model:
            # one thread per stream: parallel batches need no synchronisation, which was twice as fast as batches one
            # after another; with fewer batches than threads, each batch gets all threads
            streams = threads if side_by_side else 1
            settings = {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": threads}
            model[side_by_side] = _compile(network, precision, settings)
        return _computed(model[side_by_side], itertools.chain(first, remaining), names, threads if side_by_side else 1)

    return run


def _computed(
    model: "CompiledModel", batches: Iterable[Mapping[str, np.ndarray]], names: Sequence[str], at_a_time: int
) -> list[list[np.ndarray]]:
    """Compute outputs of many batches, several at a time."""
    takes = [port.any_name for port in model.inputs]
    # a request is awaited before it is reused. (`AsyncInferQueue` calls back into Python from its own threads, and
    # freeing it while such a call ends can deadlock.)
    results: list[list[np.ndarray]] = []
    running: deque[Any] = deque()

    def collect() -> "InferRequest":
        request = running.popleft()
        request.wait()
        results.append([np.array(request.get_tensor(name).data, dtype=np.float32) for name in names])
        return request

    free = [model.create_infer_request() for _ in range(at_a_time)]
    for tokens in batches:
        request = free.pop() if free else collect()
        request.start_async({name: tokens[name] for name in takes})
        running.append(request)
    while running:
        collect()
    return results


@functools.cache
def openvino_core() -> "Core":
    """Return OpenVINO's core, one for the process and never freed (`signal_stack_kept` explains why)."""
    return quiet_imports.openvino().Core()


def has_bf16() -> bool:
    """Return whether OpenVINO can compute in bfloat16 on this CPU; elsewhere it computes in float32 when asked to."""
    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _compile(network: "Model", precision: str, settings: Mapping[str, Any]) -> "CompiledModel":
    """Compile a graph. By default, OpenVINO uses bfloat16 where it can."""
    hint = "bf16" if precision == "bf16" else "f32"
    return openvino_core().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": hint, **settings})


def metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata of a saved graph."""
    model = openvino_core().read_model(folder / GRAPH_FILE)
    return {key: json.loads(model.get_rt_info([METADATA, key]).value) for key in ("heads", "text", "quantize")}

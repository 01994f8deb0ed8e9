"""Computation of the logits of token rows: by PyTorch, or by a graph of the model."""

import contextlib
import functools
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.collator import pad_tokens
from ..model.modeling_multihead import MultiHeadModel
from ..model.modes_multihead import evaluating
from . import graph_openvino
from .backends import (
    AUTO,
    GRAPHS,
    OPENVINO,
    TOLERANCE,
    TORCH,
    CompiledGraph,
    Logits,
    ModelGraph,
    SavedGraph,
    cache_folder,
    check_import,
    is_installed,
    is_whole,
    readable_graph,
)
from .graph import float32_copy
from .model_state import State
from .precision import BF16, EXACT, autocast

logger = logging.get_logger(__name__)

Batches = Sequence[Sequence[Mapping[str, Any]]]

WORTH_A_GRAPH = 256
"""Different texts of one call from which on `backend="auto"` makes a graph; one that was made before is always used."""

# throughput is flat around these sizes: a CPU needs batches that fit into its caches, a GPU needs large ones
_BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}
_GRAPH_BATCH_TOKENS = 1024
_COMPARED = 2  # batches that are compared with PyTorch


@dataclass
class _Kept:
    """The graph of a model's state, or the reason why there is none."""

    state: tuple[Any, ...]
    graph: ModelGraph | None
    is_checked: bool = False


# model → backend → graph, shared by the predictors of a model
_GRAPHS: "weakref.WeakKeyDictionary[MultiHeadModel, dict[str, _Kept]]" = weakref.WeakKeyDictionary()
_first_process: int | None = None
_MAKING = threading.RLock()  # several threads need one graph of a model


def _lacks_bf16() -> bool:
    """Return whether OpenVINO has no bfloat16 here; where it cannot be imported, that is said when a graph is made."""
    with contextlib.suppress(ImportError):
        check_import(OPENVINO, to_export=False)
        return not graph_openvino.has_bf16()
    return False


class Runtime:
    """Computes logits with the requested backend, or with a suitable one.

    Args:
        model: The model, which may change between calls.
        tokenizer: Tokenizer that pads the batches.
        device: Device of the model.
        backend: `"auto"`, `"torch"`, `"openvino"` or `"onnx"`.
        saved: An exported graph that replaces the model, such as a quantized one.

    Attributes:
        asked: The backend that the user gave.
        backend: The backend in use.
        keep: Whether a new graph is stored in the cache, which is worthwhile for a saved model.
    """

    def __init__(
        self,
        model: MultiHeadModel,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        backend: str,
        saved: SavedGraph | None = None,
    ) -> None:
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.keep = False
        self.backend = TORCH if saved is None else saved.backend
        self.asked = backend
        self._saved = saved
        self._fixed: dict[str, CompiledGraph] = {}
        self._graph: ModelGraph | None = None
        self._not_cached: tuple[Any, ...] | None = None  # a state of the model without a graph in the cache

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings alone: compiled graphs cannot be copied, and another process compiles its own."""
        return {**self.__dict__, "_fixed": {}, "_graph": None, "_not_cached": None}

    @property
    def batch_tokens(self) -> int:
        """Number of tokens per batch, with padding, at which the backend is fast."""
        if self.backend in GRAPHS:
            return _GRAPH_BATCH_TOKENS
        return _BATCH_TOKENS.get(self.device.type, _BATCH_TOKENS["cuda"])

    def prepare(self, texts: int, state: State | None, precision: str | None) -> None:
        """Choose the backend for the next texts.

        Args:
            texts: Number of distinct texts to compute.
            state: State of the model; another state needs another graph.
            precision: Precision of the computation, or `None` where it is chosen later.
        """
        if self._saved is not None or not texts or state is None:
            return
        name = self._candidate(texts, precision)
        if name != TORCH and state.hooks:
            logger.warning_once(f"the model has forward hooks, which a graph for {name} lacks, so PyTorch is used")
            name = TORCH
        self._graph = None if name == TORCH else self._graph_of(name, texts, state)
        self.backend = TORCH if self._graph is None else name

    def _graph_of(self, name: str, texts: int, state: State) -> ModelGraph | None:
        """Return the graph of this state of the model; `None` if there is none, and none is worth making."""
        config = self.model.config  # (of the text settings, these are part of the graph)
        text = (config.pooling, config.window_pooling, config.truncation)
        key = (*state._replace(text=text), tuple(self.tokenizer.model_input_names))  # (the inputs of the graph)
        with _MAKING:
            graphs = _GRAPHS.setdefault(self.model, {})
            if name not in graphs or graphs[name].state != key:
                is_worth_it = self.asked != AUTO or texts >= WORTH_A_GRAPH
                if not is_worth_it and (not self.keep or state == self._not_cached):
                    return None
                folder = cache_folder(self.model, self.tokenizer, name, state.adapters)  # (reads all weights)
                is_cached = is_whole(folder)
                if not is_worth_it and not is_cached:
                    self._not_cached = state
                    return None
                graphs[name] = _Kept(key, self._made(name, folder, is_cached))
            return graphs[name].graph

    def run(self, batches: Batches, precision: str, heads: Sequence[str]) -> list[Logits]:
        """Return for each batch of unpadded token rows head → logits (rows, labels)."""
        _note_process()
        if self._saved is not None:
            _check_not_forked(self._saved)
            if precision not in self._fixed:
                self._fixed[precision] = self._saved.compiled(precision)
            try:
                return self._fixed[precision].run(batches, self.tokenizer, heads)
            except (MemoryError, ValueError):
                raise
            except Exception as error:  # runtimes raise errors of many kinds
                reason = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"{self._saved.folder}: its graph cannot compute these texts ({reason}). If it cannot compute any, "
                    "export it again"
                ) from error
        graph = self._graph
        if graph is not None and batches and self._is_right(graph, batches, heads):
            compiled = self._compiled(graph, precision)
            if compiled is not None:
                return compiled.run(batches, self.tokenizer, heads)
        return self._run_torch(batches, precision, heads)

    def _compiled(self, graph: ModelGraph, precision: str) -> CompiledGraph | None:
        """Return the compiled graph; `None`, with a warning, if its files have gone, as when the cache was emptied."""
        try:
            with readable_graph(graph.folder):
                return graph.compiled(precision)
        except ValueError as error:
            self._replace(graph, str(error))
            return None

    def _replace(self, graph: ModelGraph, problem: str) -> None:
        """Compute with PyTorch instead of a graph from now on."""
        logger.warning(f"{graph.backend} cannot be used for this model, so PyTorch is used: {problem}")
        _GRAPHS[self.model][graph.backend].graph = self._graph = None
        self.backend = TORCH

    def _candidate(self, texts: int, precision: str | None) -> str:
        if _is_forked():  # (it would wait for ever)
            return TORCH
        if self.asked != AUTO:
            return self.asked
        if self.device.type != "cpu":
            return TORCH
        if is_installed(OPENVINO):
            return TORCH if precision == BF16 and _lacks_bf16() else OPENVINO
        if texts >= WORTH_A_GRAPH:
            logger.warning_once(
                "Predicting with PyTorch; OpenVINO is up to twice as fast on a CPU: pip install "
                '"multihead-hf[openvino]"'
            )
        return TORCH

    def _made(self, name: str, folder: Path, is_cached: bool) -> ModelGraph | None:
        """Make the graph, with a log message; `None` if that is impossible.

        Raises:
            ImportError: The backend was asked for, and its packages cannot be imported.
        """
        try:
            check_import(name, to_export=not is_cached)
        except ImportError as error:
            if self.asked != AUTO:
                raise
            logger.warning(f"Predicting with PyTorch: {error}")
            return None
        if not is_cached:
            logger.warning(
                f"Predicting with {name}: the graph of the model is exported now (backend='torch' needs no graph)"
            )
        elif self.asked == AUTO:
            logger.warning(f"Predicting with {name}: its cached graph is used (backend='torch' needs no graph)")
        try:
            return ModelGraph(self.model, self.tokenizer, name, folder, is_cached, self.keep)
        except (ValueError, ImportError, OSError) as error:
            logger.warning(f"{name} cannot be used for this model, so PyTorch is used (backend='torch'): {error}")
            return None

    def _is_right(self, graph: ModelGraph, batches: Batches, heads: Sequence[str]) -> bool:
        """Compare a graph with PyTorch on its first use; PyTorch replaces a wrong graph."""
        with _MAKING:
            return self._is_checked(_GRAPHS[self.model][graph.backend], batches, heads)

    def _is_checked(self, entry: _Kept, batches: Batches, heads: Sequence[str]) -> bool:
        graph = entry.graph
        if entry.is_checked or graph is None:
            return graph is not None
        sample = [rows[:2] for rows in (*batches[-1:], *batches[: _COMPARED - 1])]
        expected = self._run_torch(sample, EXACT, heads, float32_copy(self.model))
        problem = self._problem(graph, sample, expected, heads)
        entry.is_checked = True
        if problem is not None:
            self._replace(graph, problem)
        return problem is None

    def _problem(
        self, graph: ModelGraph, batches: Batches, expected: Sequence[Logits], heads: Sequence[str]
    ) -> str | None:
        try:
            results = self._tried(graph, batches, heads)
        except ValueError as error:
            return str(error)
        for one, other in zip(expected, results, strict=True):
            for name, values in one.items():
                difference = float(np.abs(values - other[name]).max())
                if not difference <= TOLERANCE * max(1.0, float(np.abs(values).max())):
                    return f"head {name!r}: its logits differ from PyTorch's by {difference:.1e}"
        return None

    def _tried(self, graph: ModelGraph, batches: Batches, heads: Sequence[str]) -> list[Logits]:
        try:
            return graph.compiled(EXACT).run(batches, self.tokenizer, heads)
        except Exception as error:  # runtimes raise errors of many kinds
            raise ValueError(" ".join(f"{type(error).__name__}: {error}".split())[:200]) from error

    def _run_torch(
        self, batches: Batches, precision: str, heads: Sequence[str], model: MultiHeadModel | None = None
    ) -> list[Logits]:
        # (autocast casts the weights once for all batches within it)
        model = self.model if model is None else model
        with evaluating(model), torch.inference_mode(), autocast(self.device, precision):
            return [self._forward(model, rows, heads) for rows in batches]

    def _forward(self, model: MultiHeadModel, rows: Sequence[Mapping[str, Any]], heads: Sequence[str]) -> Logits:
        """Return the logits of a batch, which is halved if it does not fit into memory."""
        try:
            batch = {name: tensor.to(self.device) for name, tensor in pad_tokens(self.tokenizer, rows).items()}
            logits = model(**batch, heads=heads, return_dict=True).logits
            return {name: values.float().cpu().numpy() for name, values in logits.items()}
        except (RuntimeError, MemoryError) as error:
            if len(rows) == 1 or not should_reduce_batch_size(error):
                raise
        clear_device_cache(garbage_collection=True)
        middle = len(rows) // 2
        halves = [self._forward(model, part, heads) for part in (rows[:middle], rows[middle:])]
        return {name: np.concatenate([half[name] for half in halves]) for name in heads}


def _check_not_forked(saved: SavedGraph) -> None:
    if _is_forked():
        raise ValueError(
            f"{saved.folder}: a graph cannot compute in a process that was forked from one that has predicted: it "
            "lacks the threads of the runtime. Start processes with the method 'spawn' "
            "(multiprocessing.set_start_method), or predict without processes"
        )


def _is_forked() -> bool:
    """Return whether this process was forked from one that has predicted: threads of runtimes do not exist in it."""
    return _first_process not in (None, os.getpid())


def _note_process() -> None:
    """Note the first process that predicts: graphs cannot compute in processes that are forked from it."""
    global _first_process
    if _first_process is None:
        _first_process = os.getpid()


if hasattr(os, "register_at_fork"):  # (not on Windows)
    # with more threads, PyTorch would wait for ever in the child for those that a fork does not copy, whatever the
    # parent has computed: a training, a forward pass or an export
    os.register_at_fork(after_in_child=functools.partial(torch.set_num_threads, 1))


def device_for(device: str | torch.device | None, saved: SavedGraph | None) -> torch.device:
    """Return the device of a predictor: the requested one, else CUDA where it is available; of a graph the CPU.

    Raises:
        ValueError: The device cannot be used here.
    """
    if saved is None:
        return usable_device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device is not None and usable_device(device).type != "cpu":
        logger.warning(f"{saved.folder} holds a graph, which computes on the CPU and not on {device}")
    return torch.device("cpu")


def usable_device(name: str | torch.device) -> torch.device:
    """Return a device; raise `ValueError` if it cannot be used here."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {str(name)!r}: give cpu, cuda or cuda:1") from None
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError) as error:  # torch was built without it, or it does not exist
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise ValueError(
            f"the device {str(name)!r} cannot be used here ({reason}): give cpu, or leave it out"
        ) from None
    return device

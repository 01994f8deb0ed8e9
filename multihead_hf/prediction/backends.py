"""Runtimes that replace PyTorch on a CPU: they run a graph of the model, which is exported once and cached.

PyTorch runs in `MultiHeadPredictor` itself. A graph contains all heads and belongs to one state of the model.
"""

import contextlib
import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.collator import pad_tokens
from ..model.configuration_multihead import MultiHeadConfig
from ..model.digest import files_digest, module_digest, plain_config
from ..model.head_multihead import near_names
from ..model.modeling_multihead import MultiHeadModel
from ..model.modes_multihead import evaluating
from ..utils.cache import cache_path
from . import graph_onnx, graph_openvino, quiet_imports
from .graph import LogitsGraph, dynamic_axes, float32_copy, quiet, sample_tokens, token_inputs
from .precision import AUTO, BF16, EXACT, Logits, check_bf16_of_openvino

logger = logging.get_logger(__name__)

TORCH, OPENVINO = "torch", "openvino"
GRAPHS: dict[str, ModuleType] = {OPENVINO: graph_openvino, "onnx": graph_onnx}
BACKENDS = (AUTO, TORCH, *GRAPHS)
TOLERANCE = 1e-3
"""A graph whose logits differ from PyTorch's by more, on texts of the first call, is not used."""

GRAPH_DIGEST = "_graph_digest"
"""Entry of the configuration beside an exported graph: a digest of the graph's files."""

_DIGEST = "digest"
_GRAPHS_KEPT, _DAY = 10, 86_400.0


def check_backend(backend: str, device: torch.device) -> None:
    """Check that a backend exists, is installed and computes on the device.

    Args:
        backend: The backend that the user gave.
        device: The predictor's device.

    Raises:
        ValueError: The backend is unknown or does not run on this device.
        ImportError: Its package is missing or cannot be imported; the message contains the command that installs it.
    """
    if backend not in BACKENDS:
        raise ValueError(
            f"Unknown backend {backend!r}.{near_names(backend, BACKENDS)} Use one of: {', '.join(BACKENDS)}"
        )
    if backend in GRAPHS and device.type != "cpu":
        raise ValueError(
            f"backend={backend!r} computes on a CPU, but the device is {device}: use backend='torch', or device='cpu'"
        )
    if backend in GRAPHS and not is_installed(backend):
        raise ImportError(
            f'backend={backend!r} needs {" and ".join(GRAPHS[backend].PACKAGES)}: pip install "multihead-hf[{backend}]"'
        )
    if backend in GRAPHS:
        check_import(backend, to_export=False)


def is_installed(backend: str) -> bool:
    """Return whether the packages of a graph backend are installed."""
    return all(importlib.util.find_spec(package) is not None for package in GRAPHS[backend].PACKAGES)


class CompiledGraph:
    """Computes the logits of token rows with a compiled graph.

    Args:
        backend: `"openvino"` or `"onnx"`.
        folder: Folder of the graph.
        outputs: Head → name of its output.
        precision: `"fp32"` or `"bf16"`, the precision of matrix products.
    """

    def __init__(
        self, backend: str, folder: str | os.PathLike[str], outputs: Mapping[str, str], precision: str
    ) -> None:
        self.outputs = dict(outputs)
        self._compute = GRAPHS[backend].compiled(Path(folder), precision, torch.get_num_threads())

    def run(
        self, batches: Iterable[Sequence[Mapping[str, Any]]], tokenizer: PreTrainedTokenizerBase, heads: Sequence[str]
    ) -> list[Logits]:
        """Compute the logits of batches of token rows.

        Args:
            batches: Unpadded rows, as the tokenizer returns them.
            tokenizer: Tokenizer that pads them.
            heads: Names of the requested heads.

        Returns:
            For each batch head → logits (rows, labels).
        """
        padded = (
            {name: tensor.numpy() for name, tensor in pad_tokens(tokenizer, list(rows)).items()} for rows in batches
        )
        names = [self.outputs[head] for head in heads]
        return [dict(zip(heads, values, strict=True)) for values in self._compute(padded, names)]


@dataclass
class SavedGraph:
    """An exported graph that computes predictions.

    Args:
        backend: `"openvino"` or `"onnx"`.
        folder: Its folder.
        outputs: Head → name of its output.
        quantize: `"int8"`, or `None` for float32.
        text: Metadata about how texts become its inputs.
        pooling: Pooling of the model that it was made of.
        widths: Head → number of labels, as in the graph.
    """

    backend: str
    folder: str
    outputs: dict[str, str]
    quantize: str | None
    text: dict[str, Any]
    pooling: str | None
    widths: dict[str, int]

    def check(self, backend: str, precision: str) -> None:
        """Check that the graph has the requested backend and precision.

        Raises:
            ValueError: It has another backend or precision, or OpenVINO lacks the precision on this CPU.
        """
        if backend not in (AUTO, self.backend):
            raise ValueError(f"{self.folder} holds a graph for {self.backend}, not for {backend!r}: leave backend out")
        saved = self.quantize or EXACT
        if precision not in (AUTO, saved) and (self.backend, saved, precision) != (OPENVINO, EXACT, BF16):
            raise ValueError(f"{self.folder} holds a graph in {saved}, not in {precision!r}: leave precision out")
        if precision == BF16:
            check_bf16_of_openvino()

    def check_text(self, config: MultiHeadConfig) -> None:
        """Check that settings that are fixed in the graph were not changed.

        Raises:
            ValueError: One of them was changed.
        """
        now_widths = {name: head.num_labels for name, head in config.heads.items()}
        if changed := [name for name, width in now_widths.items() if self.widths.get(name) != width]:
            raise ValueError(
                f"{self.folder} holds a graph without weights, which has the heads {self.widths} (head: labels), and "
                f"{changed} cannot be computed: change the heads of the model that it was made of, and export that"
            )
        for name in ("truncation", "window_pooling", "pooling"):
            saved = self.pooling if name == "pooling" else self.text[name]
            if saved != (now := getattr(config, name)):
                raise ValueError(
                    f"{self.folder}: {name}={saved!r} is part of the graph and cannot be changed to {now!r}"
                )

    def digest(self, about: object) -> str:
        """Return a digest of the graph, which any changed bit of its files changes, and of further values."""
        return files_digest(sorted(path for path in Path(self.folder).iterdir() if path.is_file()), about)

    def compiled(self, precision: str) -> CompiledGraph:
        """Return the compiled graph.

        Raises:
            ValueError: Its files cannot be read.
        """
        with readable_graph(self.folder):
            return CompiledGraph(self.backend, self.folder, self.outputs, precision)


def graph_digest(folder: Path, backend: ModuleType) -> str:
    """Return the digest of the files of an exported graph."""
    paths = (folder / name for name in (backend.GRAPH_FILE, backend.WEIGHTS_FILE))
    return files_digest((path for path in paths if path.is_file()), None)


def check_import(backend: str, to_export: bool) -> None:
    """Check that the packages of a graph backend can be imported.

    Args:
        backend: `"openvino"` or `"onnx"`.
        to_export: Whether a graph is to be made; to run one, the runtime is enough.

    Raises:
        ImportError: One cannot be; the message has the reason and the command that installs it.
    """
    packages = GRAPHS[backend].PACKAGES
    for package in packages if to_export else packages[-1:]:  # the last is the runtime
        try:
            quiet_imports.package(package)
        except Exception as error:  # also of NumPy, if a package was built for another version of it
            why = " ".join(str(error).split())
            raise ImportError(f'{package} cannot be imported ({why}): pip install "multihead-hf[{backend}]"') from error


@contextlib.contextmanager
def readable_graph(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Replace errors of a runtime about an exported graph by a `ValueError` that names its folder."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # runtimes raise errors of many kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{folder}: its graph cannot be read, export it again: {reason}") from error


def make_graph(
    model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase, backend: str, folder: str | os.PathLike[str]
) -> None:
    """Write the float32 graph of a model into an existing folder.

    Raises:
        ValueError: The model cannot be exported; the message has the reason in one line.
    """
    runtime = GRAPHS[backend]
    source = float32_copy(model)
    sample = sample_tokens(source, token_inputs(source, tokenizer))
    try:
        with evaluating(source), quiet():
            program = runtime.trace(LogitsGraph(source), sample, dynamic_axes(sample))
            program = runtime.name_and_describe(program, list(output_names(model).values()), {})
            runtime.save(program, Path(folder))
    except (OSError, ImportError):
        raise  # such as a full disk or an old package
    except Exception as error:  # exporters raise errors of many kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{type(error).__name__}: {reason}") from error


def output_names(model: MultiHeadModel) -> dict[str, str]:
    """Return head → name of the output in a cached graph."""
    return {head: f"logits_{index:04}" for index, head in enumerate(model.config.heads)}


def cache_folder(
    model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase, backend: str, adapters: Sequence[object] = ()
) -> Path:
    """Return the folder of a model's graph in the cache below `HF_HOME`.

    Its name depends on the weights, the configuration, the adapters in use and the versions of all packages that affect
    the graph.
    """
    packages = ["multihead_hf", "torch", "transformers", *GRAPHS[backend].PACKAGES]
    versions = {name: _version(name) for name in packages}
    about = [plain_config(model.config), token_inputs(model, tokenizer), versions, *map(str, adapters)]
    return cache_path("graphs", f"{backend}-{module_digest(model, about)}")


def _version(package: str) -> str:
    """Return the version of a package, also of one whose distribution has another name, such as onnxruntime-gpu."""
    try:
        return version(package)
    except PackageNotFoundError:
        return str(getattr(importlib.import_module(package), "__version__", "unknown"))


def is_whole(folder: Path) -> bool:
    """Return whether a cache folder contains a complete and unchanged graph."""
    digest = folder / _DIGEST
    try:
        return digest.is_file() and digest.read_text() == _digest_of(folder)
    except (OSError, ValueError):
        return False


def _digest_of(folder: Path) -> str:
    return files_digest(sorted(path for path in folder.iterdir() if path.name != _DIGEST), None)


class ModelGraph:
    """The graph of one state of a model, on disk and compiled.

    Args:
        model: The model.
        tokenizer: Tokenizer of its encoder.
        backend: `"openvino"` or `"onnx"`.
        folder: Folder of the graph in the cache, as `cache_folder`.
        is_cached: Whether the folder has the graph, as `is_whole`.
        keep: Whether a new graph is stored in the cache, for other processes and later use.

    Raises:
        ValueError: The model cannot be exported.
        ImportError: The exporter needs another version of a package.
    """

    def __init__(
        self,
        model: MultiHeadModel,
        tokenizer: PreTrainedTokenizerBase,
        backend: str,
        folder: Path,
        is_cached: bool,
        keep: bool,
    ) -> None:
        self.backend, self._keep = backend, keep
        self._outputs = output_names(model)
        self._compiled: dict[str, CompiledGraph] = {}
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.folder = folder
        if not is_cached:
            self._make(model, tokenizer)

    def _make(self, model: MultiHeadModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Export the model, and replace a graph in the cache."""
        self._temporary = tempfile.TemporaryDirectory(prefix="multihead-graph-", ignore_cleanup_errors=True)
        folder = Path(self._temporary.name)
        make_graph(model, tokenizer, self.backend, folder)
        if self._keep and _copied(folder, self.folder):
            self._temporary = None
            _remove_old_graphs(self.folder.parent)
        else:
            self.folder = folder

    def compiled(self, precision: str) -> CompiledGraph:
        """Return the graph compiled for a precision, which is done once, and note in the cache that it was used."""
        with contextlib.suppress(OSError):  # (a cache that is only read, or was emptied)
            os.utime(self.folder)
        if precision not in self._compiled:
            self._compiled[precision] = CompiledGraph(self.backend, self.folder, self._outputs, precision)
        return self._compiled[precision]


def _remove_old_graphs(cache: Path) -> None:
    """Remove graphs that were not used for a day, but for the ten that were used last.

    Each training of a model makes a new graph as large as its weights, and nobody looks into the cache.
    """
    times: dict[Path, float] = {}
    for folder in cache.iterdir():
        with contextlib.suppress(OSError):  # (another process may remove it)
            times[folder] = folder.stat().st_mtime
    for folder in sorted(times, key=lambda folder: -times[folder])[_GRAPHS_KEPT:]:
        if time.time() - times[folder] > _DAY:
            shutil.rmtree(folder, ignore_errors=True)


def _copied(source: Path, target: Path) -> bool:
    """Copy a graph into the cache atomically, and return whether that was possible."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for path in source.iterdir():
                shutil.copyfile(path, temporary / path.name)
            (temporary / _DIGEST).write_text(_digest_of(temporary))
            temporary.chmod(0o755)
            if is_whole(target):  # written by another process meanwhile, which may be reading it
                return True
            if target.exists():
                shutil.rmtree(target)
            try:
                os.rename(temporary, target)
            except OSError:
                if not is_whole(target):  # else another process was faster
                    raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        logger.warning(f"The graph is not cached: {target.parent} cannot be written ({error.strerror})")
        return False
    return True

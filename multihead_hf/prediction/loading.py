"""Loading of saved models for prediction: the model and its tokenizer, or an error about missing files."""

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.utils import HFValidationError, validate_repo_id
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import ADAPTER_CONFIG_NAME, CONFIG_NAME, logging

from ..model.configuration_multihead import MultiHeadConfig
from ..model.layers_multihead import head_of_key
from ..model.modeling_multihead import MultiHeadModel
from ..model.storage_multihead import encoder_problems
from ..model.truncation_multihead import check_words
from ..utils.sizes import no_larger_than_its_file
from .backends import GRAPH_DIGEST, GRAPHS, SavedGraph, check_import, graph_digest, readable_graph
from .graph import head_metadata

logger = logging.get_logger(__name__)

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def names_of_heads(model: MultiHeadModel, heads: str | Sequence[str] | None) -> list[str] | None:
    """Return the names of the requested heads; `None` for all.

    Raises:
        ValueError: They are not names of heads.
    """
    heads = [heads] if isinstance(heads, str) else heads
    if heads is None:
        return None
    if not isinstance(heads, Iterable):
        raise ValueError(f"heads {heads!r}: give a name, or a list of names")
    if not heads:
        raise ValueError(f"heads is empty: name some of {list(model.config.heads)}, or leave it out for all")
    for name in heads:
        model.check_head(name, "heads")
    return list(heads)


def load_predictable(
    name_or_path: str | os.PathLike,
    dtype: str | torch.dtype | None,
    *,
    subfolder: str | None = None,
    **hub: Any,
) -> tuple[MultiHeadModel, PreTrainedTokenizerBase]:
    """Load a saved model, or an exported graph as `load_graph`, and the tokenizer saved with it.

    Args:
        name_or_path: Folder or name on the Hub.
        dtype: Data type of the weights; by default as saved.
        subfolder: Folder of the model below it.
        **hub: `revision` and `token` of the Hub.

    Raises:
        ValueError: As for `load_model` and `load_graph`, or a graph was asked for in another data type.
        ImportError: The runtime of a graph is not installed.
    """
    if subfolder and os.path.isdir(name_or_path):
        name_or_path, parent, subfolder = os.path.join(name_or_path, subfolder), name_or_path, ""
        if not os.path.isdir(name_or_path):
            raise ValueError(f"{parent} has no folder {os.path.basename(name_or_path)!r}")
    subfolder = subfolder or ""
    graph = name_or_path if graph_format(name_or_path) is not None else None
    if graph is None:
        try:
            return load_model(name_or_path, dtype=dtype, subfolder=subfolder, **hub)
        except ValueError as error:
            graph = _downloaded_graph(name_or_path, subfolder, **hub) if isinstance(error.__cause__, OSError) else None
            if graph is None:
                raise
    if dtype is not None:
        raise ValueError(f"{name_or_path} holds an exported graph, whose precision is fixed: leave dtype out")
    return load_graph(graph)


def _downloaded_graph(name: str | os.PathLike, subfolder: str, **hub: Any) -> str | None:
    """Return the local folder of an exported graph on the Hub; `None` if there is none."""
    if os.path.isdir(name):
        return None
    files = [file for runtime in GRAPHS.values() for file in (runtime.GRAPH_FILE, runtime.WEIGHTS_FILE)]
    wanted = [f"{subfolder}/{file}".lstrip("/") for file in (*files, "*.json", "*.txt", "*.model")]
    try:
        folder = os.path.join(snapshot_download(str(name), allow_patterns=wanted, **hub), subfolder)
    except (OSError, ValueError):  # the error of the model says what is missing
        return None
    return folder if graph_format(folder) is not None else None


def load_model(
    name_or_path: str | os.PathLike,
    *,
    revision: str = "main",
    token: str | bool | None = None,
    subfolder: str = "",
    dtype: str | torch.dtype | None = None,
) -> tuple[MultiHeadModel, PreTrainedTokenizerBase]:
    """Load a saved model that is ready to predict, and the tokenizer saved with it.

    Args:
        name_or_path: Folder or name on the Hub.
        revision: Revision on the Hub.
        token: Token of the Hub.
        subfolder: Folder of the model in the repository on the Hub.
        dtype: Data type of the weights; by default as saved.

    Raises:
        ValueError: The folder is not a saved multi-head model, a file of it is missing or damaged, weights are missing
            (they would be random), or the configuration describes a much larger model than its weights.
    """
    hub: dict[str, Any] = {"revision": revision, "token": token, "subfolder": subfolder}
    check_weights(name_or_path)
    saved_config(name_or_path, **hub)
    tokenizer = load_tokenizer(name_or_path, **hub)
    options = {} if dtype is None else {"dtype": dtype}
    try:
        with no_larger_than_its_file(name_or_path, **hub):
            model, info = MultiHeadModel.from_pretrained(name_or_path, output_loading_info=True, **hub, **options)
    except (ValueError, SafetensorError) as error:
        cause = error if isinstance(error, SafetensorError) else error.__cause__
        if not isinstance(cause, SafetensorError):
            raise
        raise ValueError(
            f"{name_or_path}: {_damaged(name_or_path)} is damaged, download or save it again: {cause}"
        ) from cause
    except OSError as error:
        raise ValueError(f"{name_or_path}: its weights cannot be loaded: {_in_one_line(error)}") from error
    missing = sorted(info["missing_keys"])
    heads = dict.fromkeys(name for key in missing if (name := head_of_key(key, model.config.heads)) is not None)
    if heads:
        raise ValueError(
            f"{name_or_path} has no weights for the heads {list(heads)}, whose predictions would be random: train "
            f"them, or remove them from {CONFIG_NAME}"
        )
    if problems := encoder_problems(info):
        raise ValueError(f"{name_or_path}: {problems[0]}. Was {CONFIG_NAME} changed, or the file of weights?")
    return model, tokenizer


def check_weights(name_or_path: str | os.PathLike) -> None:
    """Check that a folder is not an exported graph.

    Raises:
        ValueError: It is one, without weights.
    """
    if (graph := graph_format(name_or_path)) is not None:
        raise ValueError(f"{name_or_path} holds a graph exported for {graph}, without weights: give the model itself")


def graph_format(name_or_path: str | os.PathLike) -> str | None:
    """Return the format of a folder's graph, `"openvino"` or `"onnx"`; `None` for a model or if it is not a folder."""
    if not isinstance(name_or_path, (str, os.PathLike)):
        raise ValueError(f"{name_or_path!r}: give a folder or a name on the Hub")
    folder = Path(name_or_path)
    if not folder.is_dir() or any(folder.glob("*.safetensors")):
        return None
    found = [name for name, runtime in GRAPHS.items() if (folder / runtime.GRAPH_FILE).is_file()]
    if len(found) > 1:
        files = " and ".join(GRAPHS[name].GRAPH_FILE for name in found)
        raise ValueError(f"{folder} holds two graphs, {files}, which may differ: give each a folder of its own")
    return found[0] if found else None


def load_graph(folder: str | os.PathLike) -> tuple[MultiHeadModel, PreTrainedTokenizerBase]:
    """Load an exported graph as a model without weights, whose `saved_graph` computes, and its tokenizer.

    Args:
        folder: Folder that `export_model` wrote.

    Raises:
        ValueError: The folder has no graph, or a graph without metadata.
        ImportError: Its runtime is not installed.
    """
    name = graph_format(folder)
    if name is None:
        raise ValueError(f"{folder} has no exported graph")
    try:
        check_import(name, to_export=False)
    except ImportError as error:
        raise ImportError(f"{folder} holds a graph for {name}: {error}") from error
    config = saved_config(folder)
    digest = getattr(config, GRAPH_DIGEST, None)
    if digest is not None and digest != graph_digest(Path(folder), GRAPHS[name]):
        raise ValueError(
            f"{folder}: its graph is not the one that was exported, it is damaged or was changed: download or export "
            f"it again (or remove {GRAPH_DIGEST} from {CONFIG_NAME} if you changed it)"
        )
    with torch.device("meta"):
        model = MultiHeadModel(config)
    with readable_graph(folder):
        about = GRAPHS[name].metadata(Path(folder))
    outputs = {head["name"]: head["output"] for head in about["heads"]}
    if list(outputs) != list(config.heads):
        raise ValueError(
            f"{folder}: the graph has the heads {list(outputs)}, but {CONFIG_NAME} has {list(config.heads)}"
        )
    for head in about["heads"]:
        now = head_metadata(head["name"], config.heads[head["name"]], head["output"])
        if head["labels"] != now["labels"]:
            raise ValueError(
                f"{folder}: head {head['name']!r}: the labels in {CONFIG_NAME} are not those of the graph, "
                f"{head['labels']}"
            )
        if changed := [setting for setting in now if setting in head and head[setting] != now[setting]]:
            logger.warning(
                f"{folder}: head {head['name']!r}: {', '.join(changed)} in {CONFIG_NAME} differ from the graph's "
                f"metadata. {CONFIG_NAME} counts here, and programs that read the metadata decide otherwise: export "
                "the model again"
            )
    model.saved_graph = SavedGraph(
        name,
        str(folder),
        outputs,
        about["quantize"],
        about["text"],
        config.pooling,
        {name: head.num_labels for name, head in config.heads.items()},
    )
    model.forward = functools.partial(_no_weights, str(folder))  # type: ignore[method-assign]
    return model, load_tokenizer(folder)


def _no_weights(folder: str, *_: Any, **__: Any) -> NoReturn:
    raise ValueError(
        f"{folder} holds an exported graph without weights, which only MultiHeadPredictor and evaluate compute with: "
        "load the model that it was made of"
    )


def load_tokenizer(name_or_path: str | os.PathLike, **hub: Any) -> PreTrainedTokenizerBase:
    """Load the tokenizer saved with a model.

    Raises:
        ValueError: The folder's tokenizer is missing, empty or damaged, or the name does not exist on the Hub.
    """
    check_place(name_or_path)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, trust_remote_code=False, **hub)
    except ImportError:  # it says what to install
        raise
    except Exception as error:  # (tokenizers raises bare ones)
        if not os.path.isdir(name_or_path):
            reason = _in_one_line(error)
            raise ValueError(f"{name_or_path}: its tokenizer cannot be loaded from the Hub: {reason}") from error
        missing = [name for name in TOKENIZER_FILES if not os.path.isfile(os.path.join(name_or_path, name))]
        if missing:
            raise ValueError(f"{name_or_path} has no tokenizer files ({', '.join(missing)})") from error
        raise ValueError(
            f"{name_or_path}: the tokenizer ({', '.join(TOKENIZER_FILES)}) cannot be read: {_in_one_line(error)}"
        ) from error
    check_words(tokenizer)
    return tokenizer


def saved_config(name_or_path: str | os.PathLike, **hub: Any) -> MultiHeadConfig:
    """Load the configuration of a saved model.

    Raises:
        ValueError: The folder or the name on the Hub does not hold a multi-head model.
    """
    check_place(name_or_path)
    here = os.path.isdir(name_or_path)
    if here and not os.path.isfile(os.path.join(name_or_path, CONFIG_NAME)):
        folder = Path(name_or_path)
        if (folder / ADAPTER_CONFIG_NAME).is_file():
            raise ValueError(
                f"{name_or_path} holds an adapter (PEFT) without its base model: "
                "PeftModel.from_pretrained(MultiHeadModel.from_pretrained(BASE), ADAPTER).merge_and_unload() returns a "
                "model that can be used, or saved whole into another folder"
            )
        cut = any(folder.glob("*.safetensors")) or any(folder.glob("_saving-*"))
        raise ValueError(
            f"{name_or_path} is not a saved model: it has no {CONFIG_NAME}"
            + (" (a save into it was interrupted: save the model again)" if cut else "")
        )
    try:
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=False, **hub)
    except OSError as error:
        where = "" if here else " is not a local folder, and cannot be loaded from the Hub"
        raise ValueError(f"{name_or_path}{where}: {_in_one_line(error)}") from error
    if not isinstance(config, MultiHeadConfig):
        raise ValueError(f"{name_or_path} is a model of the type {config.model_type!r}, without named heads")
    return config


def check_place(name_or_path: str | os.PathLike) -> None:
    """Check that a name is a folder or could be a name on the Hub.

    Raises:
        ValueError: It is neither.
    """
    if os.path.isdir(name_or_path):
        return
    if os.path.isfile(name_or_path):
        raise ValueError(f"{name_or_path} is a file: give the folder that contains it")
    try:
        validate_repo_id(str(name_or_path))
    except HFValidationError:
        raise ValueError(
            f"{name_or_path} is neither a local folder nor a name on the Hub (such as OWNER/NAME)"
        ) from None


def _damaged(name_or_path: str | os.PathLike) -> str:
    """Return a weight file in a folder that cannot be opened."""
    for path in sorted(Path(name_or_path).glob("*.safetensors")):
        try:
            with safe_open(path, "pt"):
                pass
        except SafetensorError:
            return path.name
    return "a file of its weights"


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())

"""Checkpoints: checks that one is complete and belongs to a model, and the files that are published."""

import functools
import json
import os
import pickle
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import fields
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub import HfApi
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.trainer import TRAINER_STATE_NAME, TRAINING_ARGS_NAME, TrainerState
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, HubStrategy, SaveStrategy
from transformers.utils import (
    ADAPTER_SAFE_WEIGHTS_NAME,
    CONFIG_NAME,
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    PushInProgress,
    logging,
)

from ..data.rows_like import has_length
from ..model.configuration_multihead import MultiHeadConfig
from ..publishing.card import CARD, FACTS, is_ours
from .resuming import (
    TRAINED_FILE,
    check_same_schedule,
    check_same_trained,
    optimizer_name,
    read_pickle,
    rows_digest,
    warn_of_changes,
)

if TYPE_CHECKING:
    from .choices import OpenChoices
    from .trainer import MultiHeadTrainer

logger = logging.get_logger(__name__)

# learned weights of the heads' losses
HEAD_WEIGHTING_FILE = "head_weighting.safetensors"
_WEIGHTS = (SAFE_WEIGHTS_NAME, ADAPTER_SAFE_WEIGHTS_NAME)
# files of a checkpoint that only the Trainer needs: pickles and training states
_TRAINER_FILES = (
    "optimizer",
    "scheduler",
    "scaler",
    "rng_state",
    "trainer_state.json",
    TRAINING_ARGS_NAME,
    HEAD_WEIGHTING_FILE,
    TRAINED_FILE,
)


def is_checkpoint(folder: str) -> bool:
    """Return whether a folder has the name of a Trainer's checkpoint."""
    return re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", os.path.basename(os.path.normpath(folder))) is not None


def check_same_heads(checkpoint: str, trainer: "MultiHeadTrainer") -> None:
    """Check that a checkpoint has the heads of the trainer's model.

    Raises:
        ValueError: The checkpoint's heads (names, order or labels) do not match those of the model.
    """
    config: MultiHeadConfig = trainer.config
    path = os.path.join(checkpoint, CONFIG_NAME)
    if not os.path.isfile(path):
        return  # an adapter's checkpoint has no model configuration
    try:
        saved = _saved_heads(path)
    except (OSError, *_NOT_OURS) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}: {error})") from None
    if list(saved) != list(config.heads):
        raise ValueError(
            f"{checkpoint}: checkpoint heads {list(saved)} do not match the model's heads {list(config.heads)}"
        )
    for name, head in config.heads.items():
        if saved[name] != head.labels:
            removed = [label for label in saved[name] if label not in head.labels]
            added = [label for label in head.labels if label not in saved[name]]
            raise ValueError(
                (
                    f"{checkpoint}: head {name!r} has other labels than in the model: only in the checkpoint {removed}"
                    f", only in the model {added}"
                )
                + ("" if removed or added else " (the same labels in another order)")
            )


def check_same_weighting(checkpoint: str, head_weighting: str) -> None:
    """Check that a checkpoint was made with the same kind of head weighting.

    Raises:
        ValueError: The run of the checkpoint learned head weights and this one does not, or the reverse.
    """
    learned = os.path.isfile(os.path.join(checkpoint, HEAD_WEIGHTING_FILE))
    if learned != (head_weighting == "uncertainty"):
        saved = "'uncertainty'" if learned else "'prior' or 'fixed'"
        raise ValueError(
            f"{checkpoint}: its run had head_weighting={saved}, but this run has {head_weighting!r}: the optimizer's "
            f"state does not fit. Resume with head_weighting={saved}, or start a new run from its weights"
        )


def save_head_weighting(folder: str, log_variances: Tensor) -> None:
    """Write learned head weights into a checkpoint."""
    save_file({"log_variances": log_variances.detach().cpu()}, os.path.join(folder, HEAD_WEIGHTING_FILE))


@torch.no_grad()
def load_head_weighting(folder: str, log_variances: Tensor) -> None:
    """Read learned head weights from a checkpoint."""
    log_variances.copy_(load_file(os.path.join(folder, HEAD_WEIGHTING_FILE))["log_variances"])


def check_stream(checkpoint: str) -> None:
    """Check that a run over a stream can be resumed.

    Raises:
        ValueError: The run has read the stream more than once, so the Trainer would resume at a wrong row.
    """
    with open(os.path.join(checkpoint, TRAINER_STATE_NAME), encoding="utf-8") as file:
        passes = int(json.load(file).get("epoch") or 0)
    if passes:
        raise ValueError(
            f"{checkpoint}: its run had read the stream {passes} times, and resuming finds its row in the first pass "
            "only. Train on a dataset with a length, or on stream.repeat(passes), which is one pass"
        )


def check_complete(checkpoint: str, output_dir: str, processes: int) -> None:
    """Check that all files of a checkpoint can be read.

    Raises:
        ValueError: A file is missing or incomplete; the message names the newest complete checkpoint in `output_dir`.
    """
    problem = find_problem(checkpoint)
    if problem is None:
        made_by = len(_random_states(checkpoint))
        if made_by != processes:
            logger.warning(
                f"{checkpoint} was made by {made_by} processes, but this run has {processes}: training continues, "
                "but not bit for bit (other batches, other dropout)"
            )
        return
    complete = [folder for folder in _checkpoints(output_dir) if find_problem(folder) is None]
    advice = (
        f"The newest complete checkpoint is {complete[-1]}"
        if complete
        else f"There is no complete checkpoint in {output_dir}"
    )
    raise ValueError(f"{checkpoint} cannot be resumed from: {problem}. {advice}")


def find_problem(checkpoint: str) -> str | None:
    """Return what prevents a run from being resumed from a checkpoint, or `None`.

    If its state is missing, the Trainer would start from the beginning without a message.
    """

    def missing_or_cut(name: str, opens: Callable[[str], object]) -> str | None:
        try:
            opens(os.path.join(checkpoint, name))
        except FileNotFoundError:
            return f"{name} is missing"
        except pickle.UnpicklingError:
            return f"{name} holds more than tensors and plain values, and reading it could run code"
        except (OSError, RuntimeError, zipfile.BadZipFile, SafetensorError, *_NOT_OURS) as error:
            return f"{name} cannot be read ({type(error).__name__}: {error})"
        return None

    if not os.path.isdir(checkpoint):
        return "there is no such folder"
    weight_files = [name for name in _WEIGHTS if os.path.isfile(os.path.join(checkpoint, name))]
    weights = weight_files[:1] or [SAFE_WEIGHTS_NAME]
    if not weight_files and os.path.isfile(os.path.join(checkpoint, SAFE_WEIGHTS_INDEX_NAME)):
        problem = missing_or_cut(SAFE_WEIGHTS_INDEX_NAME, _shards)
        if problem:
            return problem
        weights = _shards(os.path.join(checkpoint, SAFE_WEIGHTS_INDEX_NAME))
    random_states = _random_states(checkpoint) or ["rng_state.pth"]
    checks: list[tuple[str, Callable[[str], object]]] = [
        (TRAINER_STATE_NAME, _open_state),
        *((name, _open_weights) for name in weights),
        *((name, opens) for name, opens in _OPTIONAL if os.path.isfile(os.path.join(checkpoint, name))),
        *((name, _open_pickle) for name in ("optimizer.pt", "scheduler.pt", *random_states)),
    ]
    return next((problem for name, opens in checks if (problem := missing_or_cut(name, opens))), None)


def _shards(index: str) -> list[str]:
    with open(index, encoding="utf-8") as file:
        return sorted(set(json.load(file)["weight_map"].values()))


def _random_states(checkpoint: str) -> list[str]:
    """Return the files with the processes' random states: one, or one for each up to the highest rank."""
    ranks = [int(match[1]) for name in os.listdir(checkpoint) if (match := re.fullmatch(r"rng_state_(\d+)\.pth", name))]
    if ranks:
        return [f"rng_state_{rank}.pth" for rank in range(max(ranks) + 1)]
    return ["rng_state.pth"] if os.path.isfile(os.path.join(checkpoint, "rng_state.pth")) else []


def _read_dict(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dict")
    return content


def _saved_heads(path: str) -> dict[str, list[str]]:
    """Return head → labels, of a saved configuration."""
    return {str(head["name"]): list(head["labels"]) for head in _read_dict(path).get("heads", [])}


def _open_state(path: str) -> None:
    state = _read_dict(path)
    state["global_step"]
    empty = TrainerState()
    kinds: dict[str, Any] = {field.name: type(getattr(empty, field.name)) for field in fields(TrainerState)}
    kinds |= {"best_model_checkpoint": str, "best_metric": Real, "best_global_step": Real, "epoch": Real}
    for name, value in state.items():
        kind = Real if issubclass(kinds[name], Real) else kinds[name]
        if value is not None and kind is not type(None) and not isinstance(value, kind):
            raise ValueError(f"{name} is {value!r}")
    if not all(isinstance(entry, dict) for entry in state.get("log_history", [])):
        raise ValueError("log_history is not a list of dicts")


def _open_trained(path: str) -> None:
    _read_dict(path)


def _open_weights(path: str) -> None:
    with safe_open(path, framework="pt") as file:  # compares the header with the file's length
        file.keys()


def _open_pickle(path: str) -> None:
    with zipfile.ZipFile(path) as file:  # `torch.save` writes the directory of the archive at the end
        file.namelist()
    read_pickle(path)


# errors raised for values of unexpected types
_NOT_OURS = (ValueError, LookupError, TypeError, AttributeError)
# optional files of a checkpoint
_OPTIONAL: list[tuple[str, Callable[[str], object]]] = [
    (HEAD_WEIGHTING_FILE, _open_weights),
    (CONFIG_NAME, _saved_heads),
    (TRAINED_FILE, _open_trained),
]


def _checkpoints(output_dir: str) -> list[str]:
    """Return the checkpoints in a folder, oldest first."""
    names = os.listdir(output_dir) if os.path.isdir(output_dir) else []
    steps = sorted(int(name.rsplit("-", 1)[1]) for name in names if re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", name))
    return [os.path.join(output_dir, f"{PREFIX_CHECKPOINT_DIR}-{step}") for step in steps]


def copy_published_files(checkpoint: str, folder: str) -> None:
    """Copy the files of a published model: weights, configuration, tokenizer, card and code.

    Files of the Trainer are not copied, and a card in `folder` that the user wrote is kept.
    """
    excluded = () if is_ours(Path(folder) / CARD) else (CARD, FACTS)
    for entry in os.scandir(checkpoint):
        if entry.is_file() and not entry.name.startswith(_TRAINER_FILES) and entry.name not in excluded:
            shutil.copy(entry.path, os.path.join(folder, entry.name))


def push_from_checkpoint(trainer: "MultiHeadTrainer", checkpoint: str) -> None:
    """Push a checkpoint as `Trainer` does, but with the model's code and card and without the Trainer's pickles."""
    args, state = trainer.args, trainer.state
    if not trainer.is_world_process_zero() or args.hub_strategy == HubStrategy.END:
        return
    pushing = trainer.push_in_progress
    running = [] if pushing is None or pushing.is_done() else pushing.jobs
    if running and not args.hub_always_push:
        return
    trainer.callback_handler.on_push_begin(args, state, trainer.control)
    copy_published_files(checkpoint, args.output_dir)
    by_steps = args.save_strategy == SaveStrategy.STEPS
    message = f"Training in progress, {f'step {state.global_step}' if by_steps else f'epoch {int(state.epoch)}'}"
    common: dict[str, Any] = {
        "repo_id": trainer.hub_model_id,
        "token": args.hub_token,
        "revision": args.hub_revision,
        "run_as_future": True,
    }
    upload = functools.partial(HfApi().upload_folder, **common)
    ignored = ["_*", f"{PREFIX_CHECKPOINT_DIR}-*", TRAINING_ARGS_NAME]
    jobs = [upload(folder_path=args.output_dir, commit_message=message, ignore_patterns=ignored)]
    if args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        last = args.hub_strategy == HubStrategy.CHECKPOINT
        folder = "last-checkpoint" if last else os.path.basename(checkpoint)
        message = f"{message}, checkpoint"
        private = ["_*", TRAINING_ARGS_NAME, TRAINER_STATE_NAME]
        jobs.append(
            upload(folder_path=checkpoint, path_in_repo=folder, commit_message=message, ignore_patterns=private)
        )
        shown = _without_paths(Path(checkpoint, TRAINER_STATE_NAME))
        path = f"{folder}/{TRAINER_STATE_NAME}"
        jobs.append(HfApi().upload_file(path_or_fileobj=shown, path_in_repo=path, commit_message=message, **common))
    trainer.push_in_progress = PushInProgress([*running, *jobs])


def _without_paths(state: Path) -> bytes:
    """Return the state of a run without the local path of the best checkpoint."""
    values = json.loads(state.read_text(encoding="utf-8"))
    if values.get("best_model_checkpoint") is not None:
        values["best_model_checkpoint"] = os.path.basename(values["best_model_checkpoint"])
    return (json.dumps(values, indent=2, sort_keys=True) + "\n").encode()


def prepare_resume(checkpoint: str, trainer: "MultiHeadTrainer", choices: "OpenChoices") -> None:
    """Check that a run can be resumed from a checkpoint, and take its learning rate where none was given.

    Args:
        checkpoint: Folder of the checkpoint.
        trainer: The trainer of this run.
        choices: What the run chooses itself.

    Raises:
        ValueError: The checkpoint is not complete, or was made with another model or another kind of run.
    """
    check_complete(checkpoint, trainer.args.output_dir, trainer.args.world_size)
    check_same_heads(checkpoint, trainer)
    check_same_weighting(checkpoint, trainer.args.head_weighting)
    path, saved = os.path.join(checkpoint, TRAINED_FILE), {}
    if os.path.isfile(path):
        saved = _read_dict(path)
        check_same_trained(checkpoint, saved, trained_parameters(trainer.model), optimizer_name(trainer.args))
        check_same_schedule(checkpoint, saved, trainer.args)
    warn_of_changes(checkpoint, trainer.config, trainer.args, saved, rows_digest(trainer.train_dataset))
    if not has_length(trainer.train_dataset):
        check_stream(checkpoint)
    choices.resume_rate(trainer.args, saved.get("learning_rate"))


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

"""Checkpoints: whether one belongs to a model, and what of it gets published."""

import json
import os
import shutil

from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import CONFIG_NAME

from ..model.configuration_multihead import MultiHeadConfig

# what a Trainer keeps in a checkpoint for itself: pickles and states that nobody who uses the model needs
_TRAINER_FILES = ("optimizer", "scheduler", "scaler", "rng_state", "trainer_state.json", TRAINING_ARGS_NAME)


def is_checkpoint(folder: str) -> bool:
    """Whether a folder has the name of a Trainer's checkpoint."""
    return os.path.basename(os.path.normpath(folder)).startswith(f"{PREFIX_CHECKPOINT_DIR}-")


def check_same_heads(checkpoint: str, config: MultiHeadConfig) -> None:
    """
    Raises:
        ValueError: the checkpoint's heads (names, order or labels) are not the model's.
    """
    path = os.path.join(checkpoint, CONFIG_NAME)
    if not os.path.isfile(path):
        return  # an adapter's checkpoint holds no configuration of the model
    with open(path, encoding="utf-8") as file:
        saved = {head["name"]: head["labels"] for head in json.load(file).get("heads", [])}
    if list(saved) != list(config.heads):
        raise ValueError(f"{checkpoint}: its heads are {list(saved)}, and the model's are {list(config.heads)}")
    for name, head in config.heads.items():
        if saved[name] != head.labels:
            gone = [label for label in saved[name] if label not in head.labels]
            new = [label for label in head.labels if label not in saved[name]]
            raise ValueError(
                f"{checkpoint}: head {name!r} has other labels than the model's: only there {gone}, only here {new}"
                + ("" if gone or new else " (the same ones in another order)")
            )


def copy_published_files(checkpoint: str, folder: str) -> None:
    """Copy what a published model holds: weights, configuration, tokenizer and code, nothing of the Trainer's own."""
    for entry in os.scandir(checkpoint):
        if entry.is_file() and not entry.name.startswith(_TRAINER_FILES):
            shutil.copy(entry.path, os.path.join(folder, entry.name))

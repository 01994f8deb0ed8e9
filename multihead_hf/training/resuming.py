"""What a resumed run has otherwise than the run of its checkpoint: rows, losses, and how texts are read."""

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset, IterableDataset
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from transformers import Trainer, TrainingArguments
from transformers.trainer import OPTIMIZER_NAME
from transformers.trainer_pt_utils import safe_globals
from transformers.trainer_utils import SchedulerType
from transformers.utils import CONFIG_NAME, logging

from ..data.encoding import WEIGHT
from ..model.configuration_multihead import MultiHeadConfig
from ..model.digest import value_digest
from .preparation import TEXT_SETTINGS

if TYPE_CHECKING:
    from .choices import OpenChoices

logger = logging.get_logger(__name__)

TRAINED_FILE = "trained_parameters.json"
"""What a checkpoint knows of its run: names and shapes of the trained parameters, rows and settings."""

_COMPARED_ROWS = 256
_SHOWN = 4  # changes
_OF_A_HEAD = ("loss", "loss_kwargs", "loss_weight", "label_weights", "pos_weight")
_OF_THE_MODEL = ("pooling", *TEXT_SETTINGS)
_OF_THE_SCHEDULE = ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_grad_norm")


def rows_digest(rows: object) -> dict[str, Any] | None:
    """Return the number of prepared training rows, and digests of the labels and of the tokens of some of them.

    Of a stream, whose rows may be others each time, the number is `None`. Datasets of other classes have no digest.
    """
    if isinstance(rows, IterableDataset):
        return {"rows": None, "labels": None, "tokens": None}
    if not isinstance(rows, Dataset) or not {"input_ids", "labels"} <= set(rows.column_names):
        return None
    count = min(len(rows), _COMPARED_ROWS)
    some = rows.with_format(None).select([index * len(rows) // count for index in range(count)])
    labels = [some[name][:] for name in ("labels", WEIGHT) if name in some.column_names]
    return {"rows": len(rows), "labels": value_digest(labels), "tokens": value_digest(some["input_ids"][:])}


def save_trained_names(
    folder: str, trained: Mapping[str, Tensor], args: TrainingArguments, rows: Mapping[str, Any] | None
) -> None:
    """Write into a checkpoint the optimizer, its learning rate, the parameters, and the digest of the rows."""
    shapes = {name: list(parameter.shape) for name, parameter in trained.items()}
    about = {
        "optimizer": optimizer_name(args),
        "learning_rate": args.learning_rate,
        "schedule": _schedule(args),
        "parameters": shapes,
        "rows": rows,
    }
    with open(os.path.join(folder, TRAINED_FILE), "w", encoding="utf-8") as file:
        json.dump(about, file, indent=1)


def optimizer_name(args: TrainingArguments) -> str:
    """Return the name of a run's optimizer; PyTorch's AdamW variants share one name, as their states are compatible."""
    name = str(getattr(args.optim, "value", args.optim))
    return "adamw_torch" if name in ("adamw_torch_fused", "adamw_torch_xla", "adamw_torch_npu_fused") else name


def check_same_trained(
    checkpoint: str, saved: Mapping[str, Any], trained: Mapping[str, Tensor], optimizer: str
) -> None:
    """Check that a checkpoint was made by a run with the same optimizer that trained the same parameters.

    Args:
        checkpoint: Folder of the checkpoint.
        saved: What `save_trained_names` wrote into it.
        trained: Name → parameter, of this run.
        optimizer: Name of this run's optimizer.

    Raises:
        ValueError: The run of the checkpoint had another optimizer or trained other parameters, so that its optimizer
            state does not fit.
    """
    if not {"optimizer", "parameters"} <= saved.keys():
        path = os.path.join(checkpoint, TRAINED_FILE)
        raise ValueError(f"{path} was written by another version or changed: start a new run from its weights")
    if saved["optimizer"] != optimizer:
        raise ValueError(
            f"{checkpoint}: its run had the optimizer {saved['optimizer']!r}, but this run has {optimizer!r}: the "
            "optimizer's state does not fit. Resume with the same optim, or start a new run from its weights"
        )
    before, shapes = saved["parameters"], {name: list(parameter.shape) for name, parameter in trained.items()}
    if before != shapes:
        removed = [name for name in before if name not in shapes]
        added = [name for name in shapes if name not in before]
        raise ValueError(
            f"{checkpoint}: its run trained other parameters: only in the checkpoint {removed[:5]}, only in this run "
            f"{added[:5]}. Resume with the same freeze_encoder, train_heads and train_top_layers, or start a new run "
            "from its weights"
        )


def check_same_schedule(checkpoint: str, saved: Mapping[str, Any], args: TrainingArguments) -> None:
    """Check that a run with `reduce_lr_on_plateau`, which keeps its settings in its state, is resumed as it was.

    Args:
        checkpoint: Folder of the checkpoint.
        saved: What `save_trained_names` wrote into it.
        args: Arguments of this run.

    Raises:
        ValueError: Another schedule is resumed with this one, this one with another, or it has other settings.
    """
    before, now = saved.get("schedule") or {}, _schedule(args)
    changes = _changes(before, now, ("lr_scheduler_type", "lr_scheduler_kwargs"))
    if changes and SchedulerType.REDUCE_ON_PLATEAU in (before.get("lr_scheduler_type"), now["lr_scheduler_type"]):
        raise ValueError(
            f"{checkpoint}: this run has {'; '.join(changes)}, which does not fit the state of the schedule. Resume "
            "with the same lr_scheduler_type and lr_scheduler_kwargs, or start a new run from its weights"
        )


def _schedule(args: TrainingArguments) -> dict[str, Any]:
    """Return the settings of a run's schedule, as they are read back from JSON."""
    settings = {name: getattr(args, name) or 0 for name in _OF_THE_SCHEDULE}
    return json.loads(json.dumps(settings, default=str))


def read_pickle(path: str) -> dict[str, Any]:
    """Return the content of a file of `torch.save`, as the Trainer reads it; its tensors are memory-mapped."""
    with safe_globals():
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def check_same_settings(checkpoint: str, optimizer: Optimizer, is_head_rate_open: bool) -> None:
    """Check that an optimizer has the settings of that of a checkpoint, which it is about to take over.

    Args:
        checkpoint: Folder of the checkpoint.
        optimizer: The optimizer of this run, before the state is loaded.
        is_head_rate_open: Whether the run takes the learning rates of the heads from the checkpoint.

    Raises:
        ValueError: A group of parameters has another learning rate or another setting, or the groups are others.
    """
    path = os.path.join(checkpoint, OPTIMIZER_NAME)
    if not os.path.isfile(path):
        return
    saved = read_pickle(path).get("param_groups")
    if saved is None:  # an optimizer of another kind, whose state has no groups to compare
        return
    groups = optimizer.param_groups
    advice = "Resume with the same settings, or start a new run from its weights"
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in saved]:
        names = [[str(group.get("name", place)) for place, group in enumerate(some)] for some in (groups, saved)]
        raise ValueError(
            f"{checkpoint}: its optimizer has other groups of parameters than that of this run ({', '.join(names[1])}; "
            f"here {', '.join(names[0])}), as with another layer_learning_rate_decay. {advice}"
        )
    changes = []
    for place, (now, before) in enumerate(zip(groups, saved, strict=True)):
        name = str(now.get("name", f"parameter group {place}"))
        for setting in before.keys() & {"initial_lr", *now} - {"params", "lr"}:
            old, new = before[setting], now.get(setting, now["lr"])
            takes_rate = setting == "initial_lr" and is_head_rate_open and name.startswith("head")
            if not takes_rate and _is_number(old) and _is_number(new) and new != old:
                what = "learning rate" if setting == "initial_lr" else setting
                changes.append(f"{what} of {name} {new} instead of {old}")
    if changes:
        more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
        raise ValueError(
            f"{checkpoint}: this run has {'; '.join(sorted(changes)[:_SHOWN])}{more}, but a resumed optimizer keeps "
            f"the settings that it was saved with. {advice}"
        )


def _is_number(value: object) -> bool:
    """Return whether a setting is a number, or several, such as `betas`."""
    numbers = value if isinstance(value, (tuple, list)) else [value]
    return all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers)


def _changes(saved: Mapping[str, Any], current: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    return [
        f"{name} {current[name]!r} instead of {saved[name]!r}"
        for name in names
        if name in saved and name in current and current[name] != saved[name]
    ]


def warn_of_changes(
    checkpoint: str,
    config: MultiHeadConfig,
    args: TrainingArguments,
    of_checkpoint: Mapping[str, Any],
    now: Mapping[str, Any] | None,
) -> None:
    """Warn of what differs from the run of a checkpoint, which its optimizer and its order of rows belong to.

    Args:
        checkpoint: Folder of the checkpoint.
        config: Configuration of the model.
        args: Arguments of the run.
        of_checkpoint: What `save_trained_names` wrote into the checkpoint; empty if it is not known.
        now: `rows_digest` of the training rows.
    """
    changes = _changes(of_checkpoint.get("schedule") or {}, _schedule(args), _OF_THE_SCHEDULE)
    before, texts = of_checkpoint.get("rows"), None
    path = os.path.join(checkpoint, CONFIG_NAME)
    if os.path.isfile(path):  # (an adapter's checkpoint has none)
        with open(path, encoding="utf-8") as file:
            saved = _settings(json.load(file))
        current = _settings(json.loads(json.dumps(config.to_dict(), default=str)))
        changes += _changes(saved, current, saved)
        texts = any(current[name] != saved[name] for name in _OF_THE_MODEL)
    advice = "Resume with the same settings, or start a new run from its weights"
    if isinstance(before, Mapping) and now is not None:
        differs = [name for name in now if now[name] != before.get(name)]
        others = ""
        if "rows" in differs:
            others = f"{_count(now)} instead of {_count(before)}"
        elif "labels" in differs:
            others = "other training rows or labels"
        elif differs and not texts:
            others = "other training texts" if texts is False else "other training texts, or reads them otherwise"
        if others:
            changes.insert(0, others)
            advice = "Rows that it was trained on may now be validation or test rows. " + advice
    if changes:
        logger.warning(
            f"{checkpoint}: this run has {'; '.join(changes)}. Training continues with that, but it is not the run of "
            f"the checkpoint. {advice}"
        )


def _count(digest: Mapping[str, Any]) -> str:
    return "a stream of training rows" if digest.get("rows") is None else f"{digest['rows']:,} training rows"


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compared settings of a configuration, by name."""
    settings = {name: config.get(name) for name in _OF_THE_MODEL}
    for head in config.get("heads", []):
        settings |= {f"{name} of head {head['name']!r}": head.get(name) for name in _OF_A_HEAD}
    return settings


class ResumingHooks(Trainer):
    """A method of `MultiHeadTrainer` that looks at the optimizer before it takes over the state of a checkpoint."""

    resumed_from: str | None
    _choices: "OpenChoices"

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """Make the schedule, as `Trainer.create_scheduler`; the optimizer exists by then, and has no state yet.

        Args:
            num_training_steps: Number of training steps.
            optimizer: The optimizer; by default the Trainer's.

        Returns:
            The schedule.

        Raises:
            ValueError: The optimizer has other settings than that of the checkpoint, whose settings it would take over.
        """
        if self.resumed_from is not None:
            check_same_settings(self.resumed_from, optimizer or self.optimizer, bool(self._choices.head_rates))
        return super().create_scheduler(num_training_steps, optimizer)

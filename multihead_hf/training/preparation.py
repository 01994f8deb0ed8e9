"""Preparation for training: tokens and targets, losses, weights and precision."""

from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.utils import logging

from ..data.counting import HeadCounts, head_counts
from ..data.mixing import mix_datasets
from ..data.preparation import part_of, read_and_prepare
from ..data.reading import remember_readings, said_readings
from ..data.rows_like import PreparedRows, RowsLike
from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import BUILT_IN_LOSSES, HeadConfig, near_names
from ..model.losses_multihead import Loss, loss_settings
from ..model.modeling_multihead import MultiHeadModel
from .arguments import MultiHeadTrainingArguments

logger = logging.get_logger(__name__)

# settings of a model by which texts become tokens
TEXT_SETTINGS = ("text_columns", "max_length", "text_prefix", "truncation", "max_windows", "stride")


def prepared_for_training(
    dataset: RowsLike,
    config: MultiHeadConfig,
    args: MultiHeadTrainingArguments,
    tokenizer: PreTrainedTokenizerBase | None,
) -> PreparedRows:
    """Prepare training rows like `prepared`; a dict of datasets is mixed into one, reproducibly for a seed.

    Raises:
        ValueError: A dataset cannot be prepared or mixed; the message names it.
    """
    dataset = part_of(dataset, "train")
    if not isinstance(dataset, dict) or isinstance(dataset, (DatasetDict, IterableDatasetDict)):
        if dataset is not None and (args.mixing_probabilities is not None or args.mixing_temperature != 1):
            raise ValueError(
                "train_dataset is one dataset, but mixing_probabilities and mixing_temperature are for several "
                "datasets: leave them out, or pass train_dataset={name: rows}"
            )
        return prepared(dataset, config, args, tokenizer, "train_dataset")
    with_column: set[str] = set()
    parts = {
        name: prepared(rows, config, args, tokenizer, f"train_dataset {name!r}", with_column=with_column)
        for name, rows in dataset.items()
    }
    for head, reading in said_readings(config.heads, args.reading).items():
        if reading.column is not None and head not in with_column:
            raise ValueError(
                f"train_dataset: head {head!r}: none of the datasets {list(dataset)} has the column {reading.column!r}"
            )
    for name, rows in parts.items():
        if not isinstance(rows, (Dataset, IterableDataset)):
            raise ValueError(f"train_dataset {name!r}: only datasets can be mixed, but this is a {type(rows).__name__}")
    probabilities = args.mixing_probabilities if isinstance(args.mixing_probabilities, Mapping) else None
    seed = args.seed if args.data_seed is None else args.data_seed
    try:
        return mix_datasets(parts, probabilities, args.mixing_temperature, args.mixing_stop, seed)
    except ValueError as error:
        raise ValueError(f"train_dataset: {error}") from None


def prepared(
    dataset: RowsLike,
    config: MultiHeadConfig,
    args: MultiHeadTrainingArguments,
    tokenizer: PreTrainedTokenizerBase | None,
    what: str,
    require_labels: bool = True,
    with_column: set[str] | None = None,
) -> PreparedRows:
    """Prepare rows like `read_and_prepare`; the first process prepares, and the others read its cache."""
    first = args.main_process_first(desc=f"preparing {what}")
    return read_and_prepare(dataset, config, args.reading, tokenizer, what, require_labels, with_column, first)


def apply_text_settings(config: MultiHeadConfig, args: MultiHeadTrainingArguments) -> None:
    """Store the arguments' text and label settings in the model, as defaults for later rows."""
    remember_readings(config.heads, args.reading)
    if args.text_columns is not None:
        config.text_columns = [args.text_columns] if isinstance(args.text_columns, str) else list(args.text_columns)
    for setting in ("max_length", "truncation", "max_windows", "stride", "window_pooling"):
        if getattr(args, setting) is not None:
            setattr(config, setting, getattr(args, setting))
    config.check_text_settings()


def labels_of(config: MultiHeadConfig) -> dict[str, list[str]]:
    """Return head → its labels."""
    return {name: list(head.labels) for name, head in config.heads.items()}


def text_reading(config: MultiHeadConfig) -> dict[str, Any]:
    """Return the settings by which texts become tokens."""
    return {name: getattr(config, name) for name in TEXT_SETTINGS}


def check_same_labels(before: Mapping[str, list[str]], config: MultiHeadConfig) -> None:
    """Check that the model still has the heads that the data was prepared for.

    Raises:
        ValueError: The model has other heads; the message names them.
    """
    now = labels_of(config)
    if now == dict(before):
        return
    came, went = [name for name in now if name not in before], [name for name in before if name not in now]
    changed = [name for name in now if name in before and now[name] != before[name]]
    changes = {"were added": came, "were removed": went, "changed their labels": changed}
    summary = ", ".join(f"the heads {names} {change}" for change, names in changes.items() if names)
    raise ValueError(
        f"since the data of this Trainer was prepared, {summary}: make a new MultiHeadTrainer, which prepares its data "
        "for them"
    )


def use_losses(model: MultiHeadModel, losses: Mapping[str, Loss]) -> None:
    """Set custom loss functions of heads. The configuration keeps their names, under which they are saved.

    Raises:
        ValueError: A head does not exist, a function has no usable name, or it does not take the settings.
    """
    heads = model.config.heads
    for head_name, loss in losses.items():
        model.check_head(head_name, "losses")
        name, settings = getattr(loss, "__name__", ""), loss_settings(loss)
        if not name.isidentifier() or name in BUILT_IN_LOSSES:
            problem = "is that of a built-in loss" if name in BUILT_IN_LOSSES else "cannot be saved"
            raise ValueError(
                f"head {head_name!r}: the name of its loss {loss!r} {problem}: write it as a function (def)"
            )
        head = heads[head_name]
        for setting in head.loss_kwargs:
            if setting not in settings:
                near = near_names(setting, settings)
                raise ValueError(f"head {head_name!r}: its loss {name!r} has no setting {setting!r}.{near}")
        heads[head_name] = HeadConfig.from_saved({**head.to_dict(), "loss": name})
        heads[head_name].loss_function = loss


def resolve_balanced(config: MultiHeadConfig, rows: PreparedRows, counts: Mapping[str, HeadCounts] | None) -> None:
    """Replace `"balanced"` by numbers: label_weights n / (k·n_c), pos_weight negatives / positives.

    Args:
        config: Configuration of the model.
        rows: Prepared training rows.
        counts: Counts of their labels; `None` for a stream, which is read to count them.

    Raises:
        ValueError: A label has no example, so that its weight would be infinite.
    """
    unresolved = {name: head for name, head in config.heads.items() if head.unresolved is not None}
    if not unresolved:
        return
    counts = head_counts(rows, unresolved) if counts is None else counts
    for name, head in unresolved.items():
        positives, known = counts[name].sums.tolist(), counts[name].known.tolist()
        empty = [label for label, count in zip(head.labels, positives, strict=True) if not count]
        if empty:
            raise ValueError(
                f"head {name!r}: 'balanced' weights are infinite for labels without a training example: {empty}. Give "
                "weights as numbers, or leave these labels out"
            )
        if head.label_weights == "balanced":
            head.label_weights = [n / (head.num_labels * count) for count, n in zip(positives, known, strict=True)]
        if head.pos_weight == "balanced":
            full = [label for label, count, n in zip(head.labels, positives, known, strict=True) if count >= n]
            if full:
                raise ValueError(
                    f"head {name!r}: the 'balanced' pos_weight is 0 for labels that every training example has: "
                    f"{full}. Give weights as numbers, or leave these labels out"
                )
            head.pos_weight = [(n - count) / count for count, n in zip(positives, known, strict=True)]


def upcast_trainable(model: nn.Module) -> None:
    """Convert trainable parameters to float32: half-precision updates would round to zero or overflow."""
    half = [p for p in model.parameters() if p.requires_grad and p.dtype in (torch.float16, torch.bfloat16)]
    for parameter in half:
        parameter.data = parameter.data.float()
    if half:
        logger.warning(
            f"{len(half)} trainable half-precision parameters were converted to float32. For mixed precision set "
            "bf16=True or fp16=True; to keep a half-precision encoder, freeze it"
        )

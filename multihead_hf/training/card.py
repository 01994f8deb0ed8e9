"""What a Trainer knows for the card of its model."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from datasets import Dataset
from transformers.utils import logging

from ..data.heads import count_labels
from ..model.configuration_multihead import MultiHeadConfig
from .arguments import MultiHeadTrainingArguments

logger = logging.get_logger(__name__)

PACKAGES = ("multihead-hf", "transformers", "torch", "datasets", "accelerate")
# arguments that decide what is learned; others, such as folders, names of columns and tokens, are nobody's business
SETTINGS = (
    *("learning_rate", "encoder_learning_rate", "head_learning_rate", "threshold_learning_rate"),
    *("layer_learning_rate_decay", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"),
    *("optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
    *("bf16", "fp16", "seed", "data_seed", "train_sampling_strategy", "neftune_noise_alpha", "label_smoothing_factor"),
    *("head_weighting", "mixing_probabilities", "mixing_temperature", "mixing_stop", "freeze_encoder", "train_heads"),
    *("train_top_layers", "cache_features", "feature_dtype", "load_best_model_at_end", "metric_for_best_model"),
)


def changed_settings(args: MultiHeadTrainingArguments, processes: int) -> dict[str, Any]:
    """Arguments of `SETTINGS` that differ from their defaults, and the number of processes above 1."""
    found: dict[str, Any] = {"processes": processes} if processes > 1 else {}
    for each in fields(args):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        value = getattr(args, each.name)
        value = getattr(value, "value", value)  # of an enum
        if each.name in SETTINGS and value != getattr(default, "value", default) and value not in (None, {}):
            found[each.name] = value if isinstance(value, (int, float, str)) else str(value)
    return {name: found[name] for name in ("processes", *SETTINGS) if name in found}


def label_counts(rows: Any, config: MultiHeadConfig) -> dict[str, dict[str, int]]:
    """Head → label → training rows, of heads with a labelled one."""
    if not isinstance(rows, Dataset) or "labels" not in rows.column_names:
        return {}
    counts = count_labels(rows.select_columns(["labels"]), config.heads)
    return {
        name: {label: round(count) for label, count in zip(config.heads[name].labels, positives, strict=True)}
        for name, (positives, known) in counts.items()
        if any(known)
    }


def last_evaluations(
    history: list[dict[str, Any]], config: MultiHeadConfig, best_step: int | None
) -> list[dict[str, Any]]:
    """What was logged of the model at hand: after training, else at the best step, else last.

    Args:
        history: `state.log_history`.
        config: of the model.
        best_step: of the model that was loaded at the end of training, if one was.
    """
    after = max((place for place, entry in enumerate(history) if "train_runtime" in entry), default=-1)
    entries = [entry for entry in history if any(key.startswith("eval_") for key in entry)]
    later = [entry for entry in history[after + 1 :] if entry in entries] if after >= 0 else []
    if later:
        entries = later
    elif best_step is not None:
        entries = [entry for entry in entries if entry.get("step") == best_step]
    if not entries:
        return []
    step = entries[-1].get("step")
    merged: dict[str, Any] = {}
    for entry in entries:
        if entry.get("step") == step:
            merged |= {key.removeprefix("eval_"): value for key, value in entry.items() if key.startswith("eval_")}
    return [each for each in (_of_set(merged, config, name) for name in _sets(merged, config)) if each["metrics"]]


def _sets(merged: Mapping[str, Any], config: MultiHeadConfig) -> list[str | None]:
    """Names of the evaluation sets, `None` for the only one."""
    names: dict[str | None, None] = {}
    for key in merged:
        for head in config.heads:
            for suffix in ("f1_macro", "f1_micro"):
                if key == f"{head}_{suffix}":
                    names[None] = None
                elif key.endswith(f"_{head}_{suffix}"):
                    names[key.removesuffix(f"_{head}_{suffix}")] = None
    return list(names)


def _of_set(merged: Mapping[str, Any], config: MultiHeadConfig, name: str | None) -> dict[str, Any]:
    start = "" if name is None else f"{name}_"
    metrics = {
        key.removeprefix(start): float(value)
        for key, value in merged.items()
        if isinstance(value, (int, float)) and any(key.startswith(f"{start}{head}_") for head in config.heads)
    }
    return {"name": name, "metrics": metrics}


def versions() -> dict[str, str]:
    """Package → version, of those that make a model."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def decision_settings(config: MultiHeadConfig) -> dict[str, Any]:
    """What decides about labels, of heads that do not learn it: head → thresholds and temperature."""
    return {
        name: (head.thresholds, head.calibration_temperature)
        for name, head in config.heads.items()
        if head.learn_thresholds is None
    }

"""What a Trainer knows for the card of its model."""

import copy
import importlib.metadata
import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from datasets import Dataset
from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..data.heads import count_labels
from ..evaluation.metric_names import metric_names
from ..model.configuration_multihead import MultiHeadConfig
from .arguments import MultiHeadTrainingArguments

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


@dataclass
class Judgement:
    """What was found of a model, and of which.

    Args:
        evaluations: as `CardFacts.evaluations`.
        step: of training, at which the model was judged.
        settings: what decided about its labels then (`decision_settings`).
        pictures: as `CardFacts.pictures`.
        files: path of each picture → PNG file.
    """

    evaluations: list[dict[str, Any]]
    step: int
    settings: dict[str, Any]
    pictures: list[dict[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def for_card(self, step: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
        """The evaluations, marked where the model has changed since."""
        found = self.evaluations if self.settings == settings else [{**own, "stale": True} for own in self.evaluations]
        return found if self.step == step else [{**own, "step": self.step} for own in found]


def evaluations_of(metrics: Mapping[str, Any], config: MultiHeadConfig, sets: list[str] | None) -> list[dict[str, Any]]:
    """The heads' figures in what `evaluate` gives or logs, for each of the named sets.

    Args:
        metrics: `eval_<head>_<metric>`, or `eval_<set>_<head>_<metric>`, among others.
        config: of the model.
        sets: their names, `None` for a single one.
    """
    keys = [
        f"{name}_{metric}"
        for name, head in config.heads.items()
        for metric in (*metric_names(head.problem_type, head.positive_label), "loss")
    ]
    found = []
    for name in [None] if sets is None else sets:
        start = "eval_" if name is None else f"eval_{name}_"
        values = {key: float(metrics[start + key]) for key in keys if start + key in metrics}
        found.append({"name": name, "metrics": {key: value for key, value in values.items() if math.isfinite(value)}})
    return [each for each in found if each["metrics"]]


def versions() -> dict[str, str]:
    """Package → version, of those that make a model."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def decision_settings(config: MultiHeadConfig) -> dict[str, Any]:
    """What decides about labels: head → labels, temperature, limits and, where they are not learned, thresholds."""
    return {
        name: (
            [*head.labels],
            copy.copy(head.calibration_temperature),
            head.min_labels,
            head.max_labels,
            copy.copy(head.thresholds) if head.learn_thresholds is None else None,
        )
        for name, head in config.heads.items()
    }


def hub_name(name: str) -> str | None:
    """`name` if it can be that of a repository, and is no path of this machine."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return None if not name or os.path.exists(name) else name

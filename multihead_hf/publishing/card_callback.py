"""Model card of a run, which is written with every model that its Trainer saves."""

import importlib.metadata
import math
import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging

from ..data.rows_like import has_length
from ..evaluation.metric_names import metric_names
from ..evaluation.report import EvaluationReport
from ..model.configuration_multihead import MultiHeadConfig
from ..model.unwrapping import multi_head_model
from .card import CARD, report_evaluation, report_pictures, write_card
from .card_facts import CardFacts, check_given, picture_path, shown_path
from .card_heads import decision_settings, head_digests

if TYPE_CHECKING:
    from transformers import Trainer

logger = logging.get_logger(__name__)

PACKAGES = ("multihead-hf", "transformers", "torch", "datasets", "accelerate")
# arguments that affect the result of training; others, such as folders, column names and tokens, are private
SETTINGS = (
    *("learning_rate", "encoder_learning_rate", "head_learning_rate", "threshold_learning_rate"),
    *("layer_learning_rate_decay", "num_train_epochs", "max_steps", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "warmup_ratio"),
    *("optim", "optim_args", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm"),
    *("bf16", "fp16", "seed", "data_seed", "train_sampling_strategy", "neftune_noise_alpha", "label_smoothing_factor"),
    *("head_weighting", "mixing_probabilities", "mixing_temperature", "mixing_stop", "freeze_encoder", "train_heads"),
    *("train_top_layers", "cache_features", "feature_dtype", "load_best_model_at_end", "metric_for_best_model"),
)


def changed_settings(args: TrainingArguments, processes: int) -> dict[str, Any]:
    """Return arguments of `SETTINGS` that differ from their defaults, and the number of processes above 1."""
    settings: dict[str, Any] = {"processes": processes} if processes > 1 else {}
    for argument in fields(args):
        default = argument.default if argument.default_factory is MISSING else argument.default_factory()
        value = getattr(args, argument.name)
        value = getattr(value, "value", value)  # the value of an enum
        if argument.name in SETTINGS and value != getattr(default, "value", default) and value not in (None, {}):
            settings[argument.name] = value if isinstance(value, (int, float, str)) else str(value)
    return {name: settings[name] for name in ("processes", *SETTINGS) if name in settings}


@dataclass
class EvaluationSnapshot:
    """The metrics of a model, with the step and the decision settings that they were computed at.

    Args:
        evaluations: As in `CardFacts.evaluations`.
        step: Step of training.
        settings: The decision settings (`decision_settings`).
        pictures: As in `CardFacts.pictures`.
        files: Path of each picture → PNG file.
    """

    evaluations: list[dict[str, Any]]
    step: int
    settings: dict[str, Any]
    pictures: list[dict[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def _decides_as(self, settings: Mapping[str, Any]) -> bool:
        """Return whether the heads decide as they did; one that was renamed or removed has no metrics in the card."""
        return all(settings[name] == before for name, before in self.settings.items() if name in settings)

    def is_current(self, step: int, settings: Mapping[str, Any]) -> bool:
        """Return whether the metrics are those of the model at this step with these decision settings."""
        return self.step == step and self._decides_as(settings)

    def for_card(self, step: int, settings: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the evaluations, with what they belong to, and a mark if the model has changed since."""
        marks: dict[str, Any] = {"heads": head_digests(self.settings)}
        if not self._decides_as(settings):
            marks["stale"] = True
        if self.step != step:
            marks["step"] = self.step
        return [{**evaluation, **marks} for evaluation in self.evaluations]


class ModelCardCallback(TrainerCallback):
    """Callback that collects facts of a run for the model card, and writes the card.

    Args:
        trainer: A `MultiHeadTrainer`.
        user_facts: Facts from the user, as the argument `model_card`.
    """

    def __init__(self, trainer: "Trainer", user_facts: object) -> None:
        self._trainer = trainer
        self._user_facts: dict[str, Any] = dict(user_facts) if isinstance(user_facts, dict) else {}
        self._evaluated: EvaluationSnapshot | None = None
        self._reported: EvaluationSnapshot | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Forget evaluations of an earlier run, and restore the last one of a resumed run."""
        self._evaluated = self._reported = None
        evaluated = [entry for entry in state.log_history if any(key.startswith("eval_") for key in entry)]
        if evaluated:  # in a resumed run
            step = evaluated[-1].get("step", 0)
            self._note_logged(state, step)
            if self._evaluated is not None:
                self._evaluated.step = step

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Remember the metrics of the best checkpoint if it is loaded now."""
        kept = kept_checkpoint(args, state)
        if kept is not None:  # it is the current model
            self._note_logged(state, kept[0])

    def _note_logged(self, state: TrainerState, step: int) -> None:
        """Remember the metrics that were logged at a step."""
        entries = [entry for entry in state.log_history if entry.get("step") == step]
        sets = self._trainer.eval_dataset
        logged = {key: value for entry in entries for key, value in entry.items()}
        self.note_evaluation(logged, sets)

    def note_evaluation(self, metrics: Mapping[str, Any], rows: object, prefix: str = "eval") -> None:
        """Remember the metrics of an evaluation.

        `on_evaluate` is called separately for each dataset, without its name.

        Args:
            metrics: Metrics, as `evaluate` returns or logs them.
            rows: The evaluated rows, or a dict of several datasets.
            prefix: Prefix of the metrics.
        """
        sets = list(rows) if isinstance(rows, dict) else None
        evaluations = evaluations_of(metrics, self._trainer.config, sets, prefix)
        if sets is None:
            split = "validation" if rows is not None and rows is self._trainer.eval_dataset else prefix
            about: dict[str, Any] = {} if split == "eval" else {"name": f"the {split} rows"}
            if rows is not None and has_length(rows):
                about["rows"] = len(rows)
            evaluations = [{**evaluation, **about} for evaluation in evaluations]
        self._evaluated = self._snapshot(evaluations)

    def note_report(self, report: EvaluationReport) -> None:
        """Remember a report on the current model."""
        saved = report.to_dict()
        self._reported = self._snapshot([report_evaluation(saved)])
        self._reported.pictures = report_pictures(saved)
        self._reported.files = {picture_path(picture.name): picture.data for picture in report.pictures}

    def _snapshot(self, evaluations: list[dict[str, Any]]) -> EvaluationSnapshot:
        return EvaluationSnapshot(evaluations, self._trainer.state.global_step, decision_settings(self._trainer.config))

    def _newest(self) -> EvaluationSnapshot | None:
        """Return the report or else the evaluation of the current model, else the most recent older one."""
        settings, step = decision_settings(self._trainer.config), self._trainer.state.global_step
        snapshots = [snapshot for snapshot in (self._reported, self._evaluated) if snapshot is not None]
        current = [snapshot for snapshot in snapshots if snapshot.is_current(step, settings)]
        # (on a tie, `max` returns the first, the report)
        return current[0] if current else max(snapshots, key=lambda snapshot: snapshot.step, default=None)

    def facts(self) -> CardFacts:
        """Return the facts for the card: arguments, training rows, the run, and its newest report or evaluation."""
        trainer = self._trainer
        args, state, rows = trainer.args, trainer.state, trainer.train_dataset
        loaded_from = multi_head_model(trainer.model).encoder.name_or_path  # (its configuration is a copy without it)
        encoder = getattr(trainer.config.encoder, "_name_or_path", "") or loaded_from
        facts = CardFacts(
            model_id=trainer.hub_model_id or args.hub_model_id,
            base_model=hub_name(encoder),
            versions=versions(),
        )
        for key, value in self._user_facts.items():
            setattr(facts, key, value)
        if state.global_step:
            facts.training = {"epochs": state.epoch, "steps": state.global_step}
            kept = None if trainer.is_in_train else kept_checkpoint(args, state)
            if kept is not None:
                facts.training["kept_step"] = kept[0]
            if os.path.isdir(encoder):
                facts.training["encoder"] = os.path.basename(os.path.abspath(encoder))
        if rows is not None:
            settings = facts.training["hyperparameters"] = changed_settings(args, args.world_size)
            if trainer.chosen_head_rates:
                settings["head_learning_rate"] = ", ".join(f"{rate:g}" for rate in trainer.chosen_head_rates)
            heads = trainer.label_counts or {}
            facts.training["labels"] = {
                name: {label: round(count) for label, count in zip(counts.labels, counts.sums, strict=True)}
                for name, counts in heads.items()
                if counts.labelled
            }
            facts.training["without_rows"] = [name for name, counts in heads.items() if not counts.labelled]
            if has_length(rows):
                facts.training["rows"] = len(rows)
            evaluated = trainer.eval_dataset
            sets = [*evaluated.values()] if isinstance(evaluated, dict) else [evaluated]
            if all(dataset is not None and has_length(dataset) for dataset in sets):
                facts.training["validation_rows"] = sum(map(len, sets))
        newest = self._newest()
        if newest is not None:
            facts.evaluations = newest.for_card(state.global_step, decision_settings(trainer.config))
            facts.pictures = newest.pictures
        return facts

    def write(self, folder: str, user_facts: Mapping[str, Any] | None = None) -> None:
        """Write the card into a folder, unless it holds a card that the user has written.

        Args:
            folder: The folder.
            user_facts: Further facts from the user, which are kept for later cards.
        """
        self._user_facts |= check_given({key: value for key, value in (user_facts or {}).items() if value is not None})
        facts, newest = self.facts(), self._newest()
        if facts.model_id is None:
            facts.model_id = shown_path(folder)
        if not write_card(folder, self._trainer.config, facts, None if newest is None else newest.files):
            logger.info(
                f"{os.path.join(folder, CARD)} was edited by hand or written by another program, and is not changed"
            )


def evaluations_of(
    metrics: Mapping[str, Any], config: MultiHeadConfig, sets: list[str] | None, prefix: str = "eval"
) -> list[dict[str, Any]]:
    """Return the heads' metrics from the result of `evaluate` or a log entry, for each of the named datasets.

    Args:
        metrics: Dict with `<prefix>_<head>_<metric>` or `<prefix>_<dataset>_<head>_<metric>`, among others.
        config: Configuration of the model.
        sets: Names of the datasets, `None` for a single dataset.
        prefix: Prefix of the metrics.
    """
    keys = [
        f"{name}_{metric}"
        for name, head in config.heads.items()
        for metric in (*metric_names(head.problem_type, head.positive_label), "loss")
    ]
    evaluations = []
    for name in [None] if sets is None else sets:
        start = f"{prefix}_" if name is None else f"{prefix}_{name}_"
        values = {key: float(metrics[start + key]) for key in keys if start + key in metrics}
        evaluations.append(
            {"name": name, "metrics": {key: value for key, value in values.items() if math.isfinite(value)}}
        )
    return [evaluation for evaluation in evaluations if evaluation["metrics"]]


def versions() -> dict[str, str]:
    """Return package → version, of the packages that a model depends on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def hub_name(name: str) -> str | None:
    """Return `name` if it can be the name of a repository and is not a local path."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return None if not name or os.path.exists(name) else name


def kept_checkpoint(args: TrainingArguments, state: TrainerState) -> tuple[int, float | None] | None:
    """Return step and epoch of the checkpoint that `load_best_model_at_end` loads, `None` if the last model is kept."""
    step = state.best_global_step
    if not args.load_best_model_at_end or state.best_model_checkpoint is None or not step:
        return None
    return step, next((log["epoch"] for log in state.log_history if log["step"] == step and "epoch" in log), None)

"""Hyperparameter search of a Trainer, by the metrics of its evaluations."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from transformers import Trainer

from .arguments import MultiHeadTrainingArguments


class SearchHooks(Trainer):
    """Method of `MultiHeadTrainer` that searches hyperparameters."""

    args: MultiHeadTrainingArguments

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, float]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] | None = None,
        backend: str | None = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> Any:  # noqa: ANN401 (a run, or a list of them)
        """Search hyperparameters, as `Trainer.hyperparameter_search`, by `metric_for_best_model`, else by F1.

        A metric is maximized, a loss minimized, as is a custom objective without `direction`. A trial counts with its
        last evaluation, or its best one with `load_best_model_at_end`. The Trainer has no model afterwards.

        Args:
            hp_space: Trial → hyperparameters; by default those of `Trainer`.
            compute_objective: Metrics → value, instead of that metric.
            n_trials: Number of trials.
            direction: `"maximize"` or `"minimize"`, or a list of them.
            backend: Library of the search, such as `"optuna"`; by default one that is installed.
            hp_name: Trial → name of its run.
            **kwargs: As for `Trainer`.

        Returns:
            The best trial, as of `Trainer`.

        Raises:
            ValueError: The evaluation does not have the metric.
        """
        if direction is None:
            direction = "maximize" if compute_objective is None and _metric(self.args)[1] else "minimize"
        objective = compute_objective or functools.partial(_objective, self)
        return super().hyperparameter_search(hp_space, objective, n_trials, direction, backend, hp_name, **kwargs)


def _metric(args: MultiHeadTrainingArguments) -> tuple[str, bool]:
    """Return the default metric of a hyperparameter search, and whether higher is better."""
    metric = args.metric_for_best_model or ("loss" if args.prediction_loss_only else "f1")
    greater = args.greater_is_better if args.metric_for_best_model is not None else None
    return f"eval_{metric.removeprefix('eval_')}", not metric.endswith("loss") if greater is None else greater


def _objective(trainer: Trainer, metrics: Mapping[str, float]) -> float:
    """Return the value of `_metric` in an evaluation; with `load_best_model_at_end`, in the best evaluation.

    Raises:
        ValueError: The evaluation does not have the metric.
    """
    metric, greater = _metric(trainer.args)
    if metric not in metrics:
        raise ValueError(f"the search uses {metric!r}, which was not evaluated; the metrics are {list(metrics)}")
    best = trainer.state.best_metric if trainer.args.load_best_model_at_end else None
    values = [metrics[metric], *([] if best is None else [best])]
    return max(values) if greater else min(values)

"""Hyperparameter search of a Trainer, by the metrics of its evaluations."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from transformers import Trainer, set_seed

from ..data.reading import OPTIONS
from .arguments import MultiHeadTrainingArguments

_OF_DATA = (
    *OPTIONS,
    *("mixing_probabilities", "mixing_temperature", "mixing_stop"),
    *("cache_features", "feature_dtype", "feature_cache_dir"),
)


class SearchHooks(Trainer):
    """Method of `MultiHeadTrainer` that searches hyperparameters."""

    args: MultiHeadTrainingArguments
    _before_search: dict[str, Any] | None = None

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
        last evaluation, or its best one with `load_best_model_at_end`. The Trainer has no model afterwards, and the
        arguments that it had before.

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
            ValueError: The evaluation does not have the metric, or a trial changes how data is read.
        """
        if direction is None:
            direction = "maximize" if compute_objective is None and _metric(self.args)[1] else "minimize"
        objective = compute_objective or functools.partial(_objective, self)
        space = None if hp_space is None else _computed_once(hp_space)
        self._before_search = dict(vars(self.args))
        try:
            return super().hyperparameter_search(space, objective, n_trials, direction, backend, hp_name, **kwargs)
        finally:
            self.args.__dict__.update(self._before_search)
            self._before_search = None

    def take_trial(self, trial: Any) -> None:  # noqa: ANN401 (of the search's library)
        """Set the arguments of a trial before its model is made and prepared; `Trainer` sets them after that.

        Args:
            trial: As for `Trainer.call_model_init`.

        Raises:
            ValueError: The trial changes how data is read, or a value is not valid.
        """
        if trial is None or self._before_search is None:
            return
        self.args.__dict__.update(self._before_search)  # a trial may leave out what an earlier one has set
        values = trial if isinstance(trial, Mapping) else self.hp_space(trial)
        if fixed := [name for name in values if name in _OF_DATA]:
            raise ValueError(
                f"a hyperparameter search cannot change {', '.join(fixed)}: a Trainer prepares its data once. Make a "
                "MultiHeadTrainer for each value"
            )
        for name, value in values.items():
            if hasattr(self.args, name):
                before = getattr(self.args, name)
                setattr(self.args, name, value if before is None else type(before)(value))
        self.args.check_values()
        if "seed" in values:
            set_seed(self.args.seed)  # (`Trainer` has set that of the trial before)


def _computed_once(hp_space: Callable[[Any], dict[str, float]]) -> Callable[[Any], dict[str, float]]:
    """Return the same function that computes the hyperparameters of a numbered trial once."""
    known: dict[int, dict[str, float]] = {}

    def space(trial: Any) -> dict[str, float]:  # noqa: ANN401 (of the search's library)
        number = getattr(trial, "number", None)
        if number is None:
            return hp_space(trial)
        if number not in known:
            known[number] = hp_space(trial)
        return known[number]

    return space


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

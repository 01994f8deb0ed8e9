"""Hyperparameter search of a Trainer, by the metrics of its evaluations."""

import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from transformers import Trainer, set_seed

from ..data.reading import OPTIONS
from .arguments import MultiHeadTrainingArguments
from .checks import check_arguments
from .choices import OpenChoices

_OF_DATA = (
    *OPTIONS,
    *("mixing_probabilities", "mixing_temperature", "mixing_stop"),
    *("cache_features", "feature_dtype", "feature_cache_dir"),
)


class SearchHooks(Trainer):
    """Method of `MultiHeadTrainer` that searches hyperparameters."""

    args: MultiHeadTrainingArguments
    _choices: OpenChoices
    _before_search: MultiHeadTrainingArguments | None = None

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
        # as they were given, with the settings left open, which are chosen for each trial
        self._before_search = self._choices.given = copy.copy(self._choices.given)
        try:
            return super().hyperparameter_search(space, objective, n_trials, direction, backend, hp_name, **kwargs)
        finally:
            self.args.__dict__.update(vars(self._before_search))
            self._before_search = self.hp_search_backend = None

    def _take_trial(self, trial: Any) -> None:  # noqa: ANN401 (of the search's library)
        """Set the arguments of a trial before its model is made and prepared; `Trainer` sets them after that.

        Args:
            trial: As for `Trainer.call_model_init`.

        Raises:
            ValueError: The trial changes how data is read, or a value is not valid.
        """
        if trial is not None and self._before_search is not None:
            values: Any = trial if isinstance(trial, Mapping) else self.hp_space(trial)
            if fixed := [name for name in values if name in _OF_DATA]:
                raise ValueError(
                    f"a hyperparameter search cannot change {', '.join(fixed)}: a Trainer prepares its data once. Make "
                    "a MultiHeadTrainer for each value"
                )
            known = {option.name for option in fields(self._before_search) if option.init}
            changed = {name: value for name, value in values.items() if name in known}
            args = replace(self._before_search, **changed)  # a trial may leave out what an earlier one has set
            check_arguments(args)
            if not isinstance(trial, Mapping):
                values.update({name: getattr(args, name) for name in changed})  # (`Trainer` sets them once more)
            self._take_arguments(args)
            self.neftune_noise_alpha = args.neftune_noise_alpha
            if "seed" in changed:
                set_seed(args.seed)  # (`Trainer` has set that of the trial before)
        self._train_batch_size = self.args.train_batch_size

    def _take_arguments(self, args: MultiHeadTrainingArguments) -> None:
        """Use arguments with values for the settings left open.

        Args:
            args: The arguments of the trainer, or a copy of them.
        """
        if self.args is self._choices.given:
            self.args = args
        else:  # in place, as `Trainer.train` holds this object
            self.args.__dict__.update(vars(args))


def _computed_once(hp_space: Callable[[Any], dict[str, float]]) -> Callable[[Any], dict[str, float]]:
    """Return the same function that computes the hyperparameters of a numbered trial once."""
    known: dict[int, dict[str, float]] = {}

    def space(trial: Any) -> dict[str, float]:  # noqa: ANN401 (of the search's library)
        number = getattr(trial, "number", None)
        if number is None:
            return hp_space(trial)
        if number not in known:
            known[number] = dict(hp_space(trial))
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

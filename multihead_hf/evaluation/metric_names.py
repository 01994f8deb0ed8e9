"""The names of the metrics, and the keys under which an evaluation reports them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

SINGLE_LABEL = "single_label_classification"
MULTI_LABEL = "multi_label_classification"

_MEANS = ("micro", "macro", "macro_present", "samples")
MULTI_LABEL_METRICS = (
    *(f"{ratio}_{mean}" for ratio in ("f1", "precision", "recall") for mean in _MEANS),
    "accuracy",
    "accuracy_cells",
    *(f"{area}_{mean}" for area in ("roc_auc", "average_precision") for mean in ("micro", "macro")),
)
SINGLE_LABEL_METRICS = ("accuracy", "f1_macro", "f1_weighted", "precision_macro", "recall_macro", "mcc")
POSITIVE_LABEL_METRICS = ("precision", "recall", "f1")
_RUNS = ("eval", "train")


class MetricHead(Protocol):
    """Properties of a head that the metrics need; `HeadConfig` has them."""

    @property
    def labels(self) -> Sequence[str]:
        """Return the names of the labels."""

    @property
    def problem_type(self) -> str:
        """Return the problem type, `SINGLE_LABEL` or `MULTI_LABEL`."""

    @property
    def positive_label(self) -> str | None:
        """Return the label to which binary metrics refer, if any."""


def metric_names(problem_type: str, positive_label: str | None = None) -> tuple[str, ...]:
    """Return the metrics of a head, in the order in which they are reported.

    Raises:
        ValueError: If the problem type is neither of the two.
    """
    if problem_type == MULTI_LABEL:
        return MULTI_LABEL_METRICS
    if problem_type == SINGLE_LABEL:
        return SINGLE_LABEL_METRICS if positive_label is None else SINGLE_LABEL_METRICS + POSITIVE_LABEL_METRICS
    raise ValueError(f"problem_type {problem_type!r} is neither {SINGLE_LABEL!r} nor {MULTI_LABEL!r}")


def main_score_name(problem_type: str, positive_label: str | None = None) -> str:
    """Return the name of the metric that represents a head in the mean over heads (`f1`).

    Raises:
        ValueError: If the problem type is neither of the two.
    """
    names = metric_names(problem_type, positive_label)
    return next(name for name in ("f1_micro", "f1", "f1_macro") if name in names)


def main_score_of(head: MetricHead) -> str:
    """Return the name of the metric that represents this head."""
    return main_score_name(head.problem_type, head.positive_label)


def metric_keys(heads: Mapping[str, MetricHead]) -> dict[str, str]:
    """Return every key that `compute_metrics` or a loss may report for these heads, each with a description.

    Raises:
        ValueError: If two metrics would have one key; the message contains the key and both descriptions.
    """
    owners = {"f1": "the mean of the heads' main scores", "loss": "the combined loss"}
    owners |= {f"{run}_loss": f"the combined loss of {run}" for run in _RUNS}
    for name, head in heads.items():
        for metric in (*metric_names(head.problem_type, head.positive_label), "loss"):
            key, owner = f"{name}_{metric}", f"{metric!r} of head {name!r}"
            if key in owners:
                raise ValueError(f"two metrics have the key {key!r}: {owners[key]} and {owner}; rename a head")
            owners[key] = owner
    return owners


def evaluation_keys(heads: Mapping[str, MetricHead]) -> dict[str, str]:
    """Return the keys of one evaluation, as `metric_keys` does, without its prefix."""
    runs = {f"{run}_loss" for run in _RUNS}
    return {key: owner for key, owner in metric_keys(heads).items() if key not in runs}


def check_set_keys(heads: Mapping[str, MetricHead], sets: Iterable[str], prefix: str = "eval") -> None:
    """Check that no two metrics of several evaluation datasets would have one key.

    Args:
        heads: heads of the model.
        sets: names of the datasets that are evaluated together.
        prefix: prefix of all keys.

    Raises:
        ValueError: If two metrics would have one key; the message contains the key, the datasets and the heads.
    """
    owners = {f"{prefix}_f1": "the mean over the sets"}
    owners |= {f"{name}_loss": f"the training loss of head {name!r}" for name in heads}
    keys = evaluation_keys(heads)
    for set_name in sets:
        for metric, of_metric in keys.items():
            key, owner = f"{prefix}_{set_name}_{metric}", f"{of_metric} on the set {set_name!r}"
            if key in owners:
                raise ValueError(f"two metrics have the key {key!r}: {owners[key]} and {owner}; rename a set or a head")
            owners[key] = owner

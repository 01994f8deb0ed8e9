"""What the figures of a card belong to: the labels of the heads, and how they decide."""

import copy
from collections.abc import Mapping
from typing import Any

from ..model.configuration_multihead import MultiHeadConfig
from ..model.digest import value_digest
from .card_facts import CardFacts


def decision_settings(config: MultiHeadConfig) -> dict[str, Any]:
    """Return each head's decision settings: labels, temperature, limits, and thresholds unless learned."""
    return {
        name: (
            [*head.labels],
            copy.copy(head.calibration_temperature),
            head.min_labels,
            head.max_labels,
            None if head.learn_thresholds is not None else list(head.thresholds or [0.5] * head.num_labels),
        )
        for name, head in config.heads.items()
    }


def head_digests(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return head → digests of its labels and of its decision settings, from `decision_settings`."""
    return {name: [value_digest(values[0]), value_digest(values)] for name, values in settings.items()}


def without_other_heads(facts: CardFacts, config: MultiHeadConfig) -> CardFacts:
    """Return the facts without those of heads that the model no longer has, or has with other labels.

    An evaluation is marked where heads decide otherwise than they did. One without digests is of the model as it is.
    """
    facts = copy.deepcopy(facts)
    now = head_digests(decision_settings(config))
    evaluations = []
    for evaluation in facts.evaluations:
        before = evaluation.get("heads", now)
        same = {name for name, digests in before.items() if name in now and now[name][0] == digests[0]}
        if before.keys() - same:
            facts.pictures = []  # they may be of the others
        if any(before[name] != now[name] for name in same):
            evaluation["stale"] = True
        names = before.keys() | now.keys()
        evaluation["metrics"] = {
            key: value
            for key, value in evaluation["metrics"].items()
            if max((name for name in names if key.startswith(f"{name}_")), key=len, default=None) in same
        }
        for part in ("intervals", "baseline"):
            if evaluation.get(part):
                evaluation[part] = {name: values for name, values in evaluation[part].items() if name in same}
        if "heads" in evaluation:
            evaluation["heads"] = {name: before[name] for name in before if name in same}
        if evaluation["metrics"]:
            evaluations.append(evaluation)
    facts.evaluations = evaluations
    counts = facts.training.get("labels") or {}
    known = {name: set(head.labels) for name, head in config.heads.items()}
    if counts:
        facts.training["labels"] = {name: rows for name, rows in counts.items() if set(rows) <= known.get(name, set())}
    if facts.training.get("without_rows"):
        facts.training["without_rows"] = [name for name in facts.training["without_rows"] if name in known]
    return facts

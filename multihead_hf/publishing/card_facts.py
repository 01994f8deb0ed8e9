"""Facts of a model card, and the facts that users can give."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from numbers import Real
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..model.head_multihead import near_names

ASSETS = "assets"


@dataclass
class CardFacts:
    """Facts about a model besides its configuration. All are optional, and missing facts are left out of the card.

    Args:
        model_id: The model's repository on the Hub, or its folder, for the code in the card.
        base_model: The pretrained encoder on the Hub.
        language: Codes of languages, such as `"nl"`.
        license: Identifier such as `"apache-2.0"`.
        datasets: Names of datasets on the Hub that were trained on.
        tags: Further tags.
        widget_texts: Texts to try the model with; they are published.
        limits: What the model is not for, in your words.
        evaluations: Dicts with `name` (of the rows, or `None`), `metrics` (`<head>_<metric>` → value) and, if known,
            `rows`, `intervals` (head → metric → (low, high)), `confidence_level`, `stale` (whether thresholds changed
            since), `step` (of the evaluation, if training continued), `heads` (digests of their labels and of how they
            decide), and `baseline` (head → `rows` and `figures` (metric → value) of a linear baseline on the same
            rows).
        training: Dict with `encoder` (name of its folder), `rows`, `validation_rows`, `labels` (head → label → rows),
            `without_rows` (heads without a labelled row), `hyperparameters`, `epochs` and `steps`, as far as they are
            known.
        versions: Package → version.
        pictures: Dicts with `path` (below the folder of the card), `title` and `alt`.
    """

    model_id: str | None = None
    base_model: str | None = None
    language: list[str] = field(default_factory=list)
    license: str | None = None
    datasets: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    widget_texts: list[str] = field(default_factory=list)
    limits: str | None = None
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    training: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    pictures: list[dict[str, str]] = field(default_factory=list)


GIVEN = ("language", "license", "datasets", "tags", "widget_texts", "limits", "base_model")


def check_given(user_facts: object) -> dict[str, Any]:
    """Return the user's facts (see `GIVEN`) in stored form: a single text becomes a list where several are allowed.

    Raises:
        ValueError: The facts are not a mapping, or one of them does not exist or has a wrong type.
    """
    if not isinstance(user_facts, Mapping):
        raise ValueError(f'model_card is {user_facts!r}: give a dict such as {{"language": "nl"}}, or it as JSON')
    lists = {fact.name for fact in fields(CardFacts) if fact.name in GIVEN and fact.type == list[str]}
    facts: dict[str, Any] = {}
    for name, value in user_facts.items():
        if name not in GIVEN:
            raise ValueError(f"model_card has no field {name!r}.{near_names(name, GIVEN)} Fields: {', '.join(GIVEN)}")
        entry = [value] if name in lists and isinstance(value, str) else value
        texts = entry if name in lists else [entry]
        if not isinstance(texts, (list, tuple)) or not all(isinstance(item, str) for item in texts):
            raise ValueError(
                f"model_card: {name!r} is {value!r}: give {'a list of strings' if name in lists else 'a string'}"
            )
        for text in texts if name in ("datasets", "base_model") else ():
            try:
                validate_repo_id(text)
            except HFValidationError:
                raise ValueError(
                    f"model_card: {name!r} names {text!r}, which is not a valid repository name on the Hub"
                ) from None
        facts[name] = list(entry) if name in lists else entry
    return facts


def picture_path(name: str) -> str:
    """Return the path of a report's picture, below the folder of the card."""
    return f"{ASSETS}/{name}.png"


def is_picture(path: str) -> bool:
    """Return whether a path belongs to a picture of the card."""
    return re.fullmatch(rf"{ASSETS}/[a-z0-9_]+\.png", path) is not None


def check_facts(facts: CardFacts) -> None:
    """Check facts from a file, which may come from an untrusted source, before they become Markdown.

    Raises:
        ValueError: A fact has a wrong type, a picture is outside the folder of the card, or the name of a repository is
            invalid.
    """
    for name, default in asdict(CardFacts()).items():
        value = getattr(facts, name)
        if not isinstance(value, str if default is None else type(default)) and (value, default) != (None, None):
            raise ValueError(f"{name} is {value!r}")
    check_given({name: value for name in GIVEN if (value := getattr(facts, name)) is not None})
    _each("versions", facts.versions, _text)
    for picture in facts.pictures:
        _each("pictures", {name: _dict("pictures", picture).get(name) for name in ("path", "title", "alt")}, _text)
        if not is_picture(picture["path"]):
            raise ValueError(f"pictures: {picture['path']!r} is not a picture in {ASSETS}/")
    _check_training(facts.training)
    for evaluation in facts.evaluations:
        _check_evaluation(_dict("evaluations", evaluation))


def _check_training(training: Mapping[str, Any]) -> None:
    _optional(training, {"encoder": _text})
    _optional(training, dict.fromkeys(("rows", "validation_rows", "epochs", "steps", "kept_step"), _number))
    for head, labels in _dict("labels", training.get("labels") or {}).items():
        _each(head, labels, _number)
    _optional(training, {"without_rows": _texts})
    for name in _dict("hyperparameters", training.get("hyperparameters") or {}):
        if not name.isidentifier():
            raise ValueError(f"hyperparameters: {name!r} is not the name of a setting")


def _check_evaluation(evaluation: dict[str, Any]) -> None:
    _each("metrics", evaluation.get("metrics"), _number)
    _optional(evaluation, {"name": _text, **dict.fromkeys(("rows", "confidence_level", "step"), _number)})
    for head, intervals in _dict("intervals", evaluation.get("intervals") or {}).items():
        for metric, interval in _dict(head, intervals).items():
            if not isinstance(interval, (list, tuple)) or len(interval) != 2:
                raise ValueError(f"intervals: {head}, {metric} is {interval!r}, not two numbers")
            _each(metric, dict(enumerate(interval)), _number)
    for head, digests in _dict("heads", evaluation.get("heads") or {}).items():
        _texts(f"heads, {head}", digests)
        if len(digests) != 2:
            raise ValueError(f"heads, {head} is {digests!r}, not two digests")
    for head, baseline in _dict("baseline", evaluation.get("baseline") or {}).items():
        _each(head, {"rows": _dict(head, baseline).get("rows")}, _number)
        _each(head, baseline.get("figures"), _number)


def _optional(values: Mapping[str, Any], checks: Mapping[str, Callable[[str, Any], None]]) -> None:
    for name, check in checks.items():
        if values.get(name) is not None:
            check(name, values[name])


def _each(name: str, values: object, check: Callable[[str, Any], None]) -> None:
    for key, value in _dict(name, values).items():
        check(f"{name}, {key}", value)


def _dict(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {value!r}, not a dict")
    return value


def _text(name: str, value: object) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, not a string")


def _texts(name: str, values: object) -> None:
    if not isinstance(values, list):
        raise ValueError(f"{name} is {values!r}, not a list")
    for value in values:
        _text(name, value)


def _number(name: str, value: object) -> None:
    if not isinstance(value, Real):
        raise ValueError(f"{name} is {value!r}, not a number")


def shown_path(folder: str) -> str | None:
    """Return a folder as it is named in the card's code: as it was given, or the name alone of an absolute path."""
    path = os.path.basename(os.path.abspath(folder)) if os.path.isabs(folder) else os.path.normpath(folder)
    return path.replace(os.sep, "/") if path not in ("", ".") else None

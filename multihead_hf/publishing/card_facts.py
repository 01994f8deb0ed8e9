"""What a model card tells, and what of it may be said by hand."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from huggingface_hub.utils import HFValidationError, validate_repo_id

from ..model.head_multihead import near_names

ASSETS = "assets"


@dataclass
class CardFacts:
    """What is known of a model beside its configuration. Nothing is needed, and what is not known is not said.

    Args:
        model_id: the model's repository on the Hub, or its folder, for the code in the card.
        base_model: the pretrained encoder on the Hub.
        language: codes of languages, such as `"nl"`.
        license: identifier such as `"apache-2.0"`.
        datasets: names of datasets on the Hub that were trained on.
        tags: further tags.
        widget_texts: texts to try the model with; they are published.
        limits: what the model is not for, in your words.
        evaluations: each a dict with `name` (of the rows, or `None`), `metrics` (`<head>_<metric>` → value) and, where
            known, `rows`, `intervals` (head → metric → (low, high)), `confidence_level`, `stale`: thresholds changed
            since, `step`: at which it was taken, if training went on, and `baseline`: head → `rows` and `figures`
            (metric → value) of a linear baseline on the same rows.
        training: dict with `rows`, `labels` (head → label → rows), `hyperparameters`, `epochs` and `steps`, each where
            known.
        versions: package → version.
        pictures: each a dict with `path` (below the folder of the card), `title` and `alt`.
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


def check_given(given: Any) -> dict[str, Any]:
    """Facts of `GIVEN` as they are kept: a single text where there may be several becomes a list.

    Raises:
        ValueError: no mapping, one that does not exist, or of a wrong type.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f'model_card is {given!r}: give a dict such as {{"language": "nl"}}, or it as JSON')
    lists = {each.name for each in fields(CardFacts) if each.name in GIVEN and each.type == list[str]}
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name not in GIVEN:
            raise ValueError(f"model_card has no field {name!r}.{near_names(name, GIVEN)} Fields: {', '.join(GIVEN)}")
        own = [value] if name in lists and isinstance(value, str) else value
        texts = own if name in lists else [own]
        if not isinstance(texts, (list, tuple)) or not all(isinstance(each, str) for each in texts):
            raise ValueError(f"model_card: {name!r} is {value!r}: give {'texts' if name in lists else 'a text'}")
        for text in texts if name in ("datasets", "base_model") else ():
            try:
                validate_repo_id(text)
            except HFValidationError:
                raise ValueError(f"model_card: {name!r} names {text!r}, which is no repository on the Hub") from None
        found[name] = list(own) if name in lists else own
    return found


def picture_path(name: str) -> str:
    """Where a picture of a report lies, below the folder of the card."""
    return f"{ASSETS}/{name}.png"


def is_picture(path: str) -> bool:
    return re.fullmatch(rf"{ASSETS}/[a-z0-9_]+\.png", path) is not None

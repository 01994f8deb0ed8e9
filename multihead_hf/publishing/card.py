"""Model card: the facts on a model as `README.md`, and as data in `model_card.json`."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..model.configuration_multihead import MultiHeadConfig
from ..model.head_multihead import HeadConfig
from ..utils.files import write_whole
from .card_facts import CardFacts, check_facts, is_picture, picture_path
from .card_markdown import MARK, model_card

CARD, FACTS = "README.md", "model_card.json"


def write_card(
    folder: str | os.PathLike,
    config: MultiHeadConfig,
    facts: CardFacts,
    pictures: Mapping[str, bytes] | None = None,
    replace: bool = False,
) -> bool:
    """Write `README.md`, `model_card.json` and pictures into a folder.

    Args:
        folder: of the model.
        config: of the model.
        facts: what else is known.
        pictures: path below the folder → PNG file, of those that `facts` names.
        replace: whether a card that somebody else wrote or changed is replaced, too.

    Returns:
        whether it was written: a card without our mark in it is left as it is, and only the facts are kept.
    """
    place = Path(folder)
    content = json.dumps(asdict(facts), ensure_ascii=False, indent=2)
    card = model_card(config, facts)
    if not replace and not is_ours(place / CARD):
        write_whole(place / FACTS, f"{content}\n".encode())
        return False
    for path, data in (pictures or {}).items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(place / path, data)
    named = {each["path"] for each in facts.pictures}
    for path in _named_pictures(place) - named:
        (place / path).unlink(missing_ok=True)  # of a card before
    write_whole(place / FACTS, f"{content}\n".encode())
    write_whole(place / CARD, card.encode())
    return True


def is_ours(card: Path) -> bool:
    """Return whether a card may be written: there is none, or one that has the mark of a generated card."""
    return not card.is_file() or MARK.encode() in card.read_bytes()


def _named_pictures(folder: Path) -> set[str]:
    """Return the pictures that the card in a folder names."""
    try:
        paths = {each["path"] for each in read_facts(folder).pictures}
    except (ValueError, KeyError):
        return set()
    return {path for path in paths if is_picture(path)}


def read_facts(folder: str | os.PathLike) -> CardFacts:
    """Return the facts of a saved model; empty if it has none.

    Raises:
        ValueError: `model_card.json` is not as we write it.
    """
    path = Path(folder) / FACTS
    if not path.is_file():
        return CardFacts()
    try:
        facts = CardFacts(**json.loads(path.read_text(encoding="utf-8")))
        check_facts(facts)
        return facts
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): delete it, and the card is made without it") from None


def report_evaluation(report: Mapping[str, Any], name: str | None = None) -> dict[str, Any]:
    """Return an evaluation in the form of `CardFacts`.

    Args:
        report: as `EvaluationReport.to_dict` and `report.json` give it.
        name: of its rows.
    """
    heads = report["heads"]
    baselines = {head: own["baseline"] for head, own in heads.items() if own.get("baseline") is not None}
    return {
        "name": name,
        "rows": report["rows"],
        "confidence_level": report["confidence_level"],
        "metrics": {
            f"{head}_{metric}": value for head, own in heads.items() for metric, value in own["figures"].items()
        },
        "intervals": {
            head: {metric: [each["low"], each["high"]] for metric, each in own["intervals"].items()}
            for head, own in heads.items()
        },
        "baseline": {head: {"rows": own["rows"], "figures": own["figures"]} for head, own in baselines.items()},
    }


def report_pictures(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the pictures of a report in the form of `CardFacts`."""
    return [
        {"path": picture_path(each["name"]), "title": each["title"], "alt": each["alt"]} for each in report["pictures"]
    ]


def add_report_folder(
    facts: CardFacts, config: MultiHeadConfig, folder: str | os.PathLike, name: str | None = None
) -> dict[str, bytes]:
    """Replace the evaluations and pictures by those of a saved report.

    Args:
        facts: is changed.
        config: of the model.
        folder: of the report.
        name: of its rows.

    Returns:
        path below the folder of the card → PNG file.

    Raises:
        ValueError: there is no report, it lacks a picture, or it is on other heads, labels or thresholds.
    """
    place = Path(folder)
    try:
        report = json.loads((place / "report.json").read_text(encoding="utf-8"))
        for head, own in report["heads"].items():
            _check_same_head(place, head, own["labels"], config.heads.get(head))
        evaluation, pictures = report_evaluation(report, name), report_pictures(report)
        if not all(is_picture(each["path"]) for each in pictures):
            raise ValueError("a picture must have a plain file name")
        files = {each["path"]: (place / Path(each["path"]).name).read_bytes() for each in pictures}
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{place} has no readable report ({error!r}): multihead-hf report MODEL DATA -o {place}"
        ) from None
    facts.evaluations, facts.pictures = [evaluation], pictures
    return files


def _check_same_head(place: Path, name: str, labels: Mapping[str, Mapping[str, Any]], head: HeadConfig | None) -> None:
    if head is None or list(labels) != head.labels:
        raise ValueError(
            f"the report in {place} is about another model: its head {name!r} has the labels {list(labels)}"
        )
    thresholds = [own["threshold"] for own in labels.values()]
    if head.multi_label and not np.allclose(thresholds, head.thresholds or [0.5] * head.num_labels, atol=1e-6):
        raise ValueError(
            f"the report in {place} was made with other thresholds of the head {name!r}: write the report again"
        )

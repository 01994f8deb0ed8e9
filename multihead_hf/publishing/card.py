"""Model card: the facts about a model as `README.md`, and as data in `model_card.json`."""

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
from .card_heads import decision_settings, head_digests, without_other_heads
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
        folder: Folder of the model.
        config: Configuration of the model.
        facts: Further facts.
        pictures: Path below the folder → PNG file, for the pictures in `facts`.
        replace: Whether to replace a card that the user wrote or changed, too.

    Returns:
        Whether the card was written: a card without the generated mark is kept, and only the facts are saved.
    """
    directory, facts = Path(folder), without_other_heads(facts, config)
    content = json.dumps(asdict(facts), ensure_ascii=False, indent=2)
    card = model_card(config, facts)
    if not replace and not is_ours(directory / CARD):
        write_whole(directory / FACTS, f"{content}\n".encode())
        return False
    for path, data in (pictures or {}).items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(directory / path, data)
    named = {picture["path"] for picture in facts.pictures}
    for path in _named_pictures(directory) - named:
        (directory / path).unlink(missing_ok=True)  # pictures of an earlier card
    write_whole(directory / FACTS, f"{content}\n".encode())
    write_whole(directory / CARD, card.encode())
    return True


def is_ours(card: Path) -> bool:
    """Return whether a card may be written: there is no card, or one with the mark of a generated card."""
    return not card.is_file() or MARK.encode() in card.read_bytes()


def _named_pictures(folder: Path) -> set[str]:
    """Return the pictures that the card in a folder refers to."""
    try:
        paths = {picture["path"] for picture in read_facts(folder).pictures}
    except (ValueError, KeyError):
        return set()
    return {path for path in paths if is_picture(path)}


def read_facts(folder: str | os.PathLike) -> CardFacts:
    """Return the facts of a saved model, which may be empty.

    Raises:
        ValueError: `model_card.json` is not in the expected format.
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
        report: Result of `EvaluationReport.to_dict`, or content of `report.json`.
        name: Name of its rows.
    """
    heads = report["heads"]
    baselines = {head: entry["baseline"] for head, entry in heads.items() if entry.get("baseline") is not None}
    return {
        "name": name or (f"the {split} rows" if (split := report.get("split")) else None),
        "rows": report["rows"],
        "confidence_level": report["confidence_level"],
        "metrics": {
            f"{head}_{metric}": value for head, entry in heads.items() for metric, value in entry["figures"].items()
        },
        "intervals": {
            head: {metric: [interval["low"], interval["high"]] for metric, interval in entry["intervals"].items()}
            for head, entry in heads.items()
        },
        "baseline": {
            head: {"rows": baseline["rows"], "figures": baseline["figures"]} for head, baseline in baselines.items()
        },
    }


def report_pictures(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the pictures of a report in the form of `CardFacts`."""
    return [
        {"path": picture_path(picture["name"]), "title": picture["title"], "alt": picture["alt"]}
        for picture in report["pictures"]
    ]


def add_report_folder(
    facts: CardFacts, config: MultiHeadConfig, folder: str | os.PathLike, name: str | None = None
) -> dict[str, bytes]:
    """Replace the evaluations and pictures by those of a saved report.

    Args:
        facts: Facts to change in place.
        config: Configuration of the model.
        folder: Folder of the report.
        name: Name of its rows.

    Returns:
        Path below the folder of the card → PNG file.

    Raises:
        ValueError: There is no report, it lacks a picture, or its heads, labels or thresholds differ.
    """
    directory = Path(folder)
    try:
        report = json.loads((directory / "report.json").read_text(encoding="utf-8"))
        for head, entry in report["heads"].items():
            _check_same_head(directory, head, entry["labels"], config.heads.get(head))
        evaluation, pictures = report_evaluation(report, name), report_pictures(report)
        if not all(is_picture(picture["path"]) for picture in pictures):
            raise ValueError("a picture must have a plain file name")
        files = {picture["path"]: (directory / Path(picture["path"]).name).read_bytes() for picture in pictures}
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{directory} has no readable report ({error!r}): multihead-hf report MODEL DATA -o {directory}"
        ) from None
    evaluation["heads"] = head_digests(decision_settings(config))
    facts.evaluations, facts.pictures = [evaluation], pictures
    return files


def _check_same_head(
    directory: Path, name: str, labels: Mapping[str, Mapping[str, Any]], head: HeadConfig | None
) -> None:
    if head is None or list(labels) != head.labels:
        raise ValueError(
            f"the report in {directory} is about another model: its head {name!r} has the labels {list(labels)}"
        )
    thresholds = [row["threshold"] for row in labels.values()]
    if head.multi_label and not np.allclose(thresholds, head.thresholds or [0.5] * head.num_labels, atol=1e-6):
        raise ValueError(
            f"the report in {directory} was made with other thresholds of the head {name!r}: write the report again"
        )

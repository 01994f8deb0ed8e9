"""What a resumed run has otherwise than the run of its checkpoint: rows, losses, and how texts are read."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from datasets import Dataset, IterableDataset
from transformers.utils import CONFIG_NAME, logging

from ..data.encoding import WEIGHT
from ..model.configuration_multihead import MultiHeadConfig
from .preparation import TEXT_SETTINGS

logger = logging.get_logger(__name__)

_COMPARED_ROWS = 256
_OF_A_HEAD = ("loss", "loss_kwargs", "loss_weight", "label_weights", "pos_weight")
_OF_THE_MODEL = ("pooling", *TEXT_SETTINGS)


def rows_digest(rows: object) -> dict[str, Any] | None:
    """Return the number of prepared training rows, and digests of the labels and of the tokens of some of them.

    Of a stream, whose rows may be others each time, the number is `None`. Datasets of other classes have no digest.
    """
    if isinstance(rows, IterableDataset):
        return {"rows": None, "labels": None, "tokens": None}
    if not isinstance(rows, Dataset) or not {"input_ids", "labels"} <= set(rows.column_names):
        return None
    count = min(len(rows), _COMPARED_ROWS)
    some = rows.with_format(None).select([index * len(rows) // count for index in range(count)])
    labels = [some[name][:] for name in ("labels", WEIGHT) if name in some.column_names]
    return {"rows": len(rows), "labels": _digest(labels), "tokens": _digest(some["input_ids"][:])}


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def warn_of_changes(
    checkpoint: str, config: MultiHeadConfig, before: Mapping[str, Any] | None, now: Mapping[str, Any] | None
) -> None:
    """Warn of what differs from the run of a checkpoint, which its optimizer and its order of rows belong to.

    Args:
        checkpoint: Folder of the checkpoint.
        config: Configuration of the model.
        before: `rows_digest` of the training rows of the checkpoint's run, if it is known.
        now: `rows_digest` of the training rows.
    """
    changes, texts = [], None
    path = os.path.join(checkpoint, CONFIG_NAME)
    if os.path.isfile(path):  # (an adapter's checkpoint has none)
        with open(path, encoding="utf-8") as file:
            saved = _settings(json.load(file))
        current = _settings(json.loads(json.dumps(config.to_dict(), default=str)))
        changed = [name for name, value in saved.items() if name in current and current[name] != value]
        changes += [f"{name} {current[name]!r} instead of {saved[name]!r}" for name in changed]
        texts = bool(set(changed) & set(_OF_THE_MODEL))
    advice = "Resume with the same settings, or start a new run from its weights"
    if isinstance(before, Mapping) and now is not None:
        differs = [name for name in now if now[name] != before.get(name)]
        others = ""
        if "rows" in differs:
            others = f"{_count(now)} instead of {_count(before)}"
        elif "labels" in differs:
            others = "other training rows or labels"
        elif differs and not texts:
            others = "other training texts" if texts is False else "other training texts, or reads them otherwise"
        if others:
            changes.insert(0, others)
            advice = "Rows that it was trained on may now be validation or test rows. " + advice
    if changes:
        logger.warning(
            f"{checkpoint}: this run has {'; '.join(changes)}. Training continues with that, but it is not the run of "
            f"the checkpoint. {advice}"
        )


def _count(digest: Mapping[str, Any]) -> str:
    return "a stream of training rows" if digest.get("rows") is None else f"{digest['rows']:,} training rows"


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compared settings of a configuration, by name."""
    settings = {name: config.get(name) for name in _OF_THE_MODEL}
    for head in config.get("heads", []):
        settings |= {f"{name} of head {head['name']!r}": head.get(name) for name in _OF_A_HEAD}
    return settings

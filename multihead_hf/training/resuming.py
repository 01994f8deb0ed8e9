"""What a resumed run has otherwise than the run of its checkpoint: rows, losses, and how texts are read."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers.utils import CONFIG_NAME, logging

from ..data.encoding import WEIGHT
from ..model.configuration_multihead import MultiHeadConfig
from .preparation import TEXT_SETTINGS

logger = logging.get_logger(__name__)

_COMPARED_ROWS = 256
_OF_A_HEAD = ("loss", "loss_kwargs", "loss_weight", "label_weights", "pos_weight")
_OF_THE_MODEL = ("pooling", *TEXT_SETTINGS)


def rows_digest(rows: object) -> str | None:
    """Return the number of prepared training rows, and digests of the labels and of the tokens of some of them.

    `None` for rows that may be others each time they are read: streams, and datasets of other classes.
    """
    if not isinstance(rows, Dataset) or not {"input_ids", "labels"} <= set(rows.column_names):
        return None
    count = min(len(rows), _COMPARED_ROWS)
    some = rows.with_format(None).select([index * len(rows) // count for index in range(count)])
    labels = [some[name][:] for name in ("labels", WEIGHT) if name in some.column_names]
    return f"{len(rows)} {_digest(labels)} {_digest(some['input_ids'][:])}"


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def warn_of_changes(checkpoint: str, config: MultiHeadConfig, before: str | None, now: str | None) -> None:
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
    if before is not None and now is not None:
        (rows, labels, tokens), (rows_now, labels_now, tokens_now) = before.split(), now.split()
        others = f"{int(rows_now):,} training rows instead of {int(rows):,}" if rows != rows_now else ""
        others = others or ("other training rows or labels" if labels != labels_now else "")
        if not others and not texts and tokens != tokens_now:
            others = "other training texts" if texts is False else "other training texts, or reads them otherwise"
        if others:
            changes.insert(0, others)
            advice = "Rows that it was trained on may now be validation or test rows. " + advice
    if changes:
        logger.warning(
            f"{checkpoint}: this run has {'; '.join(changes)}. Training continues with that, but it is not the run of "
            f"the checkpoint. {advice}"
        )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compared settings of a configuration, by name."""
    settings = {name: config.get(name) for name in _OF_THE_MODEL}
    for head in config.get("heads", []):
        settings |= {f"{name} of head {head['name']!r}": head.get(name) for name in _OF_A_HEAD}
    return settings

"""What a resumed run has otherwise than the run of its checkpoint: rows, losses, and how texts are read."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from datasets import Dataset
from transformers.utils import CONFIG_NAME, logging

from ..model.configuration_multihead import MultiHeadConfig

logger = logging.get_logger(__name__)

_COMPARED_ROWS = 256
_OF_A_HEAD = ("loss", "loss_kwargs", "loss_weight", "label_weights", "pos_weight")
_OF_THE_MODEL = ("pooling", "text_columns", "max_length", "text_prefix", "truncation", "max_windows", "stride")


def rows_digest(rows: object) -> str | None:
    """Return the number of prepared training rows, with a digest of tokens and labels of some of them.

    `None` for rows that may be others each time they are read: streams, and datasets of other classes.
    """
    if not isinstance(rows, Dataset) or not {"input_ids", "labels"} <= set(rows.column_names):
        return None
    count = min(len(rows), _COMPARED_ROWS)
    some = rows.with_format(None).select([index * len(rows) // count for index in range(count)])
    content = json.dumps([some["input_ids"][:], some["labels"][:]], sort_keys=True)
    return f"{len(rows)} {hashlib.sha256(content.encode()).hexdigest()[:16]}"


def warn_of_changes(checkpoint: str, config: MultiHeadConfig, before: str | None, now: str | None) -> None:
    """Warn of what differs from the run of a checkpoint, which its optimizer and its order of rows belong to.

    Args:
        checkpoint: Folder of the checkpoint.
        config: Configuration of the model.
        before: `rows_digest` of the training rows of the checkpoint's run, if it is known.
        now: `rows_digest` of the training rows.
    """
    changes = []
    if before is not None and now is not None and before != now:
        rows = [f"{int(digest.split()[0]):,} rows" for digest in (before, now)]
        same = rows[0] == rows[1]
        changes.append("other training rows or labels" if same else f"{rows[1]} to train on instead of {rows[0]}")
    path = os.path.join(checkpoint, CONFIG_NAME)
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            saved = _settings(json.load(file))
        current = _settings(json.loads(json.dumps(config.to_dict(), default=str)))
        changes += [
            f"{name} {current[name]!r} instead of {value!r}"
            for name, value in saved.items()
            if name in current and current[name] != value
        ]
    if changes:
        logger.warning(
            f"{checkpoint}: this run has {'; '.join(changes)}. Training continues with that, but it is not the run "
            "of the checkpoint: rows that it was trained on may now be validation or test rows. Resume with the same "
            "rows and settings, or start a new run from its weights"
        )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the compared settings of a configuration, by name."""
    settings = {name: config.get(name) for name in _OF_THE_MODEL}
    for head in config.get("heads", []):
        settings |= {f"{name} of head {head['name']!r}": head.get(name) for name in _OF_A_HEAD}
    return settings

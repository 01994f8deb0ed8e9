"""Help on the file of a run: all keys with their meaning, and an example."""

import re
from dataclasses import MISSING
from enum import Enum
from inspect import cleandoc

from ..model.head_multihead import HeadConfig
from ..model.reading_multihead import LabelReading
from .run_config import HEAD_FIELDS, all_keys

# help texts of `transformers` that do not hold here
_OTHER_HELP = {
    "eval_steps": "Number of steps between two evaluations if eval_strategy is steps; below 1 a share of all steps. "
    "Default: logging_steps if that is given, else 500.",
    "label_smoothing_factor": "Refused, as it is for models with one head: "
    "heads.<name>.loss_kwargs: {label_smoothing: 0.1}.",
}


def describe_keys() -> str:
    """Return every key with its default and meaning, for `multihead-hf train --keys`."""
    lines = []
    for owner in (LabelReading, HeadConfig):
        descriptions = dict(
            re.findall(r"^ {4}([a-z_, ]+): (.+?)(?=\n {4}[a-z]|\n\n)", cleandoc(owner.__doc__ or ""), re.M | re.S)
        )
        for names, text in descriptions.items():
            known = [name for name in names.split(", ") if name in HEAD_FIELDS]
            lines += [f"heads.<name>.{name}: {' '.join(text.split())}" for name in known]
    for section, name, option in all_keys():
        default = "" if option.default in (None, MISSING) else f" [{_plain(option.default)}]"
        meaning = _OTHER_HELP.get(name) if section == "training" else None
        text = " ".join((meaning or str(option.metadata.get("help", ""))).replace("%%", "%").split())
        lines.append(f"{section}.{name}{default}: {text}")
    return "\n".join(lines)


def _plain(value: object) -> object:
    return value.value if isinstance(value, Enum) else value


EXAMPLE = """\
# A training run: multihead-hf train run.yaml
# Every key: multihead-hf train --keys. Paths are relative to where the command runs.
model:
  encoder: sentence-transformers/all-MiniLM-L6-v2
heads:
  topic:                     # several labels per row, such as "roads|noise"
    column: topics
    sep: "|"
    empty: none              # an empty cell: none of the labels (or missing: the row is not labelled)
  mood: {}                   # one label per row; settings left out are inferred from the rows
data:
  train: rows.csv
  split: {train: 0.8, validation: 0.1, test: 0.1}
training:                    # learning rates, epochs and batches are chosen and printed; each can be set here
  output_dir: runs/complaints
  eval_strategy: epoch
  save_strategy: epoch
  save_total_limit: 1
  load_best_model_at_end: true
  metric_for_best_model: f1
after_training:
  tune_thresholds: true
"""

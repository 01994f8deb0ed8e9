"""Saving of chosen thresholds and temperatures into the folder of a saved model."""

import json
from pathlib import Path

from transformers.utils import CONFIG_NAME

from ..model.modeling_multihead import MultiHeadModel
from ..utils.files import write_files_whole, write_whole
from .card import FACTS, read_facts, write_card


def save_decisions(folder: str, model: MultiHeadModel) -> None:
    """Write thresholds and temperatures into the folder that a model was loaded from, and update its card.

    They are written into `config.json`. The weights stay the same, except that learned thresholds are removed.

    Raises:
        ValueError: The card's facts cannot be read; nothing has been written.
    """
    config = model.config
    facts = read_facts(folder) if (Path(folder) / FACTS).is_file() else None
    path = Path(folder) / CONFIG_NAME
    saved = json.loads(path.read_text(encoding="utf-8"))
    learned = any(saved_head.get("learn_thresholds") is not None for saved_head in saved["heads"])
    for entry in saved["heads"]:
        head = config.heads[entry["name"]]
        for setting in ("thresholds", "calibration_temperature", "learn_thresholds"):
            entry[setting] = getattr(head, setting)
    write_whole(path, f"{json.dumps(saved, indent=2, sort_keys=True)}\n".encode())
    if learned:  # after the configuration: learned thresholds that it does not mention are ignored on loading
        write_files_whole(Path(folder), model.save_pretrained, "*.safetensors*")
    if facts is not None:
        facts.evaluations = [{**evaluation, "stale": True} for evaluation in facts.evaluations]
        write_card(folder, config, facts)

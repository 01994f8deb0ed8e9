"""Weights and labels that do not belong together are never loaded without a word."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
from safetensors.torch import load_file, save_file

from multihead_hf import HeadConfig, MultiHeadModel

LABELS = {"topic": HeadConfig(labels=["x", "y"])}
SWAPPED = {"topic": HeadConfig(labels=["y", "x"])}


def test_weights_of_one_model_under_the_labels_of_another(tmp_path: Path) -> None:
    """What is left of a save over an earlier model that was killed between the two files."""
    tiny.model(heads=LABELS).save_pretrained(tmp_path / "old")
    tiny.model(heads=SWAPPED).save_pretrained(tmp_path / "new")
    shutil.copy(tmp_path / "new/config.json", tmp_path / "old/config.json")
    with pytest.raises(ValueError, match=r"weights were saved for other labels than its configuration has"):
        MultiHeadModel.from_pretrained(tmp_path / "old")
    by_hand = MultiHeadModel.from_pretrained(tmp_path / "old", ignore_mismatched_sizes=True)
    by_hand.save_pretrained(tmp_path / "again")
    assert MultiHeadModel.from_pretrained(tmp_path / "again").config.heads["topic"].labels == ["y", "x"]


def test_changes_of_the_heads_are_signed_when_they_are_saved(tmp_path: Path) -> None:
    model = tiny.model(heads=LABELS)
    model.save_pretrained(tmp_path)
    model = MultiHeadModel.from_pretrained(tmp_path)
    model.extend_head("topic", ["z"])
    model.add_head("mood", HeadConfig(labels=["calm"]))
    model.save_pretrained(tmp_path)
    assert list(MultiHeadModel.from_pretrained(tmp_path).config.heads) == ["topic", "mood"]


def test_models_of_before_have_no_signature(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny.model().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["heads.signature"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    MultiHeadModel.from_pretrained(tmp_path)
    assert "signature" not in caplog.text


def test_a_whole_model_is_not_saved_beside_an_adapter(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ValueError, match=r"holds an adapter"):
        tiny.model().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["adapter_config.json"]

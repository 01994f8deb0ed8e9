"""What a head remembers of how its labels were read: checked, saved, loaded, and kept when heads change."""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny

from multihead_hf import HeadConfig, LabelReading, MultiHeadConfig, MultiHeadModel

MULTI = "multi_label_classification"


def remembering(**reading: Any) -> HeadConfig:
    return HeadConfig(tiny.TOPICS, MULTI, reading=reading)


def test_a_reading_is_a_dict_of_what_is_said() -> None:
    head = HeadConfig(tiny.TOPICS, MULTI, reading={"sep": "|", "empty": None})
    assert head.reading == LabelReading(sep="|")
    assert head.to_dict()["reading"] == {"sep": "|"}
    assert HeadConfig(**head.to_dict()) == head
    assert HeadConfig(["a"], reading=LabelReading()).reading is None
    assert LabelReading.of({"column": ("a", "b")}) == LabelReading(column=["a", "b"])


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"colum": "x"}, r"reading: unknown setting 'colum'\. Did you mean 'column'\? Known: column, sep, empty, multi_hot"),
        ("|", r"reading '\|': give a LabelReading, or a dict with column, sep, empty, multi_hot"),
        ({"sep": 5}, r"sep 5: give the text between the labels"),
        ({"empty": "non"}, r"unknown empty 'non'\. Did you mean 'none'"),
        ({"multi_hot": 1}, r"multi_hot 1: give True or False"),
        ({"column": ["a", 1]}, r"column \['a', 1\]: give the name of a column"),
    ],
)  # fmt: skip
def test_a_reading_is_checked(reading: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HeadConfig(["a", "b"], reading=reading)
    with pytest.raises(ValueError, match=rf"head 'x': {message}"):
        MultiHeadConfig(encoder=tiny.encoder_config(), heads={"x": {"labels": ["a", "b"], "reading": reading}})


def test_a_reading_is_saved_and_an_older_config_has_none(tmp_path: Path) -> None:
    heads = {"topic": remembering(column="topics", sep="|", empty="none"), "mood": HeadConfig(tiny.MOODS)}
    tiny.model(heads=heads).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    saved = json.loads(path.read_text())
    assert saved["heads"][0]["reading"] == {"column": "topics", "sep": "|", "empty": "none"}
    assert MultiHeadModel.from_pretrained(tmp_path).config.heads == heads
    for head in saved["heads"]:
        del head["reading"]
    path.write_text(json.dumps(saved))
    assert [head.reading for head in MultiHeadConfig.from_pretrained(tmp_path).heads.values()] == [None, None]


def test_surgery_keeps_what_a_head_remembers() -> None:
    columns = remembering(column=["roads", "waste", "noise"])
    heads = {"topic": remembering(sep="|"), "more": columns, "mood": HeadConfig(tiny.MOODS)}
    model = tiny.model(heads=heads)
    model.rename_head("topic", "subject")
    model.rename_head("mood", "feeling")
    model.rename_head("feeling", "tone")
    model.extend_head("more", ["light"])
    model.extend_head("subject", ["light"])
    expected = {
        "subject": LabelReading(column="topic", sep="|"),
        "more": LabelReading(column=["roads", "waste", "noise", "light"]),
        "tone": LabelReading(column="mood"),  # still the column that it was trained on
    }
    assert {name: head.reading for name, head in model.config.heads.items()} == expected
    assert heads["topic"].reading == LabelReading(sep="|")
    other = tiny.model(heads={"x": HeadConfig(["a", "b"])})
    other.load_state_dict({**other.state_dict(), **{k: v for k, v in model.state_dict().items() if "encoder" in k}})
    other.load_heads(model, ["subject"])
    assert other.config.heads["subject"].reading == expected["subject"]

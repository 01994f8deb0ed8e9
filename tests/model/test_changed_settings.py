"""Settings that were changed after the model was made: they hold, or are refused where they are used."""

from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model

from multihead_hf import HeadConfig, MultiHeadConfig, MultiHeadModel, MultiHeadPredictor

TEXTS = ["w1 w2 w3", "w9"]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("thresholds", [0.3], "head 'topic': thresholds: 1 values for 3 labels"),
        ("thresholds", [0.3, float("nan"), 0.2], "head 'topic': thresholds nan"),
        ("thresholds", 2.0, "head 'topic': threshold 2.0 of label 'roads'"),
        ("thresholds", "x", "head 'topic': thresholds 'x'"),
        ("calibration_temperature", -2.0, "head 'topic': calibration_temperature -2.0"),
        ("calibration_temperature", 0.0, "head 'topic': calibration_temperature 0.0"),
        ("calibration_temperature", 1e-40, "head 'topic': calibration_temperature 1e-40"),
        ("calibration_temperature", [2.0], "head 'topic': calibration_temperature: 1 values for 3 labels"),
        ("labels", ["a", "b"], "head 'topic': 3 logits, but 2 labels in the configuration"),
        ("labels", ["a", "b", "c", "d"], "head 'topic': 3 logits, but 4 labels in the configuration"),
    ],
)
def test_of_a_head(setting: str, value: Any, message: str, tmp_path: Path) -> None:
    model = tiny.model()
    predictor = MultiHeadPredictor(model, tiny.tokenizer())
    predictor.predict(TEXTS)
    setattr(model.config.heads["topic"], setting, value)
    with pytest.raises(ValueError, match=message):
        predictor.predict(TEXTS)
    with pytest.raises(ValueError, match=message):
        model.decode({"topic": torch.zeros(1, 3)})
    if not isinstance(value, float) or value != 2.0:  # (one threshold for all labels may be written as a number)
        with pytest.raises(ValueError, match="head 'topic'"):
            model.save_pretrained(tmp_path / "saved")
        assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("pooling", "x", "unknown pooling 'x'"),
        ("truncation", "x", "unknown truncation 'x'"),
        ("window_pooling", "x", "unknown window_pooling 'x'"),
        ("max_length", "8", "max_length '8': give a whole number above 0"),
        ("text_prefix", 5, "text_prefix 5: give a string"),
        ("text_prefix", "w1 " * 70, "take 72 tokens, so a max_length of 16 leaves no room for text"),
    ],
)
def test_of_the_model(setting: str, value: Any, message: str) -> None:
    model = tiny.model(max_length=16)
    predictor = MultiHeadPredictor(model, tiny.tokenizer())
    setattr(model.config, setting, value)
    with pytest.raises(ValueError, match=message):
        predictor.predict(TEXTS)


def test_an_embedding_that_was_taken_away() -> None:
    model = tiny.model()
    predictor = MultiHeadPredictor(model, tiny.tokenizer())
    predictor.predict(TEXTS)
    model.resize_token_embeddings(20)
    with pytest.raises(ValueError, match="the encoder has embeddings for only 20 tokens"):
        predictor.predict(["w3"])


def test_logits_of_another_form() -> None:
    model = tiny.model()
    for logits in (torch.zeros(3), torch.zeros(1, 1, 3), torch.zeros(1, 3).numpy()):
        with pytest.raises(ValueError, match=r"head 'topic': logits must be a tensor \(rows, labels\)"):
            model.decode({"topic": logits})
    with pytest.raises(ValueError, match="head 'topic': 2 logits, but 3 labels"):
        model.decode({"topic": torch.zeros(1, 2)})


def test_the_base_of_an_adapter_is_not_saved_with_parts_of_it(tmp_path: Path) -> None:
    adapted = get_peft_model(tiny.model(), LoraConfig(target_modules=["query"]))
    with pytest.raises(ValueError, match="an adapter is wrapped around parts of this model"):
        adapted.get_base_model().save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()
    adapted.merge_and_unload().save_pretrained(tmp_path / "saved")
    MultiHeadModel.from_pretrained(tmp_path / "saved")


@pytest.mark.parametrize("setting", ["label_weights", "pos_weight"])
@pytest.mark.parametrize("value", [1e38, 1e-40])
def test_weights_that_float32_cannot_add_up(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{setting} of label 'a'.*weights are relative"):
        HeadConfig(labels=["a", "b"], problem_type="multi_label_classification", **{setting: [value, 1.0]})
    with pytest.raises(ValueError, match=r"loss_weight .*weights are relative"):
        HeadConfig(labels=["a", "b"], loss_weight=value)


def test_weights_of_another_number_of_rows() -> None:
    batch = {**tiny.batch(rows=3), "labels": tiny.labels(rows=3)}
    with pytest.raises(ValueError, match=r"sample_weight must be a tensor \(3,\), not \(2,\)"):
        tiny.model()(**batch, sample_weight=torch.ones(2))


def test_heads_that_are_no_names() -> None:
    with pytest.raises(ValueError, match="heads 5: give a name, or a list of names"):
        MultiHeadPredictor(tiny.model(), tiny.tokenizer(), heads=5)


def test_an_activation_that_does_not_exist() -> None:
    encoder = tiny.bert_config(0.0)
    encoder.hidden_act = "nope"
    with pytest.raises(ValueError, match="encoder: its configuration names 'nope', which transformers does not know"):
        MultiHeadModel(MultiHeadConfig(encoder=encoder, heads=tiny.two_heads()))


@pytest.mark.parametrize(("setting", "value"), [("max_labels", "2"), ("max_labels", 9), ("min_labels", 9)])
def test_impossible_limits_of_labels(setting: str, value: Any) -> None:
    model = tiny.model()
    setattr(model.config.heads["topic"], setting, value)
    with pytest.raises(ValueError, match=f"head 'topic': {setting} {value!r}: give a whole number from . to 3"):
        MultiHeadPredictor(model, tiny.tokenizer()).predict(TEXTS)
    setattr(model.config.heads["topic"], setting, None)
    model.config.heads["topic"].min_labels, model.config.heads["topic"].max_labels = 3, 1
    with pytest.raises(ValueError, match="head 'topic': min_labels 3 is above max_labels 1"):
        model.decode({"topic": torch.zeros(1, 3)})

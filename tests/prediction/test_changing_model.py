"""Predictor and pipeline beside a model, a tokenizer and settings that change."""

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from peft import LoraConfig, get_peft_model
from transformers import pipeline

from multihead_hf import HeadConfig, MultiHeadModel, MultiHeadPredictor

TEXTS = ["w1 w2 w3 w4 w5 w6 w7", "w9"]
TASK = "multi-head-text-classification"


def fresh(model: object) -> np.ndarray:
    return MultiHeadPredictor(model, tiny.tokenizer()).logits(TEXTS)["mood"]


@pytest.mark.parametrize("change", ["text_prefix", "max_length", "weights", "training", "hook"])
def test_nothing_is_remembered_of_a_model_that_has_changed(change: str) -> None:
    model = tiny.model()
    predictor = MultiHeadPredictor(model, tiny.tokenizer())
    before = predictor.logits(TEXTS)["mood"]
    if change == "weights":
        with torch.no_grad():
            model.heads["mood"].layers[-1].weight.mul_(2)
    elif change == "training":
        model.train()
    elif change == "hook":
        model.heads["mood"].register_forward_hook(lambda module, inputs, output: 2 * output)
    else:
        setattr(model.config, change, {"text_prefix": "w3 w4 ", "max_length": 4}[change])
    after = predictor.logits(TEXTS)["mood"]
    np.testing.assert_allclose(after, fresh(model))
    assert (change == "training") == np.array_equal(before, after)
    assert model.training == (change == "training")


def test_an_adapter_that_is_switched_off() -> None:
    model = get_peft_model(tiny.model(), LoraConfig(target_modules=["query"], init_lora_weights=False)).eval()
    predictor = MultiHeadPredictor(model, tiny.tokenizer())
    on = predictor.logits(TEXTS)["mood"]
    with model.disable_adapter():
        off = predictor.logits(TEXTS)["mood"]
    np.testing.assert_allclose(off, fresh(tiny.model()), rtol=1e-5)
    assert not np.allclose(on, off)


def test_heads_that_come_and_go() -> None:
    model = tiny.model()
    every, one = (MultiHeadPredictor(model, tiny.tokenizer(), heads=heads) for heads in (None, ["mood"]))
    for each in (every, one):
        each.predict(TEXTS)
    model.rename_head("mood", "tone")
    model.extend_head("tone", ["sad"])
    model.add_head("new", HeadConfig(labels=["a", "b"]))
    found = every.predict(TEXTS)
    assert {name: own.probabilities.shape[1] for name, own in found.items()} == {"topic": 3, "tone": 3, "new": 2}
    with pytest.raises(ValueError, match=r"the model has no head 'mood'"):
        one.predict(TEXTS)


def test_a_pipeline_of_a_model_in_training() -> None:
    model = tiny.model(heads={"mood": HeadConfig(labels=tiny.MOODS, dropout=0.5)}).train()
    pipe = pipeline(TASK, model=model, tokenizer=tiny.tokenizer())
    model.train()
    assert pipe(TEXTS[0]) == pipe(TEXTS[0])
    assert model.heads["mood"].training


def test_a_pipeline_as_others_of_transformers() -> None:
    model = tiny.model()
    pipe = pipeline(TASK, model=model, tokenizer=tiny.tokenizer())
    (row,) = pipe(TEXTS[0], top_k=None)
    assert sorted(each["label"] for each in row["topic"]) == sorted(tiny.TOPICS)
    (raw,) = pipe(TEXTS[0], top_k=None, function_to_apply="none")
    logits = MultiHeadPredictor(model, tiny.tokenizer()).logits([TEXTS[0]])["topic"][0]
    for entry in raw["topic"]:
        assert entry["score"] == pytest.approx(logits[tiny.TOPICS.index(entry["label"])], rel=1e-5)
    (shares,) = pipe(TEXTS[0], top_k=None, function_to_apply="softmax")
    assert sum(entry["score"] for entry in shares["topic"]) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"unknown function_to_apply 'sigmoidd'.*'sigmoid'"):
        pipe(TEXTS[0], function_to_apply="sigmoidd")


def test_learned_thresholds_decide_before_they_are_saved(tmp_path: Path) -> None:
    head = HeadConfig(
        labels=tiny.TOPICS, problem_type="multi_label_classification", loss="soft_f1_bce", learn_thresholds=0.4
    )
    model = tiny.model(heads={"topic": head})
    with torch.no_grad():
        model.heads["topic"].threshold_logits.fill_(3.0)
    logits = {"topic": torch.full((1, 3), 1.0)}
    assert model.decode(logits)["topic"].labels == [[]]
    model.save_pretrained(tmp_path)
    assert MultiHeadModel.from_pretrained(tmp_path).decode(logits)["topic"].labels == [[]]


def test_a_tokenizer_that_another_thread_uses() -> None:
    tokenizer = tiny.tokenizer()
    model = tiny.model(max_length=8)
    texts = [f"w{row % 60} " * (row % 40 + 1) for row in range(200)]
    expected = MultiHeadPredictor(model, tiny.tokenizer(), precision="fp32").logits(texts)["mood"]
    predictor = MultiHeadPredictor(model, tokenizer, window_rows=5, precision="fp32")
    stopped = threading.Event()

    def others() -> None:
        while not stopped.is_set():
            tokenizer(texts)

    thread = threading.Thread(target=others)
    thread.start()
    try:
        for _ in range(10):
            np.testing.assert_allclose(predictor.logits(texts)["mood"], expected, atol=1e-5)
    finally:
        stopped.set()
        thread.join()


def test_one_text_for_a_model_of_pairs() -> None:
    model = tiny.model(text_columns=["question", "answer"])
    predictor = MultiHeadPredictor(model, tiny.tokenizer())
    with pytest.raises(ValueError, match=r"text 0: the model reads pairs of texts, \{'question': …, 'answer': …\}"):
        predictor.predict(["w1"])
    with pytest.raises(ValueError, match=r"the model reads pairs of texts"):
        pipeline(TASK, model=model, tokenizer=tiny.tokenizer())("w1")
    assert predictor.predict([{"question": "w1", "answer": "w2"}])["mood"].labels


def test_weights_that_pytorch_does_not_see_change() -> None:
    model = tiny.model()
    predictor = MultiHeadPredictor(model, tiny.tokenizer())
    before = predictor.logits(TEXTS)["mood"]
    for parameter in model.parameters():
        parameter.data.mul_(1.5)  # as averages of weights are put in place
    after = predictor.logits(TEXTS)["mood"]
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, fresh(model))


def test_an_adapter_that_is_scaled() -> None:
    model = get_peft_model(tiny.model(), LoraConfig(target_modules=["query"], init_lora_weights=False)).eval()
    predictor = MultiHeadPredictor(model, tiny.tokenizer())
    before = predictor.logits(TEXTS)["mood"]
    for module in model.modules():
        if hasattr(module, "scale_layer"):
            module.scale_layer(30.0)
    after = predictor.logits(TEXTS)["mood"]
    assert not np.array_equal(before, after)
    np.testing.assert_allclose(after, fresh(model))


@pytest.mark.parametrize("wrong", [{"window_rows": "5"}, {"window_rows": 2.5}, {"batch_tokens": 0}])
def test_settings_that_are_no_whole_numbers(wrong: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}.*give a whole number of 1 or more"):
        MultiHeadPredictor(tiny.model(), tiny.tokenizer(), **wrong)


def test_what_is_no_model_or_no_tokenizer() -> None:
    for wrong in ("x", tiny.model().encoder, None):
        with pytest.raises(ValueError, match=r"a MultiHeadModel is expected|there is no model"):
            MultiHeadPredictor(wrong, tiny.tokenizer())
    with pytest.raises(ValueError, match="a tokenizer is expected, not None"):
        MultiHeadPredictor(tiny.model(), None)


def test_a_predictor_is_pickled_with_its_weights_once() -> None:
    predictor = MultiHeadPredictor(tiny.model(), tiny.tokenizer())
    before = len(pickle.dumps(predictor))
    found = predictor.logits(TEXTS)["mood"]
    again = pickle.dumps(predictor)
    assert len(again) < 1.2 * before
    np.testing.assert_array_equal(pickle.loads(again).logits(TEXTS)["mood"], found)

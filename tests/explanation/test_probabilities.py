"""`predict_proba`: scikit-learn's shape, the pipeline's scores."""

from typing import Any

import numpy as np
import pytest
import tiny
import torch
from transformers import pipeline

from multihead_hf import HeadConfig, MultiHeadModel, explain, predict_proba

TEXTS = ["w1 w2 w3", "", "w59", "w4 w5 w6 w7 w8 w9 w10", "w59", "w1"]


def model(family: str = "bert", **settings: Any) -> MultiHeadModel:
    heads = {
        "topic": HeadConfig(
            labels=tiny.TOPICS, problem_type="multi_label_classification", calibration_temperature=[0.5, 2.0, 1.0]
        ),
        "mood": HeadConfig(labels=["calm", "angry", "sad"], calibration_temperature=1.7),
    }
    made = tiny.model(family, heads=heads, pooling="mean", **settings)
    for parameter in made.heads.parameters():
        parameter.data *= 20  # fresh heads hardly tell texts apart
    return made


def pipeline_scores(made: MultiHeadModel, texts: list[Any], head: str) -> np.ndarray:
    predict = pipeline("multi-head-text-classification", model=made, tokenizer=tiny.tokenizer(), return_all_scores=True)
    inputs = [text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]} for text in texts]
    rows = [{entry["label"]: entry["score"] for entry in row[head]} for row in predict(inputs)]
    return np.array([[row[label] for label in made.config.heads[head].labels] for row in rows])


@pytest.mark.parametrize("batch_size", [1, 2, 32])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_length": 5, "text_prefix": "w9 "},
        {"max_length": 5, "truncation": "head+tail"},
        {"max_length": 5, "truncation": "windows", "stride": 1, "window_pooling": "max", "text_prefix": "w9 "},
    ],
)
def test_the_scores_of_the_pipeline(settings: dict[str, Any], batch_size: int) -> None:
    made = model(**settings)
    mood = predict_proba(made, tiny.tokenizer(), "mood", batch_size=batch_size)(TEXTS)
    assert mood.shape == (6, 3)
    np.testing.assert_allclose(mood.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(mood, pipeline_scores(made, TEXTS, "mood"), atol=1e-5)
    assert len({round(score, 3) for score in mood[:, 0]}) > 3
    topics = predict_proba(made, tiny.tokenizer(), "topic", batch_size=batch_size)(TEXTS)
    assert isinstance(topics, list)
    assert [own.shape for own in topics] == [(6, 2)] * 3
    expected = pipeline_scores(made, TEXTS, "topic")
    for column, own in enumerate(topics):
        np.testing.assert_allclose(own[:, 1], expected[:, column], atol=1e-5)
        np.testing.assert_allclose(own.sum(1), 1, atol=1e-12)
    one = predict_proba(made, tiny.tokenizer(), "topic", "waste", batch_size)(TEXTS)
    np.testing.assert_array_equal(one, topics[1])


def test_pairs() -> None:
    made = model()
    pairs = [("w1", "w2"), ("w1 w2 w3", ""), ("", "w4")]
    expected = pipeline_scores(made, pairs, "mood")
    function = predict_proba(made, tiny.tokenizer(), "mood")
    np.testing.assert_allclose(function(pairs), expected, atol=1e-5)
    np.testing.assert_array_equal(function(np.array(pairs)), function(pairs))


def test_what_lime_and_shap_pass() -> None:
    function = predict_proba(model(), tiny.tokenizer(), "topic", "waste")
    expected = function(TEXTS)
    np.testing.assert_array_equal(function(np.array(TEXTS)), expected)
    np.testing.assert_array_equal(function(np.array(TEXTS, dtype=object)), expected)
    np.testing.assert_array_equal(function(tuple(TEXTS)), expected)
    assert function([]).shape == (0, 2)
    assert predict_proba(model(), tiny.tokenizer(), "mood")([]).shape == (0, 3)


def test_texts_that_come_twice_are_computed_once() -> None:
    made, rows = model(), []
    made.register_forward_pre_hook(lambda _m, _a, inputs: rows.append(len(inputs["input_ids"])), with_kwargs=True)
    predict_proba(made, tiny.tokenizer(), "mood", batch_size=2)(["w1", "w2 w3", "w1", "w1"] * 5)
    assert rows == [2]


def test_the_model_is_left_as_it_is() -> None:
    made = model().train()
    made.encoder.eval()
    modes = [module.training for module in made.modules()]
    assert len(set(modes)) == 2
    first = predict_proba(made, tiny.tokenizer(), "mood")(TEXTS)
    np.testing.assert_array_equal(predict_proba(made, tiny.tokenizer(), "mood")(TEXTS), first)  # no dropout
    assert [module.training for module in made.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in made.parameters())
    half = model()
    half.encoder.to(torch.bfloat16)
    scores = predict_proba(half, tiny.tokenizer(), "mood")(TEXTS)
    np.testing.assert_allclose(scores, pipeline_scores(half, TEXTS, "mood"), atol=1e-2)


@pytest.mark.parametrize(
    ("head", "label", "texts", "message"),
    [
        ("modo", None, [], r"predict_proba: the model has no head 'modo'.*Did you mean 'mood'"),
        ("mood", "angri", [], r"head 'mood' has no label 'angri'. Did you mean 'angry'\? Its labels: \['calm'"),
        ("mood", None, "w1", r"give a list of texts: \[text\]"),
        ("mood", None, ["w1", None], r"text 1: a text must be a string, or a pair of strings, not NoneType: None"),
        ("mood", None, [("w1", "w2", "w3")], r"text 0: a text must be a string, or a pair"),
        ("mood", None, ["w1", ("w1", "w2")], r"some of the inputs are texts and some are pairs"),
    ],
)
def test_refusals(head: str, label: str | None, texts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict_proba(model(), tiny.tokenizer(), head, label)(texts)
    with pytest.raises(ValueError, match="batch_size 0"):
        predict_proba(model(), tiny.tokenizer(), "mood", batch_size=0)(["w1"])
    with pytest.raises(ValueError, match=r"is not a multi-head model: give MultiHeadModel"):
        predict_proba(tiny.tokenizer(), tiny.tokenizer(), "mood")  # type: ignore[arg-type]


def test_one_text_for_a_model_of_pairs_is_refused() -> None:
    pairs = tiny.model(text_columns=["question", "answer"])
    message = r"the model reads pairs of texts, .'question': …, 'answer': ….*, but this is a single text: 'w1'"
    with pytest.raises(ValueError, match=f"text 1: {message}"):
        predict_proba(pairs, tiny.tokenizer(), "mood")([("w1", "w2"), "w1"])
    with pytest.raises(ValueError, match=message):
        explain(pairs, tiny.tokenizer(), "w1", "mood")


@pytest.mark.parametrize("size", [0, "3", 1.5, True])
def test_a_batch_size_that_is_no_number_of_texts(size: Any) -> None:
    with pytest.raises(ValueError, match=f"batch_size {size!r}: give a whole number of 1 or more"):
        predict_proba(tiny.model(), tiny.tokenizer(), "mood", batch_size=size)(["w1"])


def test_texts_and_heads_of_another_type() -> None:
    with pytest.raises(ValueError, match=r"give a list of texts: \[text\]"):
        predict_proba(tiny.model(), tiny.tokenizer(), "mood")(None)
    with pytest.raises(ValueError, match=r"the model has no head \['mood'\]"):
        predict_proba(tiny.model(), tiny.tokenizer(), ["mood"])

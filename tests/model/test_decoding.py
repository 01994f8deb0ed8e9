"""Probabilities, decisions, names and scores."""

from typing import Any

import pytest
import tiny
import torch

from multihead_hf import HeadConfig, MultiHeadModel
from multihead_hf.model.decoding_multihead import decide, probabilities

LOGITS = {
    "topic": torch.tensor([[2.0, -1.0, 0.0], [-3.0, -2.0, -1.0]]),
    "mood": torch.tensor([[1.0, 3.0], [0.0, 0.0]]),
}


def test_probabilities_and_decisions() -> None:
    found = tiny.model().decode(LOGITS)
    torch.testing.assert_close(found["topic"].probabilities, torch.sigmoid(LOGITS["topic"]))
    torch.testing.assert_close(found["mood"].probabilities, torch.softmax(LOGITS["mood"], -1))
    # 0.5 is on: score >= threshold; a tie goes to the first label
    assert found["topic"].decisions.tolist() == [[True, False, True], [False, False, False]]
    assert found["mood"].decisions.tolist() == [[False, True], [True, False]]


def test_names_and_scores_come_best_first() -> None:
    found = tiny.model().decode(LOGITS)
    assert found["topic"].labels == [["roads", "noise"], []]
    assert found["topic"].scores[0] == pytest.approx([0.8808, 0.5], abs=1e-4)
    assert found["mood"].labels == [["angry"], ["calm"]]


def test_top_k_names_labels_whatever_the_threshold() -> None:
    found = tiny.model().decode(LOGITS, top_k=2)
    assert found["topic"].labels == [["roads", "noise"], ["noise", "waste"]]
    assert found["mood"].labels == [["angry", "calm"], ["calm", "angry"]]
    assert [len(row) for row in tiny.model().decode(LOGITS, top_k=99)["topic"].labels] == [3, 3]


def test_saved_thresholds_decide() -> None:
    model = tiny.model(heads=tiny.two_heads(thresholds={"roads": 0.9, "waste": 0.2}))
    assert model.config.heads["topic"].thresholds == [0.9, 0.2, 0.5]
    assert model.decode(LOGITS)["topic"].labels[0] == ["noise", "waste"]


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [
        (0.2, ["roads", "noise", "waste"]),
        ({"topic": 0.95}, []),
        ({"topic": [0.95, 0.2, 0.9]}, ["waste"]),
        ({"topic": {"noise": 0.6}}, ["roads"]),
        ({}, ["roads", "noise"]),
    ],
)
def test_thresholds_by_argument(threshold: object, expected: list[str]) -> None:
    model = tiny.model()
    assert model.decode(LOGITS, threshold=threshold)["topic"].labels[0] == expected
    assert model.config.heads["topic"].thresholds is None


def test_calibration_divides_logits_before_the_thresholds() -> None:
    heads = tiny.two_heads(calibration_temperature=[2.0, 1.0, 0.5], thresholds=0.7)
    heads["mood"].calibration_temperature = 4.0
    found = tiny.model(heads=heads).decode(LOGITS)
    torch.testing.assert_close(found["topic"].probabilities[0], torch.sigmoid(torch.tensor([1.0, -1.0, 0.0])))
    torch.testing.assert_close(found["mood"].probabilities, torch.softmax(LOGITS["mood"] / 4, -1))
    assert found["topic"].labels[0] == ["roads"]


def test_half_precision_logits_are_decoded_in_float32() -> None:
    head = HeadConfig(labels=["a"], problem_type="multi_label_classification", thresholds=0.565)
    scores = probabilities(head, torch.tensor([[0.26]], dtype=torch.bfloat16))
    assert scores.dtype == torch.float32
    assert decide(head, scores).tolist() == [[bool(torch.sigmoid(torch.tensor(0.26).bfloat16().float()) >= 0.565)]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_k": 0}, "top_k 0"),
        ({"threshold": 1.0}, r"head 'topic': threshold 1.0 of label 'roads'"),
        ({"threshold": {"topik": 0.5}}, r"threshold: the model has no head 'topik'.*'topic'"),
        ({"threshold": {"topic": {"roda": 0.5}}}, r"head 'topic'.*'roda' is not a label.*'roads'"),
        ({"threshold": {"topic": [0.5]}}, r"head 'topic'.*1 values for 3 labels"),
        ({"threshold": {"mood": 0.5}}, r"head 'mood': thresholds are for multi-label heads"),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny.model().decode(LOGITS, **arguments)


def test_a_head_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"logits: the model has no head 'moods'.*'mood'"):
        tiny.model().decode({"moods": LOGITS["mood"]})


def limited_topic(**settings: Any) -> MultiHeadModel:
    heads = tiny.two_heads()
    for name, value in settings.items():
        setattr(heads["topic"], name, value)
    return tiny.model(heads=heads)


def test_at_least_and_at_most_so_many_labels() -> None:
    def decided(**settings: Any) -> list[list[str]]:
        return limited_topic(**settings).decode(LOGITS)["topic"].labels

    assert decided(min_labels=1) == [["roads", "noise"], ["noise"]]
    assert decided(min_labels=2) == [["roads", "noise"], ["noise", "waste"]]
    assert decided(max_labels=1) == [["roads"], []]
    assert decided(min_labels=1, max_labels=1) == [["roads"], ["noise"]]
    # the one nearest to its threshold, not the one with the highest score: −3 is 0.8 below logit(0.1), −1 is 3.9 below
    assert decided(min_labels=1, thresholds=[0.1, 0.95, 0.95]) == [["roads"], ["roads"]]
    # other thresholds keep to the limits, and names asked for by number are another matter
    model = limited_topic(min_labels=1)
    assert model.decode(LOGITS, threshold=0.99)["topic"].labels == [["roads"], ["noise"]]
    assert [len(row) for row in model.decode(LOGITS, top_k=3)["topic"].labels] == [3, 3]


def test_limits_hold_at_the_ends_of_the_scale_and_on_ties() -> None:
    head = HeadConfig(labels=["a", "b", "c"], problem_type="multi_label_classification", min_labels=1, max_labels=2)
    scores = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.2, 0.2, 0.1]])
    assert decide(head, scores).tolist() == [[True, False, False], [True, True, False], [True, False, False]]


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"min_labels": 3}, "min_labels 3: give a whole number from 0 to 2"),
        ({"max_labels": 0}, "max_labels 0: give a whole number from 1 to 2"),
        ({"max_labels": 1.5}, "max_labels 1.5"),
        ({"min_labels": True}, "min_labels True"),
        ({"min_labels": 2, "max_labels": 1}, "min_labels 2 is above max_labels 1"),
        ({"min_labels": 1, "problem_type": "single_label_classification"}, "min_labels is for multi-label heads"),
    ],
)
def test_limits_that_cannot_be(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        HeadConfig(**{"labels": ["a", "b"], "problem_type": "multi_label_classification", **settings})

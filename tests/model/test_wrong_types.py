"""Configurations with values of wrong types: one clear `ValueError`, and nothing that is taken for something else."""

import copy
from typing import Any

import pytest
import tiny
import torch
from transformers import pipeline

from multihead_hf import MultiHeadConfig, MultiHeadModel, MultiHeadPredictor

VALUES = [
    5,
    -1,
    1.5,
    True,
    "x",
    "",
    [],
    ["x"],
    [1],
    {},
    {"a": 1},
    {"roads": [1]},
    None,
    float("nan"),
    10**400,
    [None],
    [[1]],
]
OF_THE_MODEL = [
    *(name for name in MultiHeadConfig.__annotations__ if name != "encoder"),
    *("return_dict", "output_hidden_states", "output_attentions"),
]
SAVED = tiny.model(heads=tiny.two_heads(loss="soft_f1_bce")).config.to_dict()


def refusal(settings: dict[str, Any]) -> str:
    """Why these settings are refused; an empty text where a model of them predicts."""
    try:
        config = MultiHeadConfig.from_dict(copy.deepcopy(settings))
    except ValueError as error:
        return str(error)
    model = MultiHeadModel(config).eval()
    assert model.decode(model(**tiny.batch(), return_dict=True).logits)
    assert config.to_json_string()
    return ""


def check(refusals: list[str]) -> None:
    assert any(refusals)
    assert max(map(len, refusals)) < 2000
    assert "\n" not in "".join(refusals)


@pytest.mark.parametrize("name", OF_THE_MODEL)
def test_a_setting_of_the_model(name: str) -> None:
    check([refusal({**SAVED, name: value}) for value in VALUES])


@pytest.mark.parametrize("name", SAVED["heads"][0])
@pytest.mark.parametrize("head", [0, 1])
def test_a_setting_of_a_head(head: int, name: str) -> None:
    found = []
    for value in VALUES:
        settings = copy.deepcopy(SAVED)
        settings["heads"][head][name] = value
        found.append(refusal(settings))
    check(found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_prefix": 5}, r"text_prefix 5: give a string, not a int"),
        ({"text_columns": "ab"}, r"text_columns 'ab': give a list in which each item is a string"),
        ({"format_version": "9"}, r"format_version '9': give a whole number"),
        ({"return_dict": 1}, r"return_dict 1: give True or False"),
    ],
)
def test_the_message_says_what_was_expected(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiHeadConfig.from_dict({**SAVED, **settings})


def test_the_message_names_the_head() -> None:
    heads = [{**SAVED["heads"][0], "loss": ["x"]}]
    with pytest.raises(ValueError, match=r"head 'topic': loss \['x'\]: give a string, not a list"):
        MultiHeadConfig.from_dict({**SAVED, "heads": heads})
    with pytest.raises(ValueError, match=r"head 'topic': loss_weight 10 \*\* 400: give a number"):
        MultiHeadConfig.from_dict({**SAVED, "heads": [{**SAVED["heads"][0], "loss_weight": 10**400}]})


def test_what_predicts_does_not_depend_on_return_dict() -> None:
    model = tiny.model()
    expected = MultiHeadPredictor(model, tiny.tokenizer()).logits(["w1 w2"])
    model.config.return_dict = False
    assert isinstance(model(**tiny.batch()), tuple)
    assert pipeline("multi-head-text-classification", model=model, tokenizer=tiny.tokenizer())("w1 w2")
    found = MultiHeadPredictor(model, tiny.tokenizer()).logits(["w1 w2"])
    assert all(torch.equal(torch.from_numpy(found[name]), torch.from_numpy(own)) for name, own in expected.items())

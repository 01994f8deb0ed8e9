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
        ({"text_prefix": 5}, r"text_prefix 5: give a string, not an int"),
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


IDS = torch.ones(2, 9, dtype=torch.long)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "give either input_ids or inputs_embeds"),
        ({"input_ids": IDS, "inputs_embeds": torch.zeros(2, 9, 32)}, "give either input_ids or inputs_embeds"),
        ({"input_ids": IDS.tolist()}, "input_ids must be a tensor, not a list"),
        ({"input_ids": IDS[0]}, r"input_ids must be \(batch, length\).*not \(9,\)"),
        ({"input_ids": IDS, "attention_mask": IDS.tolist()}, "attention_mask must be a tensor, not a list"),
        ({"input_ids": IDS, "attention_mask": torch.ones(2, 12)}, r"attention_mask is \(2, 12\), but the tokens are"),
        ({"input_ids": IDS, "attention_mask": torch.ones(9)}, r"attention_mask is \(9,\), but the tokens are \(2, 9\)"),
        ({"input_ids": IDS, "token_type_ids": IDS[:1]}, r"token_type_ids is \(1, 9\), but the tokens are \(2, 9\)"),
        ({"inputs_embeds": torch.zeros(2, 9, 32), "attention_mask": torch.ones(3, 9)}, r"attention_mask is \(3, 9\)"),
        ({"input_ids": IDS.view(2, 3, 3), "attention_mask": IDS}, r"attention_mask is \(2, 9\), but the tokens are"),
        ({"input_ids": IDS[:, :1].expand(2, 600)}, "600 tokens are more than the encoder's 512 positions"),
        ({"input_ids": IDS, "heads": 3}, "heads 3: give a name, or a list of names"),
    ],
)
def test_inputs_of_a_model_that_do_not_fit(inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny.model()(**inputs)


def test_inputs_of_a_model_that_fit() -> None:
    model = tiny.model()
    expected = model(input_ids=IDS).logits["mood"]
    places = torch.arange(9)
    for inputs in ({"position_ids": places[None]}, {"attention_mask": IDS.bool()}, {"attention_mask": IDS.float()}):
        assert torch.allclose(model(input_ids=IDS, **inputs).logits["mood"], expected, atol=1e-5)


def test_weights_of_rows_that_are_no_tensor() -> None:
    with pytest.raises(ValueError, match=r"sample_weight must be a tensor \(3,\), not \[1, 1, 1\]"):
        tiny.model()(**tiny.batch(), labels=tiny.labels(), sample_weight=[1, 1, 1])

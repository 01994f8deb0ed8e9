"""Integrated gradients against the definition by hand."""

import logging

import numpy as np
import pytest
import tiny
import torch
from planted import planted_model
from transformers import ByT5Tokenizer

from multihead_hf import Explanation, explain

TEXT = "w1 w2 w7 w3, w1"


def tokens_of(text: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of a text, and of its baseline."""
    ids = tiny.tokenizer()(text, return_tensors="pt")["input_ids"]
    special = (ids == tiny.VOCAB["[CLS]"]) | (ids == tiny.VOCAB["[SEP]"])
    return ids, torch.where(special, ids, tiny.VOCAB["[PAD]"])


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_scores_add_up_to_the_change_of_the_logit(family: str) -> None:
    model = tiny.model(family, seed=1)
    for parameter in model.heads.parameters():
        parameter.data *= 20  # fresh heads hardly tell texts apart
    tokenizer = tiny.canine_tokenizer() if family == "canine" else tiny.tokenizer()
    text = "w1 w2 w3 w1 w40"
    found = explain(model, tokenizer, text, "topic", "waste")
    total, change = sum(word.score for word in found.words), found.details["logit"] - found.details["baseline_logit"]
    assert found.additivity_error == pytest.approx(abs(total - change), abs=1e-6)
    scale = max(abs(change), max(abs(word.score) for word in found.words))
    assert found.additivity_error <= 0.01 * scale
    assert scale > 1e-3
    with torch.no_grad():
        expected = model(**tokenizer(text, return_tensors="pt")).logits["topic"][0, 1]
    assert found.details["logit"] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert", "llama"])
def test_integrated_gradients_by_hand(family: str) -> None:
    """The definition, as a mean over the middles of 400 steps, with embeddings in the place of ids."""
    model = tiny.model(family, seed=1)
    ids, baseline = tokens_of("w1 w2 w7 w3 w1")
    if family == "xlm-roberta":
        # what XLM-R makes of the ids (its padding is 0); of embeddings it makes the same
        places = model.encoder.embeddings.create_position_ids_from_input_ids(ids, 0, 0)
        assert places.tolist() == [list(range(1, 8))]
    table = model.get_input_embeddings()
    start, change = table(baseline).detach(), (table(ids) - table(baseline)).detach()
    gradients = torch.zeros_like(start)
    for step in range(400):
        point = (start + (step + 0.5) / 400 * change).requires_grad_()
        logit = model(inputs_embeds=point, attention_mask=torch.ones_like(ids)).logits["topic"][0, 2]
        gradients += torch.autograd.grad(logit, point)[0] / 400
    expected = (gradients * change).sum(-1)[0]
    found = explain(model, tiny.tokenizer(), "w1 w2 w7 w3 w1", "topic", "noise", tolerance=1e-4)
    assert expected[0] == expected[-1] == 0
    assert [word.score for word in found.words] == pytest.approx(expected[1:-1].tolist(), rel=2e-3, abs=1e-6)
    assert float(expected.abs().max()) > 1e-4


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_integrated_gradients_in_windows(pooling: str) -> None:
    """Each window's own logit, by hand; a word in two windows has the sum of both."""
    settings = {"max_length": 6, "truncation": "windows", "stride": 1, "window_pooling": pooling}
    model = tiny.model(seed=1, **settings)
    words = [f"w{number}" for number in range(10, 18)]
    found = explain(model, tiny.tokenizer(), " ".join(words), "topic", "waste", tolerance=1e-4, batch_size=2)
    windows = [words[:4], words[3:7], words[6:]]
    single = tiny.model(seed=1)
    expected = [0.0] * len(words)
    parts = []
    for begin, window in zip((0, 3, 6), windows, strict=True):
        parts.append((begin, explain(single, tiny.tokenizer(), " ".join(window), "topic", "waste", tolerance=1e-4)))
    logits = [part.details["logit"] for _, part in parts]
    assert found.details["logit"] == pytest.approx(np.mean(logits) if pooling == "mean" else max(logits), abs=1e-6)
    if pooling == "mean":
        for begin, part in parts:
            for place, word in enumerate(part.words):
                expected[begin + place] += word.score / 3
        assert [word.score for word in found.words] == pytest.approx(expected, abs=1e-5)
    assert found.additivity_error < 1e-4


def test_a_prefix_stays_in_the_baseline() -> None:
    model = tiny.model(seed=1, text_prefix="w9 w8 ")
    found = explain(model, tiny.tokenizer(), "w1 w2", "topic", "waste")
    assert [word.word for word in found.words] == ["w1", "w2"]
    with torch.no_grad():
        ids = torch.tensor([[tiny.VOCAB[token] for token in ("[CLS]", "w9", "w8", "[PAD]", "[PAD]", "[SEP]")]])
        expected = model(input_ids=ids).logits["topic"][0, 1]
    assert found.details["baseline_logit"] == pytest.approx(float(expected), abs=1e-6)
    change = found.details["logit"] - found.details["baseline_logit"]
    assert sum(word.score for word in found.words) == pytest.approx(change, abs=1e-4)


def test_more_steps_until_it_is_within_the_tolerance(caplog: pytest.LogCaptureFixture) -> None:
    model = planted_model("modernbert")
    loose = explain(model, tiny.tokenizer(), TEXT, "topic", "waste", tolerance=10.0)
    assert loose.details["steps"] == 32
    logger = logging.getLogger("multihead_hf.explanation.gradients")
    logger.addHandler(caplog.handler)
    try:
        tight = explain(model, tiny.tokenizer(), TEXT, "topic", "waste", tolerance=1e-4)
        assert not caplog.records
        rough = explain(model, tiny.tokenizer(), TEXT, "topic", "waste", tolerance=1e-4, max_steps=1)
    finally:
        logger.removeHandler(caplog.handler)
    assert tight.additivity_error < rough.additivity_error
    assert rough.details["steps"] == 1
    assert "label 'waste': the scores differ by" in caplog.text
    assert "raise max_steps" in caplog.text


def test_what_integrated_gradients_need() -> None:
    model = tiny.model(max_length=40)
    tokenizer = ByT5Tokenizer()
    for parameter in model.get_input_embeddings().parameters():
        parameter.data = torch.randn(400, 32)
    with pytest.raises(ValueError, match=r"which a ByT5Tokenizer does not provide: use a fast tokenizer, or"):
        explain(model, tokenizer, "één w1", "topic")
    for method in ("lime", "occlusion"):
        found = explain(model, tokenizer, "één w1", "topic", None, method)
        assert [(word.word, word.start) for word in found.words] == [("één", 0), ("w1", 4)]
        assert any(word.score for word in found.words)
    assert isinstance(explain(model, tokenizer, "ascii w1", "topic"), Explanation)
    with pytest.raises(ValueError, match=r"has no mask token as a baseline; it has \['pad', 'unk'\]"):
        explain(tiny.model(), tiny.tokenizer(), TEXT, "topic", baseline="mask")
    with pytest.raises(ValueError, match=r"unknown baseline 'pda'. Did you mean 'pad'"):
        explain(tiny.model(), tiny.tokenizer(), TEXT, "topic", baseline="pda")
    other = explain(tiny.model(), tiny.tokenizer(), TEXT, "topic", "waste", baseline="unk")
    assert (
        other.details["baseline_logit"]
        != explain(tiny.model(), tiny.tokenizer(), TEXT, "topic", "waste").details["baseline_logit"]
    )


def test_a_baseline_without_a_logit_is_refused() -> None:
    model = tiny.model()
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny.VOCAB["[PAD]"]] = torch.nan
    with pytest.raises(
        ValueError, match=r"'topic', label 'roads': the logit of the baseline is not finite .*occlusion"
    ):
        explain(model, tiny.tokenizer(), TEXT, "topic", "roads")
    assert explain(model, tiny.tokenizer(), TEXT, "topic", "roads", baseline="unk").words


def test_others_may_use_the_model_meanwhile() -> None:
    """What is hooked into is a copy, and it has no weights of its own."""
    model, seen = planted_model(), []
    table = model.get_input_embeddings()
    table.register_forward_hook(lambda module, _inputs, _output: seen.append((module is table, module.weight)))
    with torch.inference_mode():
        found = explain(model, tiny.tokenizer(), TEXT, "topic", "waste")
    assert found.additivity_error < 0.01 * (found.details["logit"] - found.details["baseline_logit"])
    assert {mine for mine, _ in seen} == {True, False}  # (the score is the model's own)
    assert all(weight is table.weight for _, weight in seen)

"""Integrated gradients, LIME and occlusion against computations of their own."""

import logging
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from planted import PLANTED, planted_model
from transformers import ByT5Tokenizer

from multihead_hf import Explanation, MultiHeadModel, explain, predict_proba

METHODS = ("integrated_gradients", "lime", "occlusion")
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


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("head", ["topic", "mood"])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_the_planted_word_comes_first(family: str, head: str, method: str) -> None:
    label = {"topic": "waste", "mood": "angry"}[head]
    model = planted_model(family)
    for text in (f"w1 w2 {PLANTED} w3, w1", f"{PLANTED} w20", f"w5 w5 w5\n\n{PLANTED}"):
        found = explain(model, tiny.tokenizer(), text, head, label, method)
        best = max(found.words, key=lambda word: word.score)
        assert (best.word, best.start) == (PLANTED, text.index(PLANTED))
        assert best.score > 2 * max(abs(word.score) for word in found.words if word is not best)
        assert found.score > 0.5
        # against the other label
        if head == "mood":
            other = explain(model, tiny.tokenizer(), text, head, "calm", method)
            assert min(other.words, key=lambda word: word.score).start == best.start


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "settings",
    [
        {"max_length": 8},
        {"max_length": 8, "truncation": "head+tail"},
        {"max_length": 8, "truncation": "windows", "max_windows": 2, "text_prefix": "w9 "},
    ],
)
def test_long_texts(method: str, settings: dict[str, Any]) -> None:
    model = planted_model(**settings)
    rest = " ".join(f"w{number}" for number in range(20, 40))
    for text in (f"w1 {PLANTED} {rest}", f"{rest} {PLANTED} w1"):
        found = explain(model, tiny.tokenizer(), text, "topic", "waste", method)
        by_word = {word.word: word for word in found.words}
        assert all(word.score == 0 for word in found.words if not word.read)
        assert not all(word.read for word in found.words)
        if by_word[PLANTED].read:
            assert max(found.words, key=lambda word: word.score).word == PLANTED
            assert by_word[PLANTED].score > 0.1
    assert by_word[PLANTED].read == (settings.get("truncation") == "head+tail")


@pytest.mark.parametrize("method", ["lime", "occlusion"])
@pytest.mark.parametrize("truncation", ["tail", "head+tail"])
def test_what_was_cut_away_does_not_come_in(method: str, truncation: str) -> None:
    """With the planted word just behind the limit, leaving out any word would let it in."""
    model = planted_model(max_length=6, truncation=truncation)
    text = f"w1 w2 w3 w4 {PLANTED}" if truncation == "tail" else f"w1 w2 {PLANTED} w3 w4"
    found = explain(model, tiny.tokenizer(), text, "topic", "waste", method)
    assert found.score < 0.2
    assert [word.read for word in found.words] == [word.word != PLANTED for word in found.words]
    assert all(abs(word.score) < 0.1 for word in found.words)


@pytest.mark.parametrize("method", METHODS)
def test_pairs(method: str) -> None:
    model = planted_model()
    found = explain(model, tiny.tokenizer(), ("w1 w2", f"w3 {PLANTED} w2"), "topic", "waste", method)
    assert [(word.part, word.word) for word in found.words] == [
        (0, "w1"),
        (0, "w2"),
        (1, "w3"),
        (1, PLANTED),
        (1, "w2"),
    ]
    best = max(found.words, key=lambda word: word.score)
    assert (best.part, best.start, best.end) == (1, 3, 5)
    expected = predict_proba(model, tiny.tokenizer(), "topic", "waste")([("w1 w2", f"w3 {PLANTED} w2")])[0, 1]
    assert found.score == pytest.approx(expected)


def test_occlusion_is_what_the_probability_falls() -> None:
    model, text = planted_model(), "w1 w2 w7, w3 w1"
    p = predict_proba(model, tiny.tokenizer(), "topic", "waste")
    without = ["w2 w7, w3 w1", "w1 w7, w3 w1", "w1 w2, w3 w1", "w1 w2 w7 w3 w1", "w1 w2 w7, w1", "w1 w2 w7, w3"]
    expected = p([text])[0, 1] - p(without)[:, 1]
    found = explain(model, tiny.tokenizer(), text, "topic", "waste", "occlusion")
    assert [word.score for word in found.words] == pytest.approx(expected.tolist(), abs=1e-6)
    assert found.quantity == "probability"
    assert found.additivity_error is None
    # calibration (2.0 for this label) divides the logit
    both = explain(model, tiny.tokenizer(), text, "topic", "waste", "occlusion", quantity="logit", window=5)
    two = 2.0 * np.log(p([text, "w1", "w1"])[:, 1] / p([text, "w1", "w1"])[:, 0])
    assert both.words[0].score == pytest.approx(two[0] - two[1], abs=1e-4)
    inner = explain(model, tiny.tokenizer(), "w1 w2 w7", "topic", "waste", "occlusion", window=2)
    drops = (p(["w1 w2 w7"]) - p(["w7", "w1"]))[:, 1]
    assert [word.score for word in inner.words] == pytest.approx([drops[0], drops.mean(), drops[1]], abs=1e-6)
    whole = explain(model, tiny.tokenizer(), "w1 w7", "topic", "waste", "occlusion", window=9)
    assert whole.words[0].score == whole.words[1].score == pytest.approx((p(["w1 w7"]) - p([""]))[0, 1], abs=1e-6)


def test_lime_is_seeded_and_tells_repeated_words_apart() -> None:
    model, text = planted_model(), f"w1 w1 {PLANTED} w1"
    run = lambda **settings: explain(model, tiny.tokenizer(), text, "topic", "waste", "lime", **settings)  # noqa: E731
    first = run(num_samples=300)
    assert run(num_samples=300) == first
    assert run(num_samples=300, seed=1).words != first.words
    assert [(word.word, word.start) for word in first.words] == [("w1", 0), ("w1", 3), (PLANTED, 6), ("w1", 9)]
    assert len({word.score for word in first.words}) == 4
    assert first.details["r2"] > 0.8
    # of one word, and of a single-label head whose label is not the second one
    assert explain(model, tiny.tokenizer(), PLANTED, "mood", "calm", "lime").words[0].score < -0.1


def test_more_steps_until_it_is_within_the_tolerance(caplog: pytest.LogCaptureFixture) -> None:
    model = planted_model("modernbert")
    loose = explain(model, tiny.tokenizer(), TEXT, "topic", "waste", tolerance=10.0)
    assert loose.details["steps"] == 32
    logger = logging.getLogger("multihead_hf.inference.attribution")
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


def state(model: MultiHeadModel) -> list[Any]:
    return [
        {name: (value.dtype, value.clone()) for name, value in model.state_dict().items()},
        [parameter.requires_grad for parameter in model.parameters()],
        [parameter.grad is None for parameter in model.parameters()],
        [module.training for module in model.modules()],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        [id(parameter) for parameter in model.parameters()],
        model.config.to_dict(),
    ]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_model_is_left_as_it_is(method: str, dtype: torch.dtype) -> None:
    model = planted_model()
    exact = explain(model, tiny.tokenizer(), TEXT, "topic", "waste", method)
    model.encoder.to(dtype)
    model.freeze_encoder()
    model.train()
    before = state(model)
    found = explain(model, tiny.tokenizer(), TEXT, "topic", "waste", method)
    after = state(model)
    assert before[1:] == after[1:]
    assert set(before[3]) == {True, False}
    for name, (kind, value) in before[0].items():
        assert kind == after[0][name][0]
        assert torch.equal(value, after[0][name][1])
    assert max(found.words, key=lambda word: word.score).word == PLANTED
    assert [word.score for word in found.words] == pytest.approx([word.score for word in exact.words], abs=0.15)
    if method == "integrated_gradients":
        scale = max(abs(word.score) for word in found.words)
        assert found.additivity_error <= 0.005 * scale  # in float32


def test_what_integrated_gradients_need() -> None:
    model = tiny.model(max_length=40)
    tokenizer = ByT5Tokenizer()
    for parameter in model.get_input_embeddings().parameters():
        parameter.data = torch.randn(400, 32)
    with pytest.raises(ValueError, match=r"a ByT5Tokenizer does not tell it: use the tokenizer in its fast form, or"):
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

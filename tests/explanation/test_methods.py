"""What holds for all methods: planted words, long texts, pairs, and the model is left as it is."""

from typing import Any

import pytest
import tiny
import torch
from planted import PLANTED, planted_model

from multihead_hf import MultiHeadModel, explain, predict_proba

METHODS = ("integrated_gradients", "lime", "occlusion")
TEXT = "w1 w2 w7 w3, w1"


@pytest.mark.slow
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

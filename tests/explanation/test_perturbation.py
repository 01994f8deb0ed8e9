"""LIME and occlusion against the pipeline on texts with words left out."""

import numpy as np
import pytest
import tiny
from planted import PLANTED, planted_model

from multihead_hf import explain, predict_proba


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

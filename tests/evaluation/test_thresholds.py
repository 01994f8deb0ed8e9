"""Thresholds: the optimum of a search over everything, and an honest estimate of their worth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from multihead_hf.evaluation.thresholds import Target, best_threshold, f1_at, fit_thresholds, tune_head

TARGETS = [Target(), Target("recall_at_precision", precision=0.75), Target("cost", costs=(1.0, 3.0))]


def worth(scores: np.ndarray, positive: np.ndarray, threshold: float, target: Target) -> float:
    """The target's value with a threshold, written another way."""
    chosen = scores >= np.float32(threshold)
    hits, wrong, missed = (chosen & positive).sum(), (chosen & ~positive).sum(), (~chosen & positive).sum()
    if target.metric == "f1":
        return 2 * hits / max(2 * hits + wrong + missed, 1)
    if target.metric == "cost":
        return -(target.costs[0] * wrong + target.costs[1] * missed)
    return hits if chosen.any() and hits / (hits + wrong) >= target.precision else -np.inf


def float32(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32)


cells = st.lists(
    st.tuples(st.floats(0, 1, width=32) | st.sampled_from([0.25, 0.5, 0.75, 0.0, 1.0]), st.booleans()),
    min_size=1,
    max_size=30,
)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.metric)
@given(cells)
@settings(max_examples=150, deadline=None)
def test_no_other_threshold_is_better(target: Target, drawn: list[tuple[float, bool]]) -> None:
    scores, positive = float32([score for score, _ in drawn]), np.array([each for _, each in drawn])
    found = best_threshold(scores, positive, target)
    # every cut: between all neighbours, at all scores, and at the ends that a threshold may have
    edges = np.unique(np.concatenate([scores, float32([1e-7, 1 - 6e-8])]))
    tried = [*edges.tolist(), *((edges[1:] + edges[:-1]) / 2).tolist()]
    values = [worth(scores, positive, value, target) for value in tried if 0 < value < 1]
    if found is None:
        assert max(values) == -np.inf
        return
    assert 0 < found < 1
    if (scores >= np.float32(1 - 6e-8)).any() or (scores < 1e-7).any():
        return  # cells that no threshold inside (0, 1) can tell from the end
    assert worth(scores, positive, found, target) >= max(values) - 1e-12


def test_saturated_scores_still_have_a_threshold() -> None:
    for scores in ([1.0, 1.0, 0.2], [1.0, 0.99999994, 0.2], [1.0, 0.0, 0.0]):
        found = best_threshold(float32(scores), np.array([True, False, False]), Target())
        assert found is not None
        assert 0 < found < 1
        decided = float32(scores) >= np.float32(found)
        assert decided[0]
        assert not decided[2]


def test_missing_cells_and_few_positives() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((400, 3), dtype=np.float32)
    references = (rng.random((400, 3)) < scores).astype(np.float32)
    references[:, 2] = 0
    references[:4, 2] = 1
    unknown = rng.random((400, 3)) < 0.3
    references[unknown] = -100
    thresholds, common, fell_back = fit_thresholds(scores, references, Target(), "label", min_support=10)
    assert fell_back.tolist() == [False, False, True]
    assert thresholds[2] == common
    # what is not known could be anything
    other = scores.copy()
    other[unknown] = 0.99
    again, _, _ = fit_thresholds(other, references, Target(), "label", min_support=10)
    assert again.tolist() == thresholds.tolist()
    per_head, common, fell_back = fit_thresholds(scores, references, Target(), "head", min_support=10)
    assert per_head.tolist() == [common] * 3
    assert not fell_back.any()


def test_the_estimate_does_not_flatter() -> None:
    """Scores that say nothing: chosen thresholds look good on their own rows, and are worth no more than before."""
    rng = np.random.default_rng(1)
    scores = rng.random((300, 40), dtype=np.float32)
    references = (rng.random((300, 40)) < 0.1).astype(np.float32)
    before = scores >= 0.5
    found = tune_head(scores, references, [f"l{i}" for i in range(40)], before, Target(), min_support=1)
    everything = f1_at(np.ones_like(before), references)["f1_macro"]
    assert found.fitted["f1_macro"] > everything + 0.02
    assert found.after["f1_macro"] < everything + 0.01
    assert found.rows == 300


def test_figures_are_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    decisions, references = rng.random((60, 5)) < 0.4, (rng.random((60, 5)) < 0.4).astype(np.float32)
    found = f1_at(decisions, references)
    assert found["f1_micro"] == pytest.approx(f1_score(references, decisions, average="micro"))
    assert found["f1_macro"] == pytest.approx(f1_score(references, decisions, average="macro"))


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"unknown metric 'f2'.*Known: f1"):
        Target("f2").check()
    with pytest.raises(ValueError, match=r"precision 1\.5"):
        Target("recall_at_precision", precision=1.5).check()
    with pytest.raises(ValueError, match="costs"):
        Target("cost", costs=(0, 1)).check()
    with pytest.raises(ValueError, match="3 labelled rows: thresholds need at least 5"):
        tune_head(np.ones((3, 1)), np.ones((3, 1)), ["a"], np.ones((3, 1), bool), Target())

"""Thresholds: the optimum of a search over everything, on all rows and on some folds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multihead_hf.evaluation.thresholds import SHRINKAGE, Cuts, Fit, Rows, Target, best_threshold, fit_thresholds

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
        assert max(values) == -np.inf or not positive.any()
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


def in_parts(array: np.ndarray, folds: int) -> list[np.ndarray]:
    return [array[fold::folds] for fold in range(folds)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.metric)
def test_some_folds_have_the_optimum_of_their_rows_alone(target: Target) -> None:
    rng = np.random.default_rng(0)
    for rows in (5, 30, 300):
        scores = (rng.integers(0, 40, rows) / 40).astype(np.float32)
        positive = rng.random(rows) < scores
        by_fold = Cuts(in_parts(scores, 4), in_parts(positive, 4))
        subsets = np.array([[True] * 4, [True, False, True, True], [False, True, False, False], [False] * 4])
        found, positives = by_fold.best(subsets, target)
        for own, number, subset in zip(found, positives, subsets, strict=True):
            cells = np.isin(np.arange(rows) % 4, np.flatnonzero(subset))
            expected = best_threshold(scores[cells], positive[cells], target)
            assert own == expected or (np.isnan(own) and expected is None)
            assert number == positive[cells].sum()


def test_large_tables_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(200, dtype=np.float32)
    cuts = Cuts(in_parts(scores, 2), in_parts(rng.random(200) < scores, 2))
    subsets = np.array([[True, True], [True, False], [False, True]])
    whole, _ = cuts.best(subsets, Target())
    monkeypatch.setattr("multihead_hf.evaluation.thresholds._AT_A_TIME", 1)
    assert cuts.best(subsets, Target())[0].tolist() == whole.tolist()


def fit(scores: np.ndarray, references: np.ndarray, min_support: int = 10, before: float = 0.5) -> Fit:
    """On all rows."""
    previous = np.full(scores.shape[1], before)
    (found,) = fit_thresholds([Rows.of(scores, references)], np.ones((1, 1), bool), previous, Target(), min_support)
    return found


def test_missing_cells_and_few_positives() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((400, 3), dtype=np.float32)
    references = (rng.random((400, 3)) < scores).astype(np.float32)
    references[:, 2] = 0
    references[:4, 2] = 1
    unknown = rng.random((400, 3)) < 0.3
    references[unknown] = -100
    found = fit(scores, references)
    assert found.fell_back.tolist() == [False, False, True]
    assert found.label[2] == found.common
    assert found.head.tolist() == [found.common] * 3
    # what is not known could be anything
    other = scores.copy()
    other[unknown] = 0.99
    assert fit(other, references).label.tolist() == found.label.tolist()


def test_a_label_is_drawn_towards_the_head_the_more_the_fewer_positives_it_has() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random((2000, 3), dtype=np.float32) ** np.array([1, 2, 0.5], np.float32)
    references = (rng.random((2000, 3)) < scores**3).astype(np.float32)
    references[SHRINKAGE * 20 :, 1] = -100
    found = fit(scores, references, min_support=1)

    def logit(value: float) -> float:
        return float(np.log(value / (1 - value)))

    for label in range(3):
        known = references[:, label] >= 0
        own = best_threshold(scores[known, label], references[known, label] > 0, Target())
        assert own is not None
        positives = (references[:, label] > 0).sum()
        weight = (logit(found.label[label]) - logit(found.common)) / (logit(own) - logit(found.common))
        assert weight == pytest.approx(positives / (positives + SHRINKAGE))
        assert own != found.common


def test_no_positive_is_no_evidence() -> None:
    scores = np.random.default_rng(0).random((50, 2), dtype=np.float32)
    found = fit(scores, np.zeros((50, 2), np.float32), min_support=1, before=0.3)
    assert found.head.tolist() == found.label.tolist() == [0.3, 0.3]
    assert np.isnan(found.common)
    assert best_threshold(scores[:, 0], np.zeros(50, bool), Target()) is None
    # a label without a positive has what the head's positives say
    references = (scores > 0.6).astype(np.float32)
    references[:, 1] = 0
    found = fit(scores, references, before=0.3)
    assert found.label[1] == found.common != 0.3


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"unknown metric 'f2'.*Known: f1"):
        Target("f2").check()
    with pytest.raises(ValueError, match=r"precision 1\.5"):
        Target("recall_at_precision", precision=1.5).check()
    with pytest.raises(ValueError, match="costs"):
        Target("cost", costs=(0, 1)).check()

"""The choice between thresholds as they were, one per head and one per label, on rows that it has not seen."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from sklearn.metrics import f1_score

from multihead_hf.evaluation.threshold_choice import (
    CANDIDATES,
    HeadThresholds,
    choose,
    metrics_of,
    scores_of,
    tune_head,
)
from multihead_hf.evaluation.thresholds import Rows, Target, best_threshold

F1, COST = Target(), Target("cost", costs=(1.0, 4.0))
RECALL = Target("recall_at_precision", precision=0.75)


class Head(NamedTuple):
    """A made-up head: rows to choose on, new rows of the same kind, and its thresholds so far."""

    scores: np.ndarray
    references: np.ndarray
    new_scores: np.ndarray
    new_references: np.ndarray
    thresholds: list[float]

    @property
    def labels(self) -> list[str]:
        return [f"l{number}" for number in range(self.scores.shape[1])]

    def tuned(self, target: Target = F1, **settings: object) -> HeadThresholds:
        return tune_head(self.scores, self.references, self.labels, self.thresholds, target, **settings)

    def on_new_rows(self, thresholds: list[float], target: Target = F1) -> float:
        rows = Rows.of(self.new_scores, self.new_references)
        return float(scores_of(rows.totals(self.new_scores >= np.float32(thresholds)), target))


def made_up(kind: str, seed: int, rows: int | None = None, labels: int | None = None) -> Head:
    """Sizes and imbalance differ by the seed.

    Args:
        kind: `"moved"`, all probabilities are too high or too low alike; `"by label"`, each label's by another amount;
            `"settled"`, the thresholds so far are the best common one of thousands of rows.
    """
    rng = np.random.default_rng(seed)
    rows = rows or int(np.exp(rng.uniform(np.log(80), np.log(600))))
    labels = labels or int(rng.integers(3, 25))
    prior, strength = np.exp(rng.uniform(-5, -1.2, labels)), rng.uniform(1, 3, labels)
    logits = np.log(prior / (1 - prior)) + strength * rng.standard_normal((rows + 6000, labels)) - 0.3 * strength**2
    references = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    logits += rng.normal(0, 2) if kind == "moved" else rng.normal(0, 1.5, labels) if kind == "by label" else 0
    scores = (1 / (1 + np.exp(-logits))).astype(np.float32)
    new, thresholds = slice(rows, None), [0.5] * labels
    if kind == "settled":
        common = best_threshold(scores[rows : rows + 3000].ravel(), references[rows : rows + 3000].ravel() > 0, F1)
        new, thresholds = slice(rows + 3000, None), [common or 0.5] * labels
    return Head(scores[:rows], references[:rows], scores[new], references[new], thresholds)


@pytest.mark.slow
def test_new_rows_lose_nothing_and_badly_calibrated_heads_gain() -> None:
    gains: dict[str, list[float]] = {"moved": [], "by label": [], "settled": []}
    promised, kept, fitted, choices = [], [], [], set()
    for seed in range(100, 148):
        kind = list(gains)[seed % 3]
        head = made_up(kind, seed)
        found = head.tuned()
        before, after = head.on_new_rows(head.thresholds), head.on_new_rows(found.thresholds)
        gains[kind].append(after - before)
        assert (found.choice == "unchanged") == (found.thresholds == head.thresholds)
        choices.add(found.choice)
        promised.append(found.after["f1_micro"])
        fitted.append(found.fitted["f1_micro"])
        kept.append(after)
    assert choices == set(CANDIDATES)
    assert np.mean(gains["settled"]) >= -0.002
    assert np.mean(gains["moved"]) > 0.05
    assert np.mean(gains["by label"]) > 0.05
    assert min(gains["moved"] + gains["by label"] + gains["settled"]) > -0.01
    # what the whole procedure promises is what new rows give; the rows that it was chosen on would promise more
    assert np.mean(promised) == pytest.approx(np.mean(kept), abs=0.015)
    assert np.mean(fitted) > np.mean(promised) + 0.01


@pytest.mark.parametrize("target", [COST, RECALL], ids=lambda target: target.metric)
def test_other_metrics_choose_by_their_own_figure(target: Target) -> None:
    gains = []
    for seed in range(12):
        head = made_up(("moved", "by label", "settled")[seed % 3], seed, labels=6)
        found = head.tuned(target)
        gains.append(head.on_new_rows(found.thresholds, target) - head.on_new_rows(head.thresholds, target))
        chosen = found.candidates[found.choice]
        if target is COST:
            assert f"a cost of {chosen['cost']:.3f} per row" in found.reason
        else:
            assert f"recall {chosen['recall_micro']:.3f} at precision {chosen['precision_micro']:.3f}" in found.reason
        assert set(found.after) - {"f1_micro", "f1_macro"} == (
            {"cost"} if target is COST else {"recall_micro", "precision_micro"}
        )
    assert np.mean(gains) > 0.02


def test_the_reason_names_all_three() -> None:
    head = made_up("moved", 9, rows=400, labels=8)
    found = head.tuned()
    figures = {name: f"{metrics['f1_micro']:.3f}" for name, metrics in found.candidates.items()}
    assert found.choice == "head"
    assert found.reason == (
        f"one threshold for the head: micro F1 {figures['head']} on held-out folds, {figures['unchanged']} as they were "
        f"and {figures['label']} with one threshold per label"
    )
    settled = head._replace(thresholds=found.thresholds)
    again = settled.tuned()
    assert again.choice == "unchanged"
    assert again.thresholds == found.thresholds
    figures = {name: f"{metrics['f1_micro']:.3f}" for name, metrics in again.candidates.items()}
    assert again.reason.startswith(
        f"kept as they were: micro F1 {figures['unchanged']} on held-out folds, {figures['head']} with one threshold for "
        f"the head and {figures['label']} with one per label"
    )
    forced = settled.tuned(granularity="label")
    assert forced.choice == "label"
    assert forced.is_doubtful
    assert forced.reason.startswith(f"one threshold per label, as asked: micro F1 {figures['label']} on held-out folds")
    assert forced.reason.endswith("that is worse than before, and granularity='auto' keeps the better ones")
    assert len(set(forced.thresholds)) > 1
    assert forced.after == forced.candidates["label"]
    one = head.tuned(granularity="head")
    assert (one.choice, one.thresholds, one.is_doubtful) == ("head", found.thresholds, False)
    assert one.common == one.thresholds[0]


@pytest.mark.parametrize("granularity", ["auto", "head", "label"])
@pytest.mark.parametrize(("positives", "min_support"), [(0, 1), (0, 10), (9, 10)])
def test_without_positives_a_head_keeps_what_it_has(granularity: str, positives: int, min_support: int) -> None:
    rng = np.random.default_rng(0)
    references = np.zeros((60, 3), np.float32)
    references[:positives, 1] = 1
    head = Head(rng.random((60, 3), dtype=np.float32), references, references, references, [0.3, 0.4, 0.5])
    for target in (F1, COST, RECALL):
        found = head.tuned(target, granularity=granularity, min_support=min_support)
        assert found.thresholds == head.thresholds
        assert (found.choice, found.is_doubtful, found.common) == ("unchanged", True, None)
        assert found.reason == (
            f"kept as they were: the number of positive labels is {positives}, but min_support is {min_support}"
        )
        assert found.after == pytest.approx(found.before)
        assert found.fitted == pytest.approx(found.before)


def test_an_unreachable_precision_keeps_what_it_has() -> None:
    rng = np.random.default_rng(0)
    references = (rng.random((100, 2)) < 0.3).astype(np.float32)
    scores = np.where(references > 0, 0.2, 0.8).astype(np.float32)
    found = tune_head(scores, references, ["a", "b"], None, Target("recall_at_precision", precision=0.95))
    assert found.thresholds == [0.5, 0.5]
    assert found.reason == "kept as they were: no threshold reaches a precision of 0.95"


def test_the_choice_needs_a_gain_beyond_its_standard_error() -> None:
    def totals(*hits: list[int]) -> np.ndarray:
        """One round with 10 positives and 10 predicted labels in each fold: F1 is hits / 10."""
        return np.array([[[[each, 10, 10, 20] for each in own]] for own in hits])

    steady, unsteady, worse = [6, 6, 6, 6, 7], [9, 1, 9, 1, 9], [4, 4, 4, 4, 4]
    before = [5, 5, 5, 5, 5]
    assert choose(totals(before, worse, steady), F1) == 2
    assert choose(totals(before, steady, worse), F1) == 1
    assert choose(totals(before, unsteady, worse), F1) == 0
    assert choose(totals(before, before, before), F1) == 0
    # the better one of two that are beyond it
    assert choose(totals(before, steady, [7, 7, 7, 7, 7]), F1) == 2


def test_a_precision_that_is_missed_counts_against_any_recall() -> None:
    found = scores_of(np.array([[75, 100, 200, 1], [60, 100, 100, 1], [0, 0, 100, 1], [100, 400, 100, 1]]), RECALL)
    assert found.tolist() == pytest.approx([0.375, -0.15, 0.0, -0.5])
    # within two standard errors of 100 decisions, and not of 10,000
    assert scores_of(np.array([[70, 100, 100, 1], [7000, 10000, 10000, 1]]), RECALL) == pytest.approx([0.7, -0.05])


def test_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    decisions, references = rng.random((60, 5)) < 0.4, (rng.random((60, 5)) < 0.4).astype(np.float32)
    rows = Rows.of(rng.random((60, 5), dtype=np.float32), references)
    found = metrics_of(rows.counts(decisions), 60, COST)
    assert found["f1_micro"] == pytest.approx(f1_score(references, decisions, average="micro"))
    assert found["f1_macro"] == pytest.approx(f1_score(references, decisions, average="macro"))
    wrong, missed = (decisions & (references == 0)).sum(), (~decisions & (references == 1)).sum()
    assert found["cost"] == pytest.approx((wrong + 4 * missed) / 60)


def test_the_estimate_does_not_flatter() -> None:
    """Scores that say nothing: chosen thresholds look good on their own rows, and are worth no more than before."""
    rng = np.random.default_rng(1)
    scores = rng.random((300, 40), dtype=np.float32)
    references = (rng.random((300, 40)) < 0.1).astype(np.float32)
    labels = [f"l{i}" for i in range(40)]
    found = tune_head(scores, references, labels, None, F1, granularity="label", min_support=1)
    everything = f1_score(references, np.ones_like(references), average="macro")
    assert found.fitted["f1_macro"] > found.after["f1_macro"]
    assert found.after["f1_macro"] < everything
    assert found.is_doubtful == (found.after["f1_micro"] < found.before["f1_micro"])
    assert found.rows == 300


def test_what_cannot_be() -> None:
    ones = np.ones((3, 1))
    with pytest.raises(ValueError, match="3 labelled rows: thresholds need at least 5"):
        tune_head(ones, ones, ["a"], None, F1)
    with pytest.raises(ValueError, match="folds 2: give a whole number of 3 or more"):
        tune_head(ones, ones, ["a"], None, F1, folds=2)
    assert not math.isnan(tune_head(ones, ones, ["a"], None, F1, folds=3, min_support=1).after["f1_micro"])


def test_rows_to_which_every_label_applies_determine_no_threshold() -> None:
    scores = np.random.default_rng(0).uniform(0.2, 0.9, size=(40, 3))
    for granularity in ("auto", "head", "label"):
        tuned = tune_head(scores, np.ones((40, 3)), ["a", "b", "c"], [0.4, 0.5, 0.6], F1, granularity)
        assert tuned.thresholds == [0.4, 0.5, 0.6]
        assert tuned.is_doubtful
        assert tuned.reason == "kept as they were: every label applies to every row, so the rows determine no threshold"
    # a label that applies to every row has the threshold of those that do not
    references = np.ones((40, 3))
    references[::2, 1:] = 0.0
    tuned = tune_head(scores, references, ["a", "b", "c"], None, F1, "label")
    assert tuned.fallback == {"a": 40}
    assert tuned.thresholds[0] == tuned.common

import numpy as np
import pytest
import scipy
from packaging.version import parse
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support

from multihead_hf.evaluation.bootstrap import RowCounts, differences, intervals

SEED = 5


@pytest.fixture
def cells() -> tuple[np.ndarray, np.ndarray]:
    """Decisions and references of 300 rows and 4 labels, some cells and rows not known."""
    rng = np.random.default_rng(SEED)
    true = (rng.random((300, 4)) < [0.5, 0.3, 0.1, 0.02]).astype(np.float32)
    decided = np.where(rng.random(true.shape) < 0.8, true, 1 - true).astype(bool)
    true[rng.random(true.shape) < 0.1] = -100
    true[:7] = -100
    return decided, true


def test_figures_of_all_rows_are_those_of_scikit_learn(cells: tuple[np.ndarray, np.ndarray]) -> None:
    decided, true = cells
    true[7:] = np.where(true[7:] == -100, 0, true[7:])
    found = intervals(RowCounts(decided, true), n_resamples=20)
    for average in ("micro", "macro"):
        expected = precision_recall_fscore_support(true[7:], decided[7:], average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), expected[:3], strict=True):
            assert found[f"{name}_{average}"].value == pytest.approx(value)
    assert found["accuracy"].value == pytest.approx(accuracy_score(true[7:], decided[7:]))


def test_draws_are_figures_of_rows_drawn_with_replacement(cells: tuple[np.ndarray, np.ndarray]) -> None:
    decided, true = cells
    counts = RowCounts(decided, true)
    labelled = np.flatnonzero((true != -100).any(1))
    rows = np.random.default_rng(1).integers(0, len(labelled), len(labelled))
    found = counts.figures(np.bincount(rows, minlength=len(labelled))[None].astype(float))
    decided, true = decided[labelled[rows]], true[labelled[rows]]
    known = true != -100
    micro = f1_score(true[known] >= 0.5, decided[known])
    assert found["f1_micro"] == pytest.approx(micro)


def test_single_label_head_with_a_positive_label_and_missing_rows() -> None:
    rng = np.random.default_rng(SEED)
    true = rng.integers(0, 2, 200)
    guess = np.where(rng.random(200) < 0.7, true, 1 - true)
    true[:20] = -100
    found = intervals(RowCounts(np.eye(2, dtype=bool)[guess], true, positive=1), n_resamples=500)
    assert found["f1"].value == pytest.approx(f1_score(true[20:], guess[20:]))
    assert found["accuracy"].value == pytest.approx(accuracy_score(true[20:], guess[20:]))
    assert found["f1_macro"].value == pytest.approx(f1_score(true[20:], guess[20:], average="macro"))
    assert all(each.low < each.value < each.high for each in found.values())


def test_interval_agrees_with_scipy() -> None:
    rng = np.random.default_rng(SEED)
    true = rng.integers(0, 3, 400)
    guess = np.where(rng.random(400) < 0.75, true, (true + 1) % 3)
    found = intervals(RowCounts(np.eye(3, dtype=bool)[guess], true), n_resamples=4000)["accuracy"]
    seed = {"rng" if parse(scipy.__version__) >= parse("1.15") else "random_state": 1}
    expected = stats.bootstrap(
        ((true == guess).astype(float),), np.mean, method="percentile", n_resamples=4000, **seed
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.004)


def test_figures_that_a_draw_does_not_define() -> None:
    true = np.zeros((400, 50), dtype=np.float32)
    true[np.arange(50), np.arange(50)] = 1  # each label predicted once, and rightly, of eight rows that have it
    decided = true.astype(bool)
    true[np.arange(50, 400), np.arange(350) % 50] = 1
    for given, chosen, name in (
        (true, decided, "precision"),
        (decided.astype(np.float32), true.astype(bool), "recall"),
    ):
        found = intervals(RowCounts(chosen, given), n_resamples=50)[f"{name}_macro"]
        assert (found.low, found.value, found.high) == (1, 1, 1)
    one = np.array([1] + [0] * 99)
    found = intervals(RowCounts(np.eye(2, dtype=bool)[one], one, positive=1), n_resamples=50)
    assert all((found[name].low, found[name].high) == (1, 1) for name in ("precision", "recall", "f1"))


def test_same_seed_same_interval_and_a_wider_level_is_wider(cells: tuple[np.ndarray, np.ndarray]) -> None:
    counts = RowCounts(*cells)
    assert intervals(counts, n_resamples=200) == intervals(counts, n_resamples=200)
    assert intervals(counts, n_resamples=200) != intervals(counts, n_resamples=200, seed=1)
    narrow, wide = (intervals(counts, n_resamples=500, confidence_level=level)["f1_micro"] for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_pairs_make_a_small_difference_visible() -> None:
    rng = np.random.default_rng(SEED)
    true = rng.integers(0, 2, 2000)
    one = np.where(rng.random(2000) < 0.8, true, 1 - true)
    other = one.copy()
    other[:30] = 1 - true[:30]  # 30 rows are worse, all others equal
    counts = [RowCounts(np.eye(2, dtype=bool)[guess], true) for guess in (one, other)]
    difference = differences(*counts)["accuracy"]
    alone = [intervals(each)["accuracy"] for each in counts]
    assert alone[1].high > alone[0].low  # the two intervals overlap
    assert difference.difference.low > 0
    assert difference.verdict == "better"
    assert (difference.model, difference.baseline) == (alone[0].value, alone[1].value)
    assert difference.difference.value == pytest.approx(alone[0].value - alone[1].value)
    same = differences(counts[0], counts[0])["accuracy"].difference
    assert (same.low, same.value, same.high) == (0, 0, 0)


def test_rare_labels_do_not_pull_macro_figures_out_of_their_interval() -> None:
    once = np.arange(40)  # each label once, all right
    found = intervals(RowCounts(np.eye(40, dtype=bool)[once], once), n_resamples=200)["f1_macro"]
    assert (found.low, found.value, found.high) == (1, 1, 1)
    rng = np.random.default_rng(SEED)
    true = np.minimum(rng.geometric(0.05, 300) - 1, 95)  # most of 96 labels have a row or two, many none
    guess = np.where(rng.random(300) < 0.9, true, rng.integers(0, 96, 300))
    counts = RowCounts(np.eye(96, dtype=bool)[guess], true)
    found = intervals(counts, n_resamples=500)["f1_macro"]
    assert found.value == pytest.approx(f1_score(true, guess, average="macro", labels=range(96), zero_division=0))
    assert found.low < found.value < found.high


def test_other_rows_cannot_be_paired(cells: tuple[np.ndarray, np.ndarray]) -> None:
    decided, true = cells
    other = true.copy()
    other[10] = -100
    with pytest.raises(ValueError, match="same rows"):
        differences(RowCounts(decided, true), RowCounts(decided, other))


def test_nothing_of_a_head_without_labelled_rows() -> None:
    counts = RowCounts(np.zeros((3, 2), dtype=bool), np.full(3, -100))
    assert intervals(counts) == differences(counts, counts) == {}

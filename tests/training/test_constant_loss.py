"""The loss of the best constant prediction, against formulas and scikit-learn."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from scipy.optimize import minimize
from sklearn.metrics import log_loss

from multihead_hf import HeadConfig
from multihead_hf.model.losses_multihead import AdditiveTerm, loss_terms
from multihead_hf.training.constant_loss import _minimise, best_constant, best_constants

LABELS = ["a", "b", "c"]


def multi(**settings: Any) -> HeadConfig:
    return HeadConfig(labels=LABELS, problem_type="multi_label_classification", **settings)


def rows(**labels: list[Any]) -> list[dict[str, Any]]:
    return [{"labels": dict(zip(labels, values, strict=True))} for values in zip(*labels.values(), strict=True)]


def drawn_cells(count: int, soft: bool = False) -> list[Any]:
    rng = np.random.default_rng(0)
    shares = np.array([0.5, 0.1, 0.02])
    cells = rng.random((count, 3)) * shares if soft else (rng.random((count, 3)) < shares).astype(float)
    return cells.tolist()


def test_cross_entropy_is_the_entropy_of_the_labels() -> None:
    ids = [0] * 6 + [1] * 3 + [2] + [None] * 5
    found = best_constants(rows(kind=ids), {"kind": HeadConfig(labels=LABELS)})["kind"]
    shares = np.array([0.6, 0.3, 0.1])
    assert found.loss == pytest.approx(log_loss([i for i in ids if i is not None], [shares] * 10, labels=[0, 1, 2]))
    assert torch.softmax(found.logits, 0).numpy() == pytest.approx(shares, abs=1e-6)


def test_class_weights_count() -> None:
    ids = [0] * 6 + [1] * 3 + [2]
    head = HeadConfig(labels=LABELS, label_weights=[1.0, 2.0, 10.0])
    found = best_constants(rows(kind=ids), {"kind": head})["kind"]
    mass = np.array([6.0, 6.0, 10.0]) / 22
    assert found.loss == pytest.approx(-(mass * np.log(mass)).sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 10.0, 0.5]])
def test_cross_entropy_has_the_loss_that_a_search_finds(smoothing: float, weights: list[float] | None) -> None:
    """The last label has no row."""
    head = HeadConfig(labels=[*LABELS, "rare"], label_weights=weights, loss_kwargs={"label_smoothing": smoothing})
    ids = torch.tensor([0] * 6 + [1] * 3 + [2])
    found = best_constant("kind", head, ids, torch.ones(10, dtype=torch.float64))
    searched = _minimise(loss_terms("kind", head), torch.zeros(4, dtype=torch.float64), ids, torch.ones(10).double())
    assert found.loss == pytest.approx(searched.loss, rel=1e-4)
    assert found.loss <= searched.loss * (1 + 1e-6)
    (term,) = loss_terms("kind", head)
    assert isinstance(term, AdditiveTerm)
    value = term.numerator(found.logits.expand(10, -1), ids).sum() / term.denominator(ids).sum()
    assert float(value) == pytest.approx(found.loss, rel=1e-6)


@pytest.mark.parametrize("soft", [False, True])
def test_bce_is_the_mean_binary_entropy_of_the_known_cells(soft: bool) -> None:
    cells = drawn_cells(200, soft)
    cells[0], cells[1][2] = None, None  # a row and a cell that are not known
    found = best_constants(rows(topic=cells), {"topic": multi()})["topic"]
    known = np.array([[np.nan] * 3 if row is None else [np.nan if c is None else c for c in row] for row in cells])
    share, count = np.nanmean(known, 0), (~np.isnan(known)).sum(0)
    entropy = -(share * np.log(share) + (1 - share) * np.log(1 - share))
    assert found.loss == pytest.approx((entropy * count).sum() / count.sum(), rel=1e-6)
    assert torch.sigmoid(found.logits).numpy() == pytest.approx(share, abs=1e-4)


def test_sample_weights_count() -> None:
    made = rows(kind=[0, 1, 1])
    for row, weight in zip(made, (2.0, 1.0, 0.0), strict=True):
        row["sample_weight"] = weight
    found = best_constants(made, {"kind": HeadConfig(labels=["x", "y"])})["kind"]
    assert found.loss == pytest.approx(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))


@pytest.mark.parametrize("loss", ["focal", "asymmetric", "soft_f1", "soft_f1_bce"])
def test_of_any_loss_no_other_constant_is_better(loss: str) -> None:
    """Nelder and Mead's search, which knows nothing of gradients, from several starts."""
    cells, head = drawn_cells(60), multi(loss=loss)
    found = best_constants(rows(topic=cells), {"topic": head})["topic"]
    targets = torch.tensor(cells, dtype=torch.float64)

    def value(logits: Any) -> float:
        given = torch.tensor(logits, dtype=torch.float64).expand(len(targets), -1)
        total = 0.0
        for term in loss_terms("topic", head):
            assert isinstance(term, AdditiveTerm)
            total += term.weight * float(term.numerator(given, targets).sum() / term.denominator(targets).sum())
        return total

    starts = [np.zeros(3), np.array([0.0, -3.0, -5.0]), np.full(3, -2.0)]
    best = min(minimize(value, start, method="Nelder-Mead", options={"maxiter": 2000}).fun for start in starts)
    assert found.loss == pytest.approx(value(found.logits.numpy()))
    assert found.loss <= best * 1.02


def test_ratios_are_taken_over_all_rows() -> None:
    cells = drawn_cells(100)
    head = multi(loss="soft_f1", loss_kwargs={"average": "micro"})
    found = best_constants(rows(topic=cells), {"topic": head})["topic"]
    # the best constant prediction in F1 is to predict the labels of more than half of the best F1: here the first
    share = np.array(cells).mean(0)
    hits, predicted = share[0], 1.0
    assert found.loss == pytest.approx(1 - 2 * hits / (predicted + share.sum()), abs=0.02)


def test_heads_whose_loss_is_no_yardstick_are_left_out() -> None:
    """Divided by (nearly) nothing, their losses would drown those of the others."""

    def below_zero(head: HeadConfig, threshold_logits: Any = None) -> list[Any]:
        def gain(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return -(torch.sigmoid(logits) * (targets == 1)).sum(-1)

        return [AdditiveTerm("gain", 1.0, gain, lambda targets: (targets != -100).sum(-1).float())]

    heads = {
        "unlabelled": HeadConfig(labels=["x", "y"]),
        "one class": HeadConfig(labels=["x", "y"]),
        "no weight": HeadConfig(labels=["x", "y"], label_weights=[1.0, 0.0]),
        "gain": multi(),
        "fine": HeadConfig(labels=["x", "y"]),
    }
    heads["gain"].loss_function = below_zero
    values = {"unlabelled": [None, None], "one class": [1, 1], "no weight": [1, 1], "gain": [[1, 0, 0], [1, 1, 0]]}
    found = best_constants(rows(**values, fine=[0, 1]), heads)
    assert list(found) == ["fine"]


def test_a_head_with_little_to_learn_has_a_limited_weight() -> None:
    heads = {"rare": HeadConfig(labels=["x", "y"]), "fine": HeadConfig(labels=["x", "y"])}
    found = best_constants(rows(rare=[0] * 999 + [1], fine=[0, 1] * 500), heads)
    assert found["rare"].loss == 0.01  # 0.0079 without the limit
    assert found["fine"].loss == pytest.approx(math.log(2))


def test_rows_of_datasets_and_streams_and_lists_are_read_alike() -> None:
    made = rows(kind=[0, 1, 1, 2], topic=[[1.0, 0.0, 0.0], None, [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    heads = {"kind": HeadConfig(labels=LABELS), "topic": multi()}
    expected = {name: constant.loss for name, constant in best_constants(made, heads).items()}
    table = Dataset.from_list(made)
    for source in (table, table.to_iterable_dataset(), table.with_format("numpy")):
        assert {name: own.loss for name, own in best_constants(source, heads).items()} == pytest.approx(expected)


def test_of_many_labels_fewer_rows_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multihead_hf.training.constant_loss._MOST_CELLS", 9_000)
    cells = [[1.0, 0.0, 0.0]] * 3_000 + [[0.0, 0.0, 0.0]] * 3_000
    found = best_constants(Dataset.from_list(rows(topic=cells)), {"topic": multi()})["topic"]
    assert found.loss == pytest.approx(math.log(2) / 3, abs=0.005)
    assert found.loss != pytest.approx(math.log(2) / 3, abs=1e-7)  # (of all rows it would be exact)


def test_of_many_rows_some_are_drawn() -> None:
    ids = [0] * 30_000 + [1] * 10_000  # in order: the first rows alone would say that there is one label
    found = best_constants(Dataset.from_list(rows(kind=ids)), {"kind": HeadConfig(labels=["x", "y"])})["kind"]
    assert found.loss == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)), abs=0.01)

"""Temperatures: found again where they are known, and scored on other rows than they were fitted on."""

import numpy as np
import pytest
from scipy.special import softmax

from multihead_hf.evaluation.calibration import calibrate_head, expected_calibration_error, reliability


def test_a_known_temperature_is_found_again() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, (4000, 4))
    ids = np.array([rng.choice(4, p=row) for row in softmax(true, axis=1)])
    found = calibrate_head(true * 3, ids, multi_label=False, before=None)
    assert found.temperature == pytest.approx(3, rel=0.1)
    assert found.before["ece"] > 0.1
    assert found.after["ece"] < 0.03
    assert found.after["nll"] < found.before["nll"]
    cells = (rng.random((4000, 4)) < 1 / (1 + np.exp(-true))).astype(np.float32)
    scaled = true * np.array([0.5, 1.0, 2.0, 4.0])
    each = calibrate_head(scaled, cells, multi_label=True, before=None, granularity="label")
    assert each.temperature == pytest.approx([0.5, 1, 2, 4], rel=0.15)
    assert each.after["ece"] < 0.02


def test_missing_and_rare_labels() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (500, 2))
    cells = (rng.random((500, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    cells[:, 1] = 0
    cells[:3, 1] = 1
    cells[100:200, 0] = -100
    found = calibrate_head(logits, cells, multi_label=True, before=None, granularity="label", min_support=20)
    assert isinstance(found.temperature, list)
    pooled = calibrate_head(logits, cells, multi_label=True, before=None)
    assert found.temperature[1] == pytest.approx(pooled.temperature)
    assert found.temperature[0] != pytest.approx(pooled.temperature)
    ids = np.array([0, 1, -100] * 10)
    assert calibrate_head(rng.normal(0, 1, (30, 2)), ids, multi_label=False, before=None).rows == 20


def test_reliability_and_its_error() -> None:
    curve = reliability(np.array([0.1, 0.12, 0.9, 1.0]), np.array([False, False, True, False]), bins=10)
    assert curve == [(pytest.approx(0.11), 0.0, 2), (pytest.approx(0.95), 0.5, 2)]
    assert expected_calibration_error(curve) == pytest.approx((2 * 0.11 + 2 * 0.45) / 4)


def test_too_few_rows() -> None:
    with pytest.raises(ValueError, match="2 labelled rows: calibration needs at least 5"):
        calibrate_head(np.ones((3, 2)), np.array([0, 1, -100]), multi_label=False, before=None)


@pytest.mark.parametrize("before", [None, 2.5])
def test_rows_of_one_label_determine_no_temperature(before: float | None) -> None:
    logits = np.random.default_rng(0).normal(size=(40, 2)) + np.array([3.0, 0.0])
    found = calibrate_head(logits, np.zeros(40, dtype=np.int64), False, before)
    assert not found.is_determined
    assert found.temperature == (1.0 if before is None else before)
    assert found.after == pytest.approx(found.before)


@pytest.mark.parametrize("cell", [0.0, 1.0])
def test_cells_that_are_all_equal_determine_no_temperature(cell: float) -> None:
    logits = np.random.default_rng(0).normal(size=(40, 3)) + 1.0
    for granularity in ("head", "label"):
        found = calibrate_head(logits, np.full((40, 3), cell), True, None, granularity, min_support=0)
        assert not found.is_determined
        assert found.temperature == 1.0 if granularity == "head" else [1.0, 1.0, 1.0]
        assert found.after == pytest.approx(found.before)


@pytest.mark.parametrize("folds", [1, 0, -2, 2.5, True])
def test_folds_that_are_none(folds: object) -> None:
    with pytest.raises(ValueError, match=r"folds .*: give a whole number of 2 or more"):
        calibrate_head(np.zeros((40, 2)), np.zeros(40, dtype=np.int64), False, None, folds=folds)

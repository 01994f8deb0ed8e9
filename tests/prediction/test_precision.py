"""A lower precision is chosen where it decides as float32 does, but for near-ties."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from multihead_hf import HeadConfig, MultiHeadPredictor, predict_files
from multihead_hf.model.decoding_multihead import HeadPrediction, predict
from multihead_hf.prediction import precision as precision_module
from multihead_hf.prediction.precision import choose, compare

HEADS = {
    "topic": HeadConfig(["a", "b", "c"], "multi_label_classification", thresholds=[0.5, 0.5, 0.3]),
    "mood": HeadConfig(["x", "y", "z"]),
}


def predictions(topic: list[float], mood: list[float]) -> dict[str, HeadPrediction]:
    """Of one text, from probabilities."""
    logits = {"topic": torch.logit(torch.tensor([topic])), "mood": torch.tensor([mood]).log()}
    return {name: predict(head, logits[name], None, None) for name, head in HEADS.items()}


SAFE = [0.9, 0.1, 0.9], [0.8, 0.1, 0.1]


@pytest.mark.parametrize(
    ("exact", "lower", "changed", "ties"),
    [
        (SAFE, SAFE, 0, 0),
        (([0.9, 0.51, 0.9], SAFE[1]), ([0.9, 0.49, 0.9], SAFE[1]), 1, 1),
        (([0.9, 0.53, 0.9], SAFE[1]), ([0.9, 0.49, 0.9], SAFE[1]), 1, 0),  # float32 was sure
        (([0.9, 0.1, 0.49], SAFE[1]), ([0.9, 0.1, 0.29], SAFE[1]), 1, 0),  # near 0.5, whose threshold is 0.3
        ((SAFE[0], [0.445, 0.435, 0.12]), (SAFE[0], [0.435, 0.445, 0.12]), 1, 1),
        ((SAFE[0], [0.5, 0.4, 0.1]), (SAFE[0], [0.4, 0.5, 0.1]), 1, 0),
        # a near-tie of one head does not excuse another head
        (([0.9, 0.51, 0.9], [0.5, 0.4, 0.1]), ([0.9, 0.49, 0.9], [0.4, 0.5, 0.1]), 1, 0),
    ],
)
def test_changes_beyond_near_ties_forbid_it(
    exact: tuple[list[float], list[float]], lower: tuple[list[float], list[float]], changed: int, ties: int
) -> None:
    choice = choose(HEADS, [predictions(*SAFE), predictions(*exact)], [predictions(*SAFE), predictions(*lower)], "bf16")
    assert (choice.rows, choice.changed, choice.near_ties) == (2, changed, ties)
    assert choice.precision == ("bf16" if changed == ties else "fp32")
    pairs = zip([*exact[0], *exact[1]], [*lower[0], *lower[1]], strict=True)
    assert choice.difference == pytest.approx(max(abs(one - other) for one, other in pairs), abs=1e-6)


def logits(*rows: float) -> dict[str, np.ndarray]:
    return {"mood": np.array([[row, 0.0, 0.0] for row in rows], dtype=np.float32)}


@pytest.mark.parametrize(
    ("lower", "rows", "precision"),
    [((3.0, 5.0), 1, "bf16"), ((3.0, np.nan), 1, "bf16"), ((np.inf, 5.0), 0, "fp32"), ((-3.0, 5.0), 1, "fp32")],
)
def test_texts_whose_logits_are_not_finite_are_not_compared(
    lower: tuple[float, float], rows: int, precision: str
) -> None:
    heads = {"mood": HEADS["mood"]}
    results = {"fp32": [logits(3.0, np.nan)], "bf16": [logits(*lower)]}

    def decode(given: Any) -> dict[str, HeadPrediction]:
        return {"mood": predict(heads["mood"], torch.from_numpy(given["mood"]), None, None)}

    choice = compare(heads, results.__getitem__, decode, "bf16")
    assert (choice.rows, choice.precision) == (rows, precision)


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> MultiHeadPredictor:
    """A predictor on hardware that is faster in bf16."""
    monkeypatch.setattr(precision_module, "is_faster_in_bf16", lambda on_cpu: True)
    return MultiHeadPredictor(tiny.model(), tiny.tokenizer(), device="cpu", backend="torch")


TEXTS = [f"w{row % 90} w{row % 7} w{row % 11}" for row in range(600)]


def test_a_choice_is_of_one_model(predictor: MultiHeadPredictor) -> None:
    assert predictor.choose_precision(TEXTS) is predictor.choice
    predictor.predict(TEXTS[:3])
    assert predictor.choice is not None
    with torch.no_grad():
        predictor.model.heads["mood"].layers[-1].weight.mul_(2)
    predictor.predict(TEXTS[:3])
    assert (predictor.choice, predictor.chosen) == (None, None)


def test_a_file_is_predicted_in_the_precision_that_was_chosen(predictor: MultiHeadPredictor, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text\nw1 w2\n")
    for precision in ("bf16", "fp32"):
        predictor.use(precision)
        report = predict_files(predictor, str(tmp_path / "rows.csv"), str(tmp_path / f"{precision}.csv"))
        assert (report.precision, predictor.chosen) == (precision, precision)
        assert report.precision_reason is None


def test_the_report_of_a_file_says_why_its_precision_was_chosen(predictor: MultiHeadPredictor, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("\n".join(["text", *TEXTS]))
    report = predict_files(predictor, str(tmp_path / "rows.csv"), str(tmp_path / "out.csv"))
    assert predictor.choice is not None
    assert (report.precision, report.precision_reason) == (predictor.choice.precision, predictor.choice.reason)


def test_a_precision_that_cannot_be_used(predictor: MultiHeadPredictor) -> None:
    with pytest.raises(ValueError, match=r"Unknown precision .bf6.\. Did you mean .bf16."):
        predictor.use("bf6")
    with pytest.raises(ValueError, match=r"^choose_precision: give some texts"):
        predictor.choose_precision([])

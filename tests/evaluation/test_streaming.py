"""Metrics counted batch by batch are those of all rows at once; areas beyond the kept rows are within the stated error."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, confusion_matrix, roc_auc_score

from multihead_hf import HeadConfig
from multihead_hf.evaluation.counts import binned_areas
from multihead_hf.evaluation.metrics import compute_metrics
from multihead_hf.evaluation.streaming import StreamingMetrics
from multihead_hf.model.decoding_multihead import decide, probabilities

HEADS = {
    "topic": HeadConfig(
        labels=["a", "b", "c", "d"],
        problem_type="multi_label_classification",
        thresholds=[0.3, 0.5, 0.6, 0.9],
        calibration_temperature=1.7,
    ),
    "mood": HeadConfig(labels=["calm", "angry"], positive_label="angry"),
    "channel": HeadConfig(labels=["phone", "email", "web"]),
}


def drawn(rows: int, seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator)

    logits = {name: (rand(rows, head.num_labels) - 0.6) * 6 for name, head in HEADS.items()}
    topic = (rand(rows, 4) < torch.sigmoid(logits["topic"])).float()
    topic[rand(rows, 4) < 0.1] = -100
    topic[rand(rows) < 0.1] = -100
    mood, channel = (rand(rows) * 2).long(), (rand(rows) * 3).long()
    mood[rand(rows) < 0.2] = -100
    return logits, {"topic": topic, "mood": mood, "channel": channel}


def at_once(logits: dict[str, torch.Tensor], references: dict[str, torch.Tensor]) -> dict[str, float]:
    scores = {name: probabilities(HEADS[name], own) for name, own in logits.items()}
    decisions: dict[str, Any] = {name: decide(HEADS[name], own) for name, own in scores.items()}
    decisions |= {name: decisions[name].int().argmax(-1) for name in ("mood", "channel")}
    arrays = ({name: own.numpy() for name, own in each.items()} for each in (scores, decisions, references))
    return compute_metrics(HEADS, *arrays)


def streamed(logits: Any, references: Any, batch: int, exact_rows: int = 10_000) -> StreamingMetrics:
    found = StreamingMetrics(HEADS, exact_rows)
    rows = len(references["mood"])
    for begin in range(0, rows, batch):
        found.add(*({name: own[begin : begin + batch] for name, own in each.items()} for each in (logits, references)))
    return found


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_any_batching_is_all_rows_at_once(batch: int) -> None:
    logits, references = drawn(200)
    expected = at_once(logits, references)
    found = streamed(logits, references, batch).figures()
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, abs=1e-9)


def test_beyond_the_kept_rows_areas_are_within_the_stated_error() -> None:
    logits, references = drawn(5000)
    expected = at_once(logits, references)
    metrics = streamed(logits, references, 64, exact_rows=300)
    found = metrics.figures()
    areas = {key for key in expected if "roc_auc" in key or "average_precision" in key}
    assert len(areas) == 4
    assert 0 < metrics.binning_error < 0.02
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=metrics.binning_error if key in areas else 1e-9), key
    assert any(found[key] != expected[key] for key in areas)
    assert streamed(logits, references, 64).binning_error == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=6), st.randoms())
@settings(max_examples=100, deadline=None)
def test_the_stated_error_holds_for_any_order_within_bins(bins: list[tuple[int, int]], random: Any) -> None:
    negative, positive = (np.array([each[which] for each in bins]) for which in (0, 1))
    if not negative.any() or not positive.any():
        return
    auc, average, auc_error, average_error = binned_areas(negative, positive)
    for order in ("shuffled", "best", "worst"):
        truth, scores = [], []
        for place, (n, p) in enumerate(bins):
            cells = [0] * n + [1] * p
            if order == "shuffled":
                random.shuffle(cells)
            elif order == "worst":
                cells.reverse()
            truth += cells
            scores += [place + i / (len(cells) + 1) for i in range(len(cells))]
        assert abs(auc - roc_auc_score(truth, scores)) <= auc_error + 1e-9
        assert abs(average - average_precision_score(truth, scores)) <= average_error + 1e-9


def test_tables() -> None:
    logits, references = drawn(300)
    found = streamed(logits, references, 50)
    labelled = references["mood"] != -100
    decided = logits["mood"].argmax(1)[labelled]
    expected = confusion_matrix(references["mood"][labelled], decided)
    matrix = found.confusion_matrix("mood")
    assert (matrix.to_numpy() == expected).all()
    assert list(matrix.index) == list(matrix.columns) == ["calm", "angry"]
    table = found.label_table("topic")
    assert list(table["threshold"]) == [0.3, 0.5, 0.6, 0.9]
    assert table.loc["a", "support"] == (references["topic"][:, 0] == 1).sum()
    assert found.label_table("mood")["f1"].mean() == pytest.approx(found.figures()["mood_f1_macro"])
    pairs = found.confused_labels("topic")
    chosen = decide(HEADS["topic"], probabilities(HEADS["topic"], logits["topic"]))
    known = references["topic"] != -100
    first = pairs.iloc[0]
    i, j = (HEADS["topic"].labels.index(first[side]) for side in ("missed", "predicted"))
    missed = (references["topic"][:, i] == 1) & ~chosen[:, i]
    wrong = (references["topic"][:, j] == 0) & chosen[:, j] & known[:, j]
    assert first["rows"] == (missed & wrong).sum() > 0
    assert list(pairs["rows"]) == sorted(pairs["rows"], reverse=True)
    with pytest.raises(ValueError, match="head 'topic' is not a single-label head"):
        found.confusion_matrix("topic")
    with pytest.raises(ValueError, match="head 'mood' is not a multi-label head"):
        found.confused_labels("mood")


def test_nothing_labelled() -> None:
    logits, references = drawn(10)
    nothing = {name: torch.full_like(own, -100) for name, own in references.items()}
    assert streamed(logits, nothing, 5).figures() == {}

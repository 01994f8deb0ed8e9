"""Heads whose predictions are of no use: what is said of them."""

import pytest
import torch
from sklearn.metrics import cohen_kappa_score, f1_score

from multihead_hf import HeadConfig
from multihead_hf.evaluation.collapse import collapsed_heads, heads_with_better_thresholds, messages
from multihead_hf.evaluation.streaming import StreamingMetrics

LABELS = ["joy", "fear", "anger", "love"]


def found(probabilities: list[float], references: list[float], rows: int = 40, **settings: object) -> dict:
    """What is said of a head that gives every row these probabilities, whose references are those."""
    heads = {"emotion": HeadConfig(labels=LABELS, problem_type="multi_label_classification", **settings)}
    metrics = StreamingMetrics({**heads, "mood": HeadConfig(labels=["calm", "angry"])})
    logits = torch.logit(torch.tensor([probabilities] * rows))
    for begin in range(0, rows, 16):
        part = slice(begin, begin + 16)
        mood = torch.zeros(rows, dtype=torch.long)[part]
        references_of_part = torch.tensor([references] * rows)[part]
        metrics.add(
            {"emotion": logits[part], "mood": torch.zeros(rows, 2)[part]}, {"emotion": references_of_part, "mood": mood}
        )
    metrics.figures()
    return collapsed_heads(metrics)


def test_no_threshold_is_reached() -> None:
    assert found([0.31, 0.1, 0.05, 0.99], [1.0, 0.0, 1.0, -100.0]) == {
        "emotion": (
            "nothing",
            "head 'emotion' reached no threshold on 40 labelled rows: its highest probability is 0.31 (threshold 0.5). "
            "Tune thresholds (tune_thresholds), raise head_learning_rate, or train longer.",
        )
    }


def test_thresholds_of_its_own() -> None:
    ((_, text),) = found([0.2, 0.1, 0.05, 0.1], [1.0, 0.0, 1.0, 0.0], thresholds=[0.3, 0.3, 0.7, 0.5]).values()
    assert "its highest probability is 0.2 (thresholds 0.3 to 0.7)." in text


def test_only_wrong_labels_are_predicted() -> None:
    ((kind, text),) = found([0.2, 0.9, 0.1, 0.1], [1.0, 0.0, 1.0, 0.0]).values()
    assert kind == "nothing"
    assert (
        "head 'emotion' predicts almost nothing on 40 labelled rows: 0 of 80 labels that apply, and its highest" in text
    )


def test_almost_everything_is_predicted() -> None:
    assert found([0.52, 0.9, 0.8, 0.7], [1.0, 0.0, 0.0, 0.0]) == {
        "emotion": (
            "everything",
            "head 'emotion' predicts almost everything on 40 labelled rows: 100% of its labels, and 25% apply; its "
            "lowest probability is 0.52 (threshold 0.5). Tune thresholds (tune_thresholds), check pos_weight and how "
            "empty labels are read, or train longer.",
        )
    }


def test_everything_is_predicted_where_most_applies() -> None:
    ((kind, text),) = found([0.52, 0.9, 0.8, 0.7], [1.0, 0.0, 1.0, 1.0]).values()
    assert kind == "everything"
    assert "predicts almost everything on 40 labelled rows: 100% of its labels, and 75% apply; its lowest" in text


@pytest.mark.parametrize(("others", "is_said"), [(9, False), (10, True)])
def test_enough_labels_must_not_apply(others: int, is_said: bool) -> None:
    metrics = StreamingMetrics({"emotion": HeadConfig(labels=LABELS, problem_type="multi_label_classification")})
    references = torch.ones(40, 4)
    references[:others, 0] = 0
    metrics.add({"emotion": torch.ones(40, 4)}, {"emotion": references})
    assert bool(collapsed_heads(metrics)) == is_said


def test_the_messages_of_many_heads() -> None:
    heads = {f"head{number}": ("nothing", f"text {number}") for number in range(7)}
    assert messages(heads) == [
        *(f"text {number}" for number in range(5)),
        "and 2 other heads have learned nothing or need other thresholds: head5, head6",
    ]


@pytest.mark.parametrize("exact_rows", [10_000, 10])  # scores of all rows, and scores in bins
def test_another_threshold_would_be_better(exact_rows: int) -> None:
    probabilities = torch.tensor([0.9, 0.3, 0.25, 0.02]).repeat(100, 1)
    references = torch.tensor([1.0, 1.0, 0.0, 0.0]).repeat(100, 1)
    references[:50, 2] = -100  # not known
    metrics = StreamingMetrics(
        {"emotion": HeadConfig(labels=LABELS, problem_type="multi_label_classification")}, exact_rows
    )
    for part in (slice(0, 40), slice(40, 100)):
        metrics.add({"emotion": torch.logit(probabilities[part])}, {"emotion": references[part]})
    threshold, f1 = metrics.best_common_threshold("emotion")
    assert 0.25 < threshold <= 0.3
    assert f1 == 1.0 == f1_score(references[50:], probabilities[50:] >= threshold, average="micro")
    ((name, (kind, text)),) = heads_with_better_thresholds(metrics).items()
    assert (name, kind) == ("emotion", "threshold")
    assert text == (
        "head 'emotion' predicts 100 labels on 100 labelled rows, and 200 apply. Its micro F1 is 0.667 (threshold "
        f"0.5); on these rows it would be 1.000 with a threshold of {threshold:.2g}. Tune thresholds on validation "
        "rows (tune_thresholds)."
    )


def test_the_best_threshold_is_that_of_a_search() -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 4, generator=draw)
    references = (torch.rand(300, 4, generator=draw) < torch.sigmoid(2 * logits - 2)).float()
    metrics = StreamingMetrics({"emotion": HeadConfig(labels=LABELS, problem_type="multi_label_classification")})
    metrics.add({"emotion": logits}, {"emotion": references})
    threshold, f1 = metrics.best_common_threshold("emotion")
    scores = [f1_score(references, logits >= cut, average="micro") for cut in logits.flatten().tolist()]
    assert f1 == pytest.approx(max(scores), abs=0.003)  # scores are counted in bins
    cut = torch.logit(torch.tensor(threshold))
    assert f1_score(references, logits >= cut, average="micro") == pytest.approx(f1, abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "probability"),
    [
        (50, 0.3),  # too few labels apply
        (200, 0.6),  # the threshold is right
    ],
)
def test_no_other_threshold_is_recommended(rows: int, probability: float) -> None:
    metrics = StreamingMetrics({"emotion": HeadConfig(labels=LABELS, problem_type="multi_label_classification")})
    logits = torch.logit(torch.tensor([probability, 0.1, 0.1, 0.1])).repeat(rows, 1)
    metrics.add({"emotion": logits}, {"emotion": torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(rows, 1)})
    assert heads_with_better_thresholds(metrics) == {}


def test_logits_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match=r"head 'emotion': its logits are not finite .* in 40 of 40 rows"):
        found([float("nan")] * 4, [1.0, 0.0, 1.0, 0.0])


@pytest.mark.parametrize(
    ("probabilities", "references", "rows"),
    [
        ([0.9, 0.1, 0.1, 0.1], [1.0, 0.0, 1.0, 0.0], 40),  # half of the labels are found
        ([0.31, 0.1, 0.1, 0.1], [1.0, 0.0, 1.0, 0.0], 19),  # too few rows
        ([0.31, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0], 40),  # nothing was there to be found
        ([0.9, 0.9, 0.9, 0.1], [1.0, 0.0, 0.0, 0.0], 40),  # many labels, but by no means all
    ],
)
def test_nothing_is_said(probabilities: list[float], references: list[float], rows: int) -> None:
    assert found(probabilities, references, rows) == {}


def said_of_single_label(true: list[int], predicted: list[int]) -> dict:
    """What is said of a single-label head with these label ids."""
    metrics = StreamingMetrics({"mood": HeadConfig(labels=["calm", "angry", "sad"])})
    metrics.add({"mood": torch.eye(3)[predicted]}, {"mood": torch.tensor(true)})
    return collapsed_heads(metrics)


def test_one_label_for_all_rows() -> None:
    assert said_of_single_label([0] * 10 + [1] * 30, [0] * 40) == {
        "mood": (
            "chance",
            "head 'mood' predicts 'calm' for all 40 labelled rows, and 25.0% have that label. Check that its texts and "
            "labels belong together, train longer, or label more rows.",
        )
    }


def test_no_better_than_chance() -> None:
    """Half of each label is predicted as each of two labels: Cohen's kappa is 0."""
    assert said_of_single_label([0] * 20 + [1] * 20, [0, 1] * 20) == {
        "mood": (
            "chance",
            "head 'mood' is hardly better than chance on 40 labelled rows: accuracy 0.500, and 0.500 by always "
            "predicting 'calm'. Check that its texts and labels belong together, train longer, or label more rows.",
        )
    }


@pytest.mark.parametrize(("hits", "is_said"), [(103, True), (107, False)])
def test_the_limit_of_kappa(hits: int, is_said: bool) -> None:
    """Of 100 rows of each label, as many are predicted as each: kappa is 2 · hits / 200 − 1, here 0.03 or 0.07."""
    true = [0] * 100 + [1] * 100
    half = hits // 2
    predicted = [0] * half + [1] * (100 - half) + [0] * (100 - (hits - half)) + [1] * (hits - half)
    kappa = cohen_kappa_score(true, predicted)
    assert kappa == pytest.approx(hits / 100 - 1, abs=1e-3)
    assert bool(said_of_single_label(true, predicted)) is is_said


@pytest.mark.parametrize(
    ("true", "predicted"),
    [
        ([0] * 100 + [1] * 12, [0] * 92 + [1] * 8 + [0] * 8 + [1] * 4),  # less often right than the frequent label
        ([0] * 9 + [1] * 10, [0] * 19),  # too few rows
        ([0] * 40, [0] * 40),  # all rows have that label
        ([0] * 500 + [1] * 9, [0] * 509),  # too few rows have another one
        ([0] * 20 + [1] * 20, [0] * 15 + [1] * 25),
    ],
)
def test_nothing_is_said_of_single_label_heads(true: list[int], predicted: list[int]) -> None:
    assert said_of_single_label(true, predicted) == {}


def test_without_a_known_negative_the_scores_show_nothing() -> None:
    said = found([0.9, 0.9, 0.9, 0.9], [1.0, -100.0, 1.0, -100.0])
    assert said["emotion"][0] == "negatives"
    assert said["emotion"][1].startswith(
        "head 'emotion': every known cell is 1, and the others are unknown on 40 labelled rows, so to predict every "
        "label is always right and its F1 shows nothing."
    )

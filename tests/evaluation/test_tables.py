"""The table of an evaluation, to the letter."""

import tiny
import torch

from multihead_hf import HeadConfig
from multihead_hf.evaluation.streaming import StreamingMetrics
from multihead_hf.evaluation.tables import evaluation_table, number

HEADS = {**tiny.two_heads(), "hate": HeadConfig(labels=["no", "yes"], positive_label="yes")}
FIGURES = {
    **{"topic_f1_micro": 0.5, "topic_f1_macro": 0.25, "topic_precision_micro": 1.0, "topic_recall_micro": 1 / 3},
    **{"topic_accuracy": 0.125, "topic_loss": 1234.5, "mood_accuracy": 0.75, "mood_f1_macro": 0.7},
    **{"mood_precision_macro": 0.8, "mood_recall_macro": 0.6, "mood_loss": 0.0625},
    **{"hate_accuracy": 0.9, "hate_f1": 0.1, "hate_f1_macro": 0.2, "hate_precision": 0.3, "hate_recall": 0.4},
    **{"hate_precision_macro": 0.99, "hate_recall_macro": 0.99, "f1": 0.4333, "loss": 1.25},
}


def test_a_line_for_each_head() -> None:
    rows = {"topic": (1168, 1300), "mood": (1300, 1300), "hate": (1300, 1300)}
    assert evaluation_table(HEADS, FIGURES, rows, "epoch 2") == (
        "epoch 2  loss 1.2500  mean F1 0.4333\n"
        "head   labels   rows  unlabelled  accuracy      F1  F1 micro  F1 macro  precision  recall    loss\n"
        "topic       3  1,168         132         -       -    0.5000    0.2500     1.0000  0.3333    1234\n"
        "mood        2  1,300           -    0.7500       -         -    0.7000     0.8000  0.6000  0.0625\n"
        "hate        2  1,300           -    0.9000  0.1000         -    0.2000     0.3000  0.4000       -"
    )


def test_columns_without_a_number_are_left_out_and_nothing_is_nan() -> None:
    name = "a very long name of a head indeed"
    table = evaluation_table(
        {name: HeadConfig(labels=["a", "b"])}, {f"{name}_loss": 0.5, f"{name}_accuracy": float("nan")}
    )
    assert table == "head                      labels    loss\na very long name of a...       2  0.5000"


def test_numbers() -> None:
    assert [number(each) for each in (0.5, -1 / 3, 12345.678, None, float("nan"), float("inf"))] == [
        *("0.5000", "-0.3333", "1.235e+04"),
        *("-", "-", "-"),
    ]


def test_streaming_metrics_print_as_the_table() -> None:
    metrics = StreamingMetrics(tiny.two_heads())
    logits = {"topic": torch.tensor([[9.0, -9.0, -9.0]] * 4), "mood": torch.tensor([[1.0, 0.0]] * 4)}
    topic = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, -100.0], [-100.0] * 3])
    metrics.add(logits, {"topic": topic, "mood": torch.tensor([0, 1, -100, -100])})
    assert metrics.rows() == {"topic": (3, 4), "mood": (2, 4)}
    assert repr(metrics) == "StreamingMetrics(topic: 3 of 4 rows, mood: 2 of 4 rows)"
    assert str(metrics) == (
        "mean F1 0.5000\n"
        "head   labels  rows  unlabelled  accuracy  F1 micro  F1 macro  precision  recall\n"
        "topic       3     3           1         -    0.6667    0.2667     0.6667  0.6667\n"
        "mood        2     2           2    0.5000         -    0.3333     0.2500  0.5000\n"
        "topic: 1 of 3 labels have no row here and count as 0 in F1 macro; over the others it is 0.4000"
    )
    metrics.losses = {"topic_loss": 0.5, "loss": 0.25}
    assert str(metrics).startswith("loss 0.2500  mean F1 0.5000\n")
    before = metrics.figures()
    metrics.add(logits, {"mood": torch.tensor([0, 0, 0, 0])})  # what was counted before is not what is reported now
    assert metrics.figures()["mood_accuracy"] > before["mood_accuracy"]
    assert metrics.rows() == {"topic": (3, 4), "mood": (6, 8)}

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import evaluate
import numpy as np
import pytest
import tiny
from peft import LoraConfig, get_peft_model

from multihead_hf import HeadConfig, MultiHeadMetric
from multihead_hf.evaluation.metrics import compute_metrics

ROOT = Path(__file__).parents[2]
MULTI, SINGLE = "multi_label_classification", "single_label_classification"


def head(labels, problem_type=SINGLE, positive_label=None, thresholds=None):
    return HeadConfig(labels, problem_type, positive_label=positive_label, thresholds=thresholds)


HEADS = {
    "topic.a b": head(["a", "b", "c"], MULTI),
    "items": head(["x", "y"], MULTI, thresholds=[0.2, 0.8]),
    "tone": head(["bad", "good"], SINGLE, "good"),
    "channel": head(["phone", "mail", "letter", "visit"]),
}


@pytest.fixture
def new_metric(tmp_path):
    """A maker of metrics that leave the user's cache alone."""
    return lambda heads=HEADS, **settings: MultiHeadMetric(heads, cache_dir=str(tmp_path), **settings)


def case(rows=30, seed=0):
    """Scores, the decisions they should lead to, and references with missing rows and cells."""
    rng = np.random.default_rng(seed)
    scores = {name: rng.random((rows, len(head.labels))) for name, head in HEADS.items()}
    decisions = {
        "topic.a b": scores["topic.a b"] >= 0.5,
        "items": scores["items"] >= np.array([0.2, 0.8]),
        "tone": scores["tone"].argmax(axis=1),
        "channel": scores["channel"].argmax(axis=1),
    }
    references = {
        "topic.a b": rng.choice([0.0, 1.0, 0.7, -100.0, np.nan], size=(rows, 3)),
        "items": rng.choice([0, 1], size=(rows, 2)),
        "tone": rng.choice([0, 1, -100], size=rows),
        "channel": rng.integers(0, 4, rows),
    }
    references["items"][rng.random(rows) < 0.3] = -100
    return scores, decisions, references


def part(arrays, rows):
    return {name: values[rows] for name, values in arrays.items()}


def test_one_call_equals_compute_metrics(new_metric):
    scores, decisions, references = case()
    expected = compute_metrics(HEADS, scores, decisions, references)
    assert {"topic.a b_f1_micro", "items_roc_auc_macro", "tone_f1", "channel_mcc", "f1"} <= set(expected)
    assert new_metric().compute(predictions=scores, references=references) == expected


@pytest.mark.parametrize("keep_in_memory", [True, False])
def test_batches_equal_one_call_and_the_rows_are_forgotten_afterwards(new_metric, keep_in_memory):
    metric = new_metric(keep_in_memory=keep_in_memory)
    for seed in (0, 1):
        scores, decisions, references = case(seed=seed)
        for rows in (slice(0, 1), slice(1, 20), slice(20, 20), slice(20, 25)):
            metric.add_batch(predictions=part(scores, rows), references=part(references, rows))
        last = slice(25, 30)
        result = metric.compute(predictions=part(scores, last), references=part(references, last))
        assert result == compute_metrics(HEADS, scores, decisions, references)


def test_single_rows_equal_one_call(new_metric):
    scores, decisions, references = case()
    metric = new_metric()
    for row in range(30):
        metric.add(prediction=part(scores, row), reference=part(references, row))
    assert metric.compute() == compute_metrics(HEADS, scores, decisions, references)


def test_batches_may_label_different_heads(new_metric):
    scores, decisions, references = case()
    metric = new_metric()
    first, rest = slice(0, 12), slice(12, 30)
    channel = {"channel": references["channel"][first]}
    others = {name: values[rest] for name, values in references.items() if name != "channel"}
    metric.add_batch(predictions=part(scores, first), references=channel)
    metric.add_batch(predictions=part(scores, rest), references=others)
    expected = {name: values.copy() for name, values in references.items()}
    expected["channel"][rest] = -100
    for name in others:
        expected[name][first] = -100
    result = metric.compute()
    assert result == compute_metrics(HEADS, scores, decisions, expected)
    assert {"channel_accuracy", "tone_accuracy"} <= set(result)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_score_that_equals_its_threshold_is_on_in_either_precision(new_metric, dtype):
    heads = {"h": head(["a", "b"], MULTI, thresholds=[0.565, 0.1])}
    scores = np.array([[0.565, 0.1], [0.56499, 0.09999]], dtype)
    result = new_metric(heads).compute(predictions={"h": scores}, references={"h": [[1, 1], [0, 0]]})
    assert result["h_accuracy"] == 1


def test_lists_booleans_and_float32_are_fine(new_metric):
    scores, decisions, references = case()
    scores, decisions = {"items": scores["items"].astype(np.float32)}, {"items": decisions["items"]}
    wanted = {"items": references["items"] == 1}
    expected = compute_metrics(HEADS, scores, decisions, wanted)
    assert new_metric().compute(predictions=scores, references=wanted) == expected
    lists = {"items": scores["items"].tolist()}, {"items": wanted["items"].tolist()}
    assert new_metric().compute(predictions=lists[0], references=lists[1]) == expected


def test_it_combines_with_other_evaluate_metrics(new_metric):
    scores, decisions, references = case()
    both = evaluate.combine({"ours": new_metric(), "again": new_metric()}, force_prefix=True)
    both.add_batch(predictions=scores, references=references)
    expected = compute_metrics(HEADS, scores, decisions, references)
    assert both.compute() == {f"{name}_{key}": value for name in ("ours", "again") for key, value in expected.items()}


def test_no_file_is_left_behind(new_metric, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    scores, _, references = case()
    new_metric().compute(predictions=scores, references=references)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# Errors


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ({"tone": [[0.1, 0.9]]}, None, "add_batch needs both predictions and references"),
        ({"tone": [[0.1, 0.9]]}, {}, "add_batch needs both predictions and references"),
        (
            {"tones": [[0.1, 0.9]]},
            {"tone": [0]},
            r"predictions contain the unknown head 'tones'; the heads are \['topic.a",
        ),
        ({"tone": [[0.1, 0.9]]}, {"tones": [0]}, "references contain the unknown head 'tones'"),
        ({"tone": [[0.1, 0.9]]}, {"items": [[0, 1]]}, "head 'items': has references but no predictions"),
        ({"tone": [[0.1, 0.2, 0.7]]}, {"tone": [0]}, r"head 'tone': scores have shape \(1, 3\), expected \(rows, 2\)"),
        (
            {"tone": [[0.1, 0.9]] * 2},
            {"tone": [0, 2]},
            r"head 'tone', row 1: reference 2 is not one of the 2 label ids",
        ),
        ({"tone": [[0.1, 0.9]] * 2}, {"tone": [0]}, r"head 'tone': references have shape \(1,\), expected \(2,\)"),
        ({"tone": [[-1.5, 3.0]]}, {"tone": [0]}, "head 'tone', row 0, label 0: score -1.5 is not a probability"),
        (
            {"items": [[0.1, 0.9]]},
            {"items": [[0, 1], [0, 1]]},
            r"head 'items': references have shape \(2, 2\), expected \(1, 2\)",
        ),
        (
            {"tone": [[0.1, 0.9]], "items": [[0.1, 0.9]] * 2},
            {"tone": [0], "items": [[0, 1]] * 2},
            "head 'items': has 2 rows, expected 1 as head 'tone'",
        ),
    ],
)
def test_wrong_batches_are_refused_and_leave_no_trace(new_metric, predictions, references, message):
    metric = new_metric()
    with pytest.raises(ValueError, match=message):
        metric.add_batch(predictions=predictions, references=references)
    with pytest.raises(ValueError, match=message):
        metric.compute(predictions=predictions, references=references)
    scores, decisions, wanted = case()
    assert metric.compute(predictions=scores, references=wanted) == compute_metrics(HEADS, scores, decisions, wanted)


def test_there_must_be_heads_and_rows(new_metric):
    with pytest.raises(ValueError, match="needs heads"):
        new_metric({})
    with pytest.raises(ValueError, match="there are no rows: call add_batch first, or pass predictions and references"):
        new_metric().compute()
    with pytest.raises(ValueError, match="add needs both prediction and reference"):
        new_metric().add(prediction={"tone": [0.1, 0.9]})


# Processes

HEAD_CODE = """
import sys
import numpy as np
from multihead_hf import HeadConfig, MultiHeadMetric

heads = {
    "a": HeadConfig(labels=list("xyz"), problem_type="multi_label_classification"),
    "b": HeadConfig(labels=list("xyz")),
}
rng = np.random.default_rng(0)
scores = {"a": rng.random((10, 3)), "b": rng.random((10, 3))}
references = {"a": rng.integers(0, 2, (10, 3)), "b": rng.integers(0, 3, 10)}
"""


def start(code, cwd, *arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd)}
    return subprocess.Popen(
        [sys.executable, "-W", "error::FutureWarning", "-c", textwrap.dedent(code), *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process):
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out.strip()


@pytest.mark.slow
def test_it_works_without_a_network(tmp_path):
    block = """
    import socket

    def refuse(*_):
        raise AssertionError("the network was used")

    socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
    """
    use = "print(MultiHeadMetric(heads).compute(predictions=scores, references=references)['f1'])"
    assert 0 < float(output(start(textwrap.dedent(block) + HEAD_CODE + use, tmp_path))) < 1


@pytest.mark.nightly
@pytest.mark.distributed
def test_two_processes_equal_one(tmp_path):
    use = """
rank = int(sys.argv[1])
metric = MultiHeadMetric(
    heads, keep_in_memory=False, num_process=2, process_id=rank, experiment_id="two", cache_dir="cache", timeout=60
)
rows = slice(0, 6) if rank == 0 else slice(6, 10)
metric.add_batch(
    predictions={name: values[rows] for name, values in scores.items()},
    references={name: values[rows] for name, values in references.items()},
)
result = metric.compute()
if rank == 0:
    assert result == MultiHeadMetric(heads).compute(predictions=scores, references=references)
print(result is None)
"""
    processes = [start(HEAD_CODE + use, tmp_path, str(rank)) for rank in (0, 1)]
    assert [output(process) for process in processes] == ["False", "True"]


def test_learned_thresholds_of_a_model_are_those_it_has_now(new_metric):
    model = tiny.model(heads=tiny.two_heads(loss="soft_f1_bce", learn_thresholds=0.5))
    metrics = [new_metric(model), new_metric(get_peft_model(model, LoraConfig(target_modules=["query"])))]
    model.heads["topic"].threshold_logits.data.fill_(3.0)  # 0.95
    for metric in metrics:
        metric.add_batch(predictions={"topic": [[0.7, 0.7, 0.7]]}, references={"topic": [[1, 1, 1]]})
        assert metric.compute()["topic_f1_micro"] == 0.0

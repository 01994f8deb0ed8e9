import logging
import os
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    hamming_loss,
    matthews_corrcoef,
    precision_recall_fscore_support,
    precision_score,
    recall_score,
    roc_auc_score,
)

from multihead_hf.evaluation import metric_names as metric_names_file
from multihead_hf.evaluation import metrics
from multihead_hf.evaluation.metric_names import check_set_keys, main_score_name, metric_keys, metric_names
from multihead_hf.evaluation.metrics import compute_metrics, multi_label_metrics, single_label_metrics

ROOT = Path(__file__).parents[2]
MULTI, SINGLE = "multi_label_classification", "single_label_classification"
RATIOS = {"precision": precision_score, "recall": recall_score, "f1": f1_score}


@dataclass
class Head:
    labels: list[str]
    problem_type: str = SINGLE
    positive_label: str | None = None


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    monkeypatch.setattr(metrics, "_said", set())


def multi_label_case(seed, missing_rows=0.0, missing_cells=0.0):
    """Random scores, decisions and references: now and then one row, labels that never occur, rows without a label."""
    rng = np.random.default_rng(seed)
    rows, labels = int(rng.choice([1, 2, 3, 8, 15])), int(rng.integers(1, 7))
    rate = rng.choice([0.0, 0.1, 0.5, 1.0], size=labels, p=[0.15, 0.4, 0.4, 0.05])
    references = (rng.random((rows, labels)) < rate).astype(np.float32)
    scores = rng.random((rows, labels)).round(int(rng.integers(1, 4)))  # one decimal: many ties
    decisions = (scores >= rng.choice([0.2, 0.5, 0.9, 1.1])).astype(np.int64)
    references[rng.random((rows, labels)) < missing_cells] = -100
    references[rng.random(rows) < missing_rows] = -100
    return scores, decisions, references


def ratios(decided, true):
    """Precision, recall and F1 of one set of cells; scikit-learn refuses an empty set, whose denominators are 0."""
    return (
        precision_recall_fscore_support(true, decided, average="binary", zero_division=0)[:3]
        if len(true)
        else (0, 0, 0)
    )


def cell_by_cell(scores, decisions, references):
    """What scikit-learn says of each label and each row on its known cells alone."""
    known, true = references != -100, references >= 0.5
    rows = np.flatnonzero(known.any(axis=1))
    if not rows.size:
        return {}
    everything = (decisions[known], true[known])
    by_label = [(decisions[known[:, j], j], true[known[:, j], j]) for j in range(known.shape[1])]
    by_row = [(decisions[i, known[i]], true[i, known[i]]) for i in rows]
    expected = {
        "accuracy": np.mean([(decided == wanted).all() for decided, wanted in by_row]),
        "accuracy_cells": accuracy_score(everything[1], everything[0]),
    }
    label_ratios, row_ratios = (
        np.array([ratios(*part) for part in by_label]),
        np.array([ratios(*part) for part in by_row]),
    )
    occurs = [true[known[:, j], j].any() for j in range(true.shape[1])]
    for i, name in enumerate(("precision", "recall", "f1")):
        expected[f"{name}_micro"] = ratios(*everything)[i]
        expected[f"{name}_macro"] = label_ratios[:, i].mean()
        expected[f"{name}_samples"] = row_ratios[:, i].mean()
        if any(occurs):
            expected[f"{name}_macro_present"] = label_ratios[occurs, i].mean()
    two_classes = [j for j in range(known.shape[1]) if len(set(by_label[j][1])) == 2]
    for name, area in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
        if len(set(everything[1])) == 2:
            expected[f"{name}_micro"] = area(everything[1], scores[known])
        if two_classes:
            expected[f"{name}_macro"] = np.mean([area(by_label[j][1], scores[known[:, j], j]) for j in two_classes])
    return expected


# Multi-label


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing_rows", "missing_cells"), [(0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.3, 0.3), (1.0, 0.0)]
)
def test_multi_label_equals_scikit_learn_label_by_label_and_row_by_row(missing_rows, missing_cells):
    seen = set()
    for seed in range(30):
        scores, decisions, references = multi_label_case(seed, missing_rows, missing_cells)
        expected = cell_by_cell(scores, decisions, references)
        result = multi_label_metrics(scores, decisions, references)
        assert result == pytest.approx(expected, abs=1e-12), seed
        assert list(result) == [name for name in metric_names(MULTI) if name in expected]
        assert all(type(figure) is float for figure in result.values())
        seen |= set(result)
    assert seen == (set() if missing_rows == 1 else set(metric_names(MULTI)))


@pytest.mark.parametrize("missing_rows", [0.0, 0.3])
def test_multi_label_equals_scikit_learn_on_whole_matrices(missing_rows):
    compared = 0
    for seed in range(60):
        scores, decisions, references = multi_label_case(seed, missing_rows)
        labelled = references[:, 0] != -100
        scores, decisions, true = scores[labelled], decisions[labelled], references[labelled]
        if true.shape[1] < 2 or not labelled.any():  # for scikit-learn one column is not multi-label
            continue
        expected = {
            f"{name}_{mean}": ratio(true, decisions, average=mean, zero_division=0)
            for (name, ratio), mean in product(RATIOS.items(), ("micro", "macro", "samples"))
        }
        expected |= {"accuracy": accuracy_score(true, decisions), "accuracy_cells": 1 - hamming_loss(true, decisions)}
        if 0 < true.sum() < true.size:
            expected["roc_auc_micro"] = roc_auc_score(true, scores, average="micro")
            expected["average_precision_micro"] = average_precision_score(true, scores, average="micro")
        if all(0 < column.sum() < len(column) for column in true.T):
            expected["roc_auc_macro"] = roc_auc_score(true, scores, average="macro")
            expected["average_precision_macro"] = average_precision_score(true, scores, average="macro")
        all_references = np.full((len(labelled), true.shape[1]), -100.0)
        all_references[labelled] = true
        result = multi_label_metrics(*multi_label_case(seed, missing_rows)[:2], all_references)
        assert {name: result[name] for name in expected} == pytest.approx(expected, abs=1e-12), seed
        compared += "roc_auc_macro" in expected
    assert compared > 3


def test_present_labels_are_those_of_the_references_not_of_the_decisions():
    decisions = [[1, 0, 1], [1, 1, 0]]
    references = [[1, 0, 0], [1, 0, 0]]
    result = multi_label_metrics(np.full((2, 3), 0.5), decisions, references)
    assert (result["f1_macro"], result["f1_macro_present"]) == (pytest.approx(1 / 3), 1.0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_soft_targets_count_from_one_half_on_and_nan_is_unknown(dtype):
    scores, decisions, hard = multi_label_case(7, missing_cells=0.3)
    assert hard.size > 20
    soft = np.where(hard == 1, 0.5, np.where(hard == 0, 0.49, np.nan)).astype(dtype)
    assert multi_label_metrics(scores, decisions, soft) == multi_label_metrics(scores, decisions, hard)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int64, np.float32])
def test_any_number_type_holds_decisions_and_references(dtype):
    scores, decisions, references = multi_label_case(7)
    result = multi_label_metrics(scores, decisions.astype(dtype), references.astype(dtype))
    assert result == multi_label_metrics(scores, decisions, references)


def test_scores_may_have_any_precision_and_lists_are_arrays():
    scores, decisions, references = multi_label_case(7)
    halves = (scores * 64).round() / 64  # exact in float16
    expected = multi_label_metrics(halves, decisions, references)
    for other in (halves.astype(np.float16), halves.astype(np.float32), halves.tolist()):
        assert multi_label_metrics(other, decisions.tolist(), references.tolist()) == expected


def test_what_is_given_stays_as_it_is():
    arrays = multi_label_case(3, 0.2, 0.2)
    before = [array.copy() for array in arrays]
    multi_label_metrics(*arrays)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_a_hundred_thousand_rows_are_counted_in_about_a_second(monkeypatch):
    monkeypatch.setattr(metrics, "ranking_figures", lambda *_: {})
    rng = np.random.default_rng(0)
    scores = rng.random((100_000, 122), dtype=np.float32)
    references = (rng.random((100_000, 122), dtype=np.float32) < 0.02).astype(np.float32)
    start = time.process_time()
    multi_label_metrics(scores, scores >= 0.98, references)
    assert time.process_time() - start < 4  # about 0.6 s; a loop over rows or cells takes minutes


# What is undefined


@pytest.mark.parametrize(
    ("references", "left_out", "reason"),
    [
        ([[-100, -100], [-100, -100]], set(metric_names(MULTI)), "no row is labelled"),
        (np.zeros((0, 2)), set(metric_names(MULTI)), "no row is labelled"),
        (
            [[0, 0], [0, -100]],
            {n for n in metric_names(MULTI) if n.endswith("_present") or n.startswith(("roc", "average"))},
            "no label occurs in the references",
        ),
        (
            [[1, 1], [1, -100]],
            {n for n in metric_names(MULTI) if n.startswith(("roc", "average"))},
            "the known cells are all of one class",
        ),
        ([[1, 0], [1, 0]], {"roc_auc_macro", "average_precision_macro"}, "no label has known cells of both classes"),
    ],
)
def test_undefined_multi_label_metrics_are_left_out_and_the_reason_is_logged_once(references, left_out, reason, caplog):
    references = np.asarray(references)
    scores, decisions = np.full(references.shape, 0.7), np.ones(references.shape, int)
    with caplog.at_level(logging.INFO, logger=metrics.__name__), warnings.catch_warnings():
        warnings.simplefilter("error")
        result = multi_label_metrics(scores, decisions, references, head="topic")
        said = [record.getMessage() for record in caplog.records]
        multi_label_metrics(scores, decisions, references, head="topic")
        assert [record.getMessage() for record in caplog.records] == said
        multi_label_metrics(scores, decisions, references, head="other")
    assert set(metric_names(MULTI)) - set(result) == left_out
    assert all(text.startswith("head 'topic': ") for text in said)
    assert sum(reason in text for text in said) >= 1
    assert all(any(name in text for text in said) for name in left_out)
    assert len(caplog.records) == 2 * len(said)
    assert {record.levelno for record in caplog.records} == {logging.INFO}


def test_undefined_single_label_metrics_are_left_out_and_the_reason_is_logged(caplog):
    with caplog.at_level(logging.INFO, logger=metrics.__name__):
        assert single_label_metrics([0, 1], [-100, -100], ["a", "b"], "a", head="tone") == {}
        assert single_label_metrics([], [], ["a", "b"]) == {}
    names = ", ".join(metric_names(SINGLE, "a"))
    assert caplog.messages[0] == f"head 'tone': {names} left out: no row is labelled"


# Single-label


def single_label_case(seed):
    rng = np.random.default_rng(seed)
    rows, labels = int(rng.choice([1, 2, 3, 8, 40])), int(rng.integers(2, 7))
    high = int(rng.integers(1, labels + 1))  # labels that never occur
    references, decisions = rng.integers(0, high, rows), rng.integers(0, labels, rows)
    return np.where(rng.random(rows) < 0.4, references, decisions), references, [f"l{i}" for i in range(labels)]


@pytest.mark.slow
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_single_label_equals_scikit_learn(missing):
    for seed in range(100):
        decisions, references, labels = single_label_case(seed)
        gone = np.random.default_rng(seed).random(len(references)) < missing
        if gone.all():
            continue
        positive = seed % len(labels)
        true, decided = references[~gone], decisions[~gone]
        options = {"labels": range(len(labels)), "zero_division": 0}
        expected = {
            "accuracy": accuracy_score(true, decided),
            "f1_macro": f1_score(true, decided, average="macro", **options),
            "f1_weighted": f1_score(true, decided, average="weighted", **options),
            "precision_macro": precision_score(true, decided, average="macro", **options),
            "recall_macro": recall_score(true, decided, average="macro", **options),
            "mcc": correlation(true, decided),
            "precision": precision_score(true == positive, decided == positive, zero_division=0),
            "recall": recall_score(true == positive, decided == positive, zero_division=0),
            "f1": f1_score(true == positive, decided == positive, zero_division=0),
        }
        result = single_label_metrics(decisions, np.where(gone, -100, references), labels, labels[positive])
        assert result == pytest.approx(expected, abs=1e-12), seed
        assert list(result) == list(metric_names(SINGLE, labels[positive])) == list(expected)
        assert all(type(figure) is float for figure in result.values())
        assert list(single_label_metrics(decisions, references, labels)) == list(metric_names(SINGLE))


def correlation(true, decided):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a single label in both
        return matthews_corrcoef(true, decided)


def test_matthews_correlation_does_not_overflow():
    rng = np.random.default_rng(0)
    references = rng.integers(0, 3, 200_000)
    decisions = np.where(rng.random(200_000) < 0.5, references, rng.integers(0, 3, 200_000))
    expected = matthews_corrcoef(references, decisions)
    assert expected > 0.4
    assert single_label_metrics(decisions, references, ["a", "b", "c"])["mcc"] == pytest.approx(expected, abs=1e-12)


# All heads


def test_main_score_names():
    assert main_score_name(MULTI, None) == "f1_micro"
    assert main_score_name(SINGLE, "yes") == "f1"
    assert main_score_name(SINGLE, None) == "f1_macro"
    with pytest.raises(ValueError, match="problem_type 'regression' is neither 'single_label_classification' nor"):
        main_score_name("regression", None)


def three_heads():
    heads = {
        "topic": Head(["a", "b", "c"], MULTI),
        "tone": Head(["bad", "good"], SINGLE, "good"),
        "channel": Head(["phone", "mail"]),
    }
    rng = np.random.default_rng(1)
    scores = {name: rng.random((20, len(head.labels))) for name, head in heads.items()}
    references = {
        "topic": rng.integers(0, 2, (20, 3)),
        "tone": rng.integers(0, 2, 20),
        "channel": rng.integers(0, 2, 20),
    }
    decisions = {name: scores[name].argmax(axis=1) for name in ("tone", "channel")} | {"topic": scores["topic"] >= 0.5}
    return heads, scores, decisions, references


def test_compute_metrics_gives_each_heads_metrics_and_the_mean_main_score():
    heads, scores, decisions, references = three_heads()
    result = compute_metrics(heads, scores, decisions, references)
    by_head = {
        "topic": multi_label_metrics(scores["topic"], decisions["topic"], references["topic"]),
        "tone": single_label_metrics(decisions["tone"], references["tone"], ["bad", "good"], "good"),
        "channel": single_label_metrics(decisions["channel"], references["channel"], ["phone", "mail"]),
    }
    expected = {f"{head}_{name}": figure for head, figures in by_head.items() for name, figure in figures.items()}
    mean = (result["topic_f1_micro"] + result["tone_f1"] + result["channel_f1_macro"]) / 3
    assert result == expected | {"f1": pytest.approx(mean)}
    assert list(result) == [*expected, "f1"]
    assert set(result) < set(metric_keys(heads))


def test_the_mean_is_over_heads_with_labelled_rows():
    heads, scores, decisions, references = three_heads()
    del references["tone"]
    references["channel"][:] = -100
    result = compute_metrics(heads, scores, decisions, references)
    assert result["f1"] == result["topic_f1_micro"]
    assert all(key.startswith("topic_") for key in set(result) - {"f1"})
    references["topic"][:] = -100
    assert compute_metrics(heads, scores, decisions, references) == {}
    assert compute_metrics(heads, scores, decisions, {}) == {}


def test_single_label_heads_need_no_scores():
    heads, _, decisions, references = three_heads()
    del references["topic"]
    assert "tone_f1" in compute_metrics(heads, {}, decisions, references)


# Keys


def test_of_todays_names_only_average_precision_can_collide():
    # "<head>_<metric>" of two heads is one key only if a metric's name ends in "_" and another's name.
    names = {*metric_names(MULTI), *metric_names(SINGLE, "x"), "loss"}
    assert {pair for pair in product(names, names) if pair[0].endswith("_" + pair[1])} == {
        ("average_precision_micro", "precision_micro"),
        ("average_precision_macro", "precision_macro"),
    }


@pytest.mark.parametrize("names", [("a", "a_average"), ("a_average", "a")])
def test_average_precision_of_a_head_and_precision_of_another(names):
    heads = {name: Head(["x", "y"], MULTI) for name in names}
    owners = {"a": "'average_precision_micro' of head 'a'", "a_average": "'precision_micro' of head 'a_average'"}
    message = f"two metrics have the key 'a_average_precision_micro': {owners[names[0]]} and {owners[names[1]]}; rename"
    with pytest.raises(ValueError, match=message):
        compute_metrics(heads, {}, {}, {})


def test_the_keys_of_losses_are_taken(monkeypatch):
    monkeypatch.setattr(metric_names_file, "SINGLE_LABEL_METRICS", ("zero_one_loss",))
    heads = {"a": Head(["x", "y"]), "a_zero_one": Head(["x", "y"])}
    with pytest.raises(ValueError, match="'a_zero_one_loss': 'zero_one_loss' of head 'a' and 'loss' of head 'a_zero_"):
        metric_keys(heads)


@pytest.mark.parametrize(
    ("heads", "sets", "message"),
    [
        (
            {"mood": Head(["x", "y"], SINGLE, "x")},
            ["a", "a_mood"],
            "'eval_a_mood_f1': 'f1' of head 'mood' on the set 'a' and the mean of the heads' main scores on the set 'a_mo",
        ),
        (
            {"z": Head(["x", "y"]), "y_z": Head(["x", "y"])},
            ["x", "x_y"],
            "'eval_x_y_z_accuracy': 'accuracy' of head 'y_z' on the set 'x' and 'accuracy' of head 'z' on the set 'x_y'",
        ),
        (
            {"eval_a": Head(["x", "y"])},
            ["a"],
            "'eval_a_loss': the training loss of head 'eval_a' and the combined loss on the set 'a'",
        ),
    ],
)
def test_two_sets_with_one_key(heads, sets, message):
    with pytest.raises(ValueError, match=message):
        check_set_keys(heads, sets)


def test_sets_whose_keys_differ():
    check_set_keys({"mood": Head(["x", "y"])}, ["a", "b", "a_eval", "mood"])


def test_metric_keys_are_all_that_may_be_logged():
    keys = metric_keys({"a": Head(["x", "y"], SINGLE, "x")})
    assert list(keys) == [
        "f1",
        "loss",
        "eval_loss",
        "train_loss",
        *(f"a_{name}" for name in metric_names(SINGLE, "x")),
        "a_loss",
    ]


# Errors

GOOD = {"scores": [[0.1, 0.2]] * 4, "decisions": [[0, 1]] * 4, "references": [[0, 1]] * 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"references": [0, 1]}, r"head 'topic': references have shape \(2,\), expected \(rows, labels\)"),
        ({"references": [["a", "b"]] * 4}, "head 'topic': references have dtype <U1, expected numbers or booleans"),
        ({"references": [[None, 1]] * 4}, "head 'topic': references have dtype object, expected numbers or booleans"),
        (
            {"references": [[0, 1]] * 3 + [[0, 7]]},
            r"head 'topic', row 3, label 1: reference 7 is not in \[0, 1\] \(or -100 for unknown\)",
        ),
        ({"references": [[0, -0.1], [2, 0], [0, 0], [0, 0]]}, r"row 0, label 1: reference -0.1 is not in \[0, 1\]"),
        ({"decisions": [[0, 1]] * 3}, r"head 'topic': decisions have shape \(3, 2\), expected \(4, 2\)"),
        ({"decisions": [[0, 1], [0.5, 1], [0, 1], [0, 1]]}, "head 'topic', row 1, label 0: decision 0.5 is not 0 or 1"),
        ({"decisions": [[0, 1], [0, -100], [0, 1], [0, 1]]}, "row 1, label 1: decision -100 is not 0 or 1"),
        ({"scores": [[0.1, 0.2, 0.3]] * 4}, r"head 'topic': scores have shape \(4, 3\), expected \(4, 2\)"),
        ({"scores": [[0, 1]] * 4}, "head 'topic': scores have dtype int64, expected floats"),
        (
            {"scores": [[0.1, 0.2], [0.1, -3.5], [0.1, 0.2], [0.1, 0.2]]},
            r"head 'topic', row 1, label 1: score -3.5 is not a probability in \[0, 1\] \(the sigmoid or softmax of a",
        ),
        ({"scores": [[np.nan, 0.2]] * 4}, "head 'topic', row 0, label 0: score nan is not a probability"),
    ],
)
def test_wrong_multi_label_arrays(change, message):
    with pytest.raises(ValueError, match=message):
        multi_label_metrics(**GOOD | change, head="topic")


def test_scores_that_round_above_one_are_probabilities():
    assert multi_label_metrics([[1 + 1e-7, 0.0]], [[1, 0]], [[1, 0]])["roc_auc_micro"] == 1


@pytest.mark.parametrize(
    ("decisions", "references", "message"),
    [
        (
            [0, 0, 0, 0],
            [0, 4, -100, 7],
            r"head 'topic', row 3: reference 7 is not one of the 5 label ids 0..4 \(or -100 for missing\)",
        ),
        ([0, 0], [0, -1], "head 'topic', row 1: reference -1 is not one of the 5 label ids"),
        ([0, -100], [0, -100], r"head 'topic', row 1: decision -100 is not one of the 5 label ids 0\.\.4$"),
        ([5], [0], "head 'topic', row 0: decision 5 is not one of the 5 label ids"),
        ([0], [0, 1], r"head 'topic': decisions have shape \(1,\), expected \(2,\)"),
        ([[0, 1]], [0], r"head 'topic': decisions have shape \(1, 2\), expected \(1,\)"),
        ([0], [[1]], r"head 'topic': references have shape \(1, 1\), expected \(rows,\)"),
        ([0], [0.0], r"head 'topic': references have dtype float64, expected integers \(label ids\)"),
        ([True], [0], r"head 'topic': decisions have dtype bool, expected integers"),
    ],
)
def test_wrong_single_label_arrays(decisions, references, message):
    with pytest.raises(ValueError, match=message):
        single_label_metrics(decisions, references, list("abcde"), head="topic")


def test_without_a_head_messages_begin_with_the_row():
    with pytest.raises(ValueError, match=r"^row 0: reference 2 is not one of the 2 label ids"):
        single_label_metrics([0], [2], ["a", "b"])


def test_unknown_positive_label():
    with pytest.raises(ValueError, match=r"head 'tone': positive_label 'c' is not one of the labels \['a', 'b'\]"):
        single_label_metrics([0], [0], ["a", "b"], "c", head="tone")


@pytest.mark.parametrize("position", [0, 1, 2])
def test_unknown_heads_are_an_error(position):
    heads, *arrays = three_heads()
    arrays[position] = arrays[position] | {"topics": [0]}
    argument = ("scores", "decisions", "references")[position]
    expected = rf"{argument} contain the unknown head 'topics'; the heads are \['topic', 'tone', 'channel'\]"
    with pytest.raises(ValueError, match=expected):
        compute_metrics(heads, *arrays)


def test_heads_without_decisions_or_scores_or_with_other_labels_are_an_error():
    heads, scores, decisions, references = three_heads()
    with pytest.raises(ValueError, match="head 'topic': has references but no scores"):
        compute_metrics(heads, {}, decisions, references)
    with pytest.raises(ValueError, match="head 'topic': has references but no decisions"):
        compute_metrics(heads, scores, {}, references)
    heads["topic"] = Head(["a", "b"], MULTI)
    with pytest.raises(ValueError, match=r"head 'topic': references have shape \(20, 3\), expected \(rows, 2\)"):
        compute_metrics(heads, scores, decisions, references)


def test_importing_the_metrics_imports_neither_evaluate_nor_datasets(tmp_path):
    code = (
        "import sys; import multihead_hf.evaluation.metrics; "
        "print(sorted({'evaluate', 'datasets', 'multihead_hf'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "['multihead_hf']"

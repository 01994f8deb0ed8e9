"""An optimiser step is the same however its batch is split: over micro-batches, processes and lengths of padding."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import exact_runs
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROWS = 16
SPLITS = [(8, 2), (4, 4), (2, 8), (1, 16), (5, 4)]
LOSSES = {
    "multi_label_classification": ["bce", "focal", "asymmetric", "soft_f1", "soft_f1_bce"],
    "single_label_classification": ["cross_entropy"],
}


@st.composite
def head_settings(draw: st.DrawFn) -> dict[str, Any]:
    """A head with any loss that a split of the batch must not change."""
    problem_type = draw(st.sampled_from(list(LOSSES)))
    loss = draw(st.sampled_from(LOSSES[problem_type]))
    count = draw(st.integers(2, 4))
    head: dict[str, Any] = {
        "labels": [f"label {index}" for index in range(count)],
        "problem_type": problem_type,
        "loss": loss,
        "loss_weight": draw(st.sampled_from([1.0, 0.3, 2.0])),
        "architecture": draw(st.sampled_from(["linear", "mlp"])),
    }
    if "f1" in loss:
        head["loss_kwargs"] = draw(
            st.sampled_from(
                [
                    {},
                    {"average": "samples", "scope": "step"},
                    {"average": "micro", "scope": "step"},
                    {"average": "macro", "scope": "step"},
                    {"average": "macro", "scope": "step", "absent_labels": "count"},
                ]
            )
        )
        head["learn_thresholds"] = draw(st.sampled_from([None, 0.4]))
    elif draw(st.booleans()):
        head["label_weights"] = [1.0, 3.0, 0.5, 2.0][:count]
    if loss == "bce" and draw(st.booleans()):
        head["pos_weight"] = [2.0, 1.0, 5.0, 0.5][:count]
    if loss == "cross_entropy":
        head["loss_kwargs"] = draw(st.sampled_from([{}, {"label_smoothing": 0.1}]))
    return head


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    heads = draw(st.lists(head_settings(), min_size=1, max_size=3))
    return {
        "heads": {f"head {index}": head for index, head in enumerate(heads)},
        "rows": ROWS,
        "seed": draw(st.integers(0, 1000)),
        "missing": draw(st.sampled_from([0.0, 0.3, 0.8])),
        "weighted": draw(st.booleans()),
        "head_weighting": draw(st.sampled_from(["fixed", "prior", "uncertainty"])),
        "seed_padding": 0,
        "max_steps": 1,
        "optim": "sgd",
        "learning_rate": 0.1,
        "per_device_train_batch_size": ROWS,
    }


def assert_same_step(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Compare gradients and losses; returns whether the encoder has a gradient at all."""
    (whole,), (split,) = one["gradients"], other["gradients"]
    assert whole.keys() == split.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(split[name], gradient, rtol=1e-6, atol=1e-10, msg=lambda m, n=name: f"{n}: {m}")
    (logs_one,), (logs_other,) = one["logs"], other["logs"]
    assert logs_one == pytest.approx(logs_other, rel=1e-6, abs=1e-6)
    return any(gradient.abs().max() > 1e-6 for name, gradient in whole.items() if name.startswith("encoder"))


@pytest.mark.slow
def test_any_split_gives_the_same_step(tmp_path: Path) -> None:
    learned = []

    @settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=cases(), split=st.sampled_from(SPLITS), padding=st.integers(0, 5))
    def check(case: dict[str, Any], split: tuple[int, int], padding: int) -> None:
        batch, accumulation = split
        one = exact_runs.run(case, tmp_path)
        changes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        other = exact_runs.run({**case, **changes, "seed_padding": padding}, tmp_path)
        learned.append(assert_same_step(one, other))

    check()
    assert sum(learned) >= 0.8 * len(learned)


def on_two_processes(runs: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    """What the runs find on two processes."""
    (folder / "runs.json").write_text(json.dumps(runs))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launcher, exact_runs.__file__, str(folder / "runs.json"), str(folder / "found.pt")]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr[-5000:]
    found = torch.load(folder / "found.pt", weights_only=True)
    for each in found:
        assert (each["world_size"], each["wrapper"]) == (2, "DistributedDataParallel")
    return found


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_give_the_same_step(tmp_path: Path) -> None:
    drawn: list[dict[str, Any]] = []

    @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=cases())
    def draw(case: dict[str, Any]) -> None:
        drawn.append(case)

    draw()
    splits = [(8, 1), (4, 2), (2, 4), (1, 8)]
    changed = [
        {**case, "per_device_train_batch_size": batch, "gradient_accumulation_steps": steps, "seed_padding": index}
        for index, (case, (batch, steps)) in enumerate(zip(drawn, splits * len(drawn), strict=False))
    ]
    learned = [
        assert_same_step(exact_runs.run(case, tmp_path), found)
        for case, found in zip(drawn, on_two_processes(changed, tmp_path), strict=True)
    ]
    assert sum(learned) >= 0.8 * len(learned)


TRAJECTORY = {
    "heads": {
        "topic": {
            "labels": ["a", "b", "c", "d"],
            "problem_type": "multi_label_classification",
            "loss": "soft_f1_bce",
            "loss_kwargs": {"average": "macro", "scope": "step", "alpha": 0.5},
            "learn_thresholds": 0.565,
        },
        "mood": {"labels": ["calm", "angry", "sad"], "label_weights": [1.0, 3.0, 0.5]},
        "rare": {
            "labels": ["yes", "no", "perhaps"],
            "problem_type": "multi_label_classification",
            "loss": "soft_f1",
            "learn_thresholds": 0.4,
        },
    },
    "rows": 5 * ROWS + 10,  # the last step of an epoch is a shorter one
    "labelled_from": {"rare": 2 * ROWS},  # no label in the first two steps
    "seed": 3,
    "missing": 0.4,
    "weighted": True,
    "head_weighting": "uncertainty",
    "seed_padding": 0,
    "max_steps": 20,
    "learning_rate": 1e-3,
    "max_grad_norm": 1.0,
    "weight_decay": 0.01,
}


@pytest.mark.slow
@pytest.mark.distributed
def test_twenty_steps_are_the_same_however_they_are_split(tmp_path: Path) -> None:
    def split(batch: int, accumulation: int) -> dict[str, Any]:
        return {**TRAJECTORY, "per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation}

    one = exact_runs.run(split(16, 1), tmp_path)
    assert one["world_size"] == 1
    others = [exact_runs.run(split(4, 4), tmp_path), *on_two_processes([split(8, 1), split(4, 2)], tmp_path)]
    assert len(one["logs"]) == len(one["gradients"]) == 20
    for log in one["logs"][:2]:
        assert log["rare_loss"] == 0
    assert one["logs"][2]["rare_loss"] > 0
    # none in one process; else one for the step's units, one for the ratios' sums and one for the log
    assert [one["reductions"], *(other["reductions"] for other in others)] == [0, 0, 60, 60]
    for name, change in one["moved"].items():
        if "token_type" not in name:
            assert change.abs().max() > 0, name
    for other in others:
        for step, (logs, same) in enumerate(zip(one["logs"], other["logs"], strict=True)):
            assert logs == pytest.approx(same, rel=2e-6, abs=1e-6), f"step {step + 1}"
        for name, value in one["final"].items():
            torch.testing.assert_close(
                other["final"][name], value, rtol=1e-6, atol=1e-8, msg=lambda m, n=name: f"{n}: {m}"
            )

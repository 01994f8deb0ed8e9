"""Several processes make the same step as one, and a killed run goes on as if nothing had happened."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parent / "helpers" / "run_training.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(options: dict[str, Any], processes: int = 1) -> list[str]:
    launcher = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)] if processes > 1 else []
    )
    return [sys.executable, *launcher, str(SCRIPT), json.dumps(options)]


def train(options: dict[str, Any], processes: int = 1) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    done = subprocess.run(command(options, processes), env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-5000:]
    out = Path(options["output_dir"])
    return torch.load(out / "final.pt", weights_only=True), json.loads((out / "found.json").read_text())


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_make_the_step_of_one(tmp_path: Path) -> None:
    settings = {
        "max_steps": 5,
        "learning_rate": 1e-2,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "per_device_eval_batch_size": 4,
        "topic": {"loss_kwargs": {"average": "macro", "scope": "step"}},
        "stream": True,
    }
    one, alone = train({**settings, "output_dir": str(tmp_path / "1"), "per_device_train_batch_size": 8})
    split = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    two, together = train({**settings, **split, "output_dir": str(tmp_path / "2")}, processes=2)
    assert alone["world_size"] == 1
    assert together["world_size"] == 2
    assert together["wrapper"] == "DistributedDataParallel"
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=2e-5, rtol=1e-4)
    for log_one, log_two in zip(alone["logs"], together["logs"], strict=True):
        for key in ("loss", "topic_loss", "mood_loss", "topic_soft_f1", "topic_bce", "grad_norm"):
            assert log_one[key] == pytest.approx(log_two[key], rel=1e-3, abs=1e-5), key
    # 13 rows over two processes: the rows that the sampler adds are not counted, those that a stream's reader adds neither
    assert together["metrics"] == pytest.approx(alone["metrics"], abs=1e-4)
    losses = {key: value for key, value in together["metrics"].items() if key.endswith("loss")}
    assert sorted(losses) == ["eval_loss", "eval_mood_loss", "eval_topic_loss"]
    assert together["losses"] == pytest.approx(losses, abs=1e-6)
    assert alone["losses"] == pytest.approx(losses, abs=1e-4)
    assert alone["metrics"]["eval_topic_f1_micro"] > 0


@pytest.mark.slow
@pytest.mark.distributed
def test_two_processes_share_one_feature_cache(tmp_path: Path) -> None:
    settings = {"max_steps": 5, "learning_rate": 1e-2, "train_sampling_strategy": "sequential", "save_strategy": "no"}
    settings |= {"freeze_encoder": True}
    one, alone = train({**settings, "output_dir": str(tmp_path / "1"), "per_device_train_batch_size": 8})
    cached = {"per_device_train_batch_size": 4, "cache_features": True}
    two, together = train({**settings, **cached, "output_dir": str(tmp_path / "2")}, processes=2)
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=2e-5, rtol=1e-4)
    assert together["metrics"] == pytest.approx(alone["metrics"], abs=1e-4)
    assert len(list((tmp_path / "2" / "_features").glob("*.arrow"))) == 2
    assert not list((tmp_path / "2" / "_features").glob("*.part"))


@pytest.mark.slow
@pytest.mark.distributed
def test_a_stream_that_each_process_reads_is_refused(tmp_path: Path) -> None:
    settings = {"max_steps": 1, "save_strategy": "no", "output_dir": str(tmp_path), "stream": True}
    options = {**settings, "accelerator_config": {"dispatch_batches": False}}
    done = subprocess.run(command(options, 2), env=ENVIRONMENT, capture_output=True, text=True, timeout=280)
    assert done.returncode != 0
    assert "a stream is evaluated by 2 processes" in done.stderr
    assert '"split_batches": True' in done.stderr


STEP_SCOPE = {"topic": {"loss_kwargs": {"average": "macro", "scope": "step"}}, "gradient_accumulation_steps": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("extra", "stall"),
    [
        ({}, {"stall_amid_save": 4}),
        # resumes where the second epoch begins
        pytest.param({"frozen": True, "max_steps": 14}, {"stall_at_step": 13}, marks=pytest.mark.nightly),
        pytest.param({"head_weighting": "uncertainty", **STEP_SCOPE}, {"stall_at_step": 5}, marks=pytest.mark.nightly),
    ],
    ids=["thresholds, amid a save", "frozen, amid a step", "uncertainty and step scope, amid a step"],
)
def test_a_killed_run_resumes_bit_by_bit(tmp_path: Path, extra: dict[str, Any], stall: dict[str, int]) -> None:
    settings = {
        "max_steps": 6,
        "save_steps": 2,
        "learning_rate": 1e-2,
        "dropout": 0.1,
        "per_device_train_batch_size": 4,
        **extra,
    }
    whole, _ = train({**settings, "output_dir": str(tmp_path / "whole")})
    out = str(tmp_path / "killed")
    process = subprocess.Popen(
        command({**settings, "output_dir": out, **stall}),
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert "stalled\n" in iter(process.stdout.readline, "")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resume: Any = True
    if "stall_amid_save" in stall:
        refused = subprocess.run(
            command({**settings, "output_dir": out, "resume": True}), env=ENVIRONMENT, capture_output=True, text=True
        )
        problem = re.search(
            r"checkpoint-4 cannot be resumed from: .* newest complete checkpoint is (\S+)", refused.stderr
        )
        assert problem
        resume = problem[1]
    resumed, found = train({**settings, "output_dir": out, "resume": resume})
    assert [entry["step"] for entry in found["logs"]] == list(range(1, settings["max_steps"] + 1))
    assert all(entry["grad_norm"] > 0 for entry in found["logs"])
    assert whole.keys() == resumed.keys()
    assert ("log_variances" in whole) == ("head_weighting" in extra)
    for key in whole:
        assert torch.equal(whole[key], resumed[key]), key

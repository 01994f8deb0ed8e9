"""Several processes make the same step as one, and a killed run goes on as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parent / "run_training.py"
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


@pytest.mark.distributed
def test_two_processes_make_the_step_of_one(tmp_path: Path) -> None:
    settings = {
        "max_steps": 5,
        "learning_rate": 1e-2,
        "train_sampling_strategy": "sequential",
        "save_strategy": "no",
        "per_device_eval_batch_size": 4,
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
    # 13 rows over two processes: the rows that the sampler adds are not counted
    assert together["metrics"] == pytest.approx(alone["metrics"], abs=1e-4)
    assert alone["metrics"]["eval_topic_f1_micro"] > 0


def test_a_killed_run_resumes_bit_by_bit(tmp_path: Path) -> None:
    settings = {
        "max_steps": 6,
        "save_steps": 2,
        "learning_rate": 1e-2,
        "dropout": 0.1,
        "per_device_train_batch_size": 8,
    }
    whole, _ = train({**settings, "output_dir": str(tmp_path / "whole")})
    out = str(tmp_path / "killed")
    process = subprocess.Popen(
        command({**settings, "output_dir": out, "stall_at": 4}),
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("saved 4"):
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed, found = train({**settings, "output_dir": out, "resume": True})
    assert found["logs"][-1]["step"] == 6
    assert whole.keys() == resumed.keys()
    for key in whole:
        assert torch.equal(whole[key], resumed[key]), key

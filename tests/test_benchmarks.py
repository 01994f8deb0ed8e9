"""Every benchmark runs, at its smallest: what it prints has a line for each ratio."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# the flags, and how many ratios it prints
SMALLEST = {
    "eval_memory": (["--few", "200", "--many", "400"], 2),
    "frozen_features": (["--rounds", "1", "--rows", "16", "--epochs", "2"], 4),
    "step_overhead": (["--rounds", "1", "--steps", "1", "--batch", "4", "--heads", "2"], 4),
}


def test_none_is_forgotten() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == set(SMALLEST)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs(name: str, tmp_path: Path) -> None:
    flags, count = SMALLEST[name]
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *flags]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    ratios = re.findall(r"^\d\. .* +(\d+\.\d+)  [\d.]+ to [\d.]+$", done.stdout, flags=re.M)
    assert len(ratios) == count
    assert any(float(ratio) > 0 for ratio in ratios)

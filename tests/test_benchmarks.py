"""Every benchmark runs, at its smallest: what it prints has a line for each ratio."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import tiny

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# the flags, and how many ratios it prints
SMALLEST = {
    "eval_memory": (["--few", "200", "--many", "400"], 2),
    "frozen_features": (["--rounds", "1", "--rows", "16", "--epochs", "2"], 4),
    "predict": (["--quick", "--rounds", "1", "--rows", "20", "--few", "50", "--many", "100"], 4),
    "step_overhead": (["--rounds", "1", "--steps", "1", "--batch", "4", "--heads", "2"], 5),
    "train_memory": (["--few", "50", "--many", "100"], 1),
    "train_speed": (["--rounds", "1", "--rows", "20"], 3),
}


def test_none_is_forgotten() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == {*SMALLEST, "quality"}


@pytest.mark.nightly
@pytest.mark.parametrize("name", SMALLEST)
def test_it_runs(name: str, tmp_path: Path) -> None:
    flags, count = SMALLEST[name]
    if name in ("predict", "train_speed"):
        flags = [*flags, "--encoder", str(tiny.save_encoder(tmp_path / "encoder"))]
    if name == "predict":  # two of its baselines may not be installed
        count += sum(find_spec(module) is not None for module in ("sentence_transformers", "openvino"))
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *flags]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]
    ratios = re.findall(r"^\d\. .* +(\d+\.\d+)  [\d.]+ to [\d.]+$", done.stdout, flags=re.M)
    assert len(ratios) == count
    assert any(float(ratio) > 0 for ratio in ratios)


@pytest.mark.nightly
def test_quality(tmp_path: Path) -> None:
    """On made-up tables and a tiny encoder: a line for each head, and finished runs are not run again."""
    folder = tmp_path / "data" / "made_up"
    folder.mkdir(parents=True)
    for part, rows in (("train", 60), ("validation", 20), ("test", 20)):
        table = tiny.table(rows).to_pandas()
        names = [None if pd.isna(mood) else tiny.MOODS[int(mood)] for mood in table["mood"]]
        table.assign(mood=names).to_parquet(folder / f"{part}.parquet")
    encoder = tiny.save_encoder(tmp_path / "encoder")
    command = [sys.executable, str(BENCHMARKS / "quality.py"), str(tmp_path / "data"), "--encoder", str(encoder)]
    command += [
        "--rows",
        "0",
        "40",
        "--seeds",
        "0",
        "1",
        "--rates",
        "1e-4",
        "--results",
        str(tmp_path / "results.jsonl"),
    ]
    for expected in (16, 0):
        done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr[-4000:]
        assert done.stderr.count('"scores"') == expected
    lines = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| made_up,")]
    assert [line[:2] for line in lines] == [
        [f"| made_up, {rows}", head] for rows in (60, 40) for head in ("topic_labels", "mood", "seconds")
    ]
    assert all(len(line) == 6 for line in lines)
    assert all(
        re.fullmatch(r"[01]\.\d{3} ± 0\.\d{3} / [01]\.\d{3} ± 0\.\d{3}( \|)?", cell)
        for line in lines[:2]
        for cell in line[2:]
    )

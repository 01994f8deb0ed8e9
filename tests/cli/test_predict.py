"""`multihead-hf predict`; tests/inference/test_files.py has more."""

from pathlib import Path

import pytest
from command_line import cli


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--head", "mood", "--threshold", "topic=0.2"],
            "'topic=0.2': head 'topic' is not predicted, --head names ['mood']",
        ),
        (["--head", "mood", "--threshold", "topic:roads=0.2"], "head 'topic' is not predicted, --head names ['mood']"),
        (
            ["--threshold", "topic:roads=.2", "--threshold", "topic:roads=.9"],
            "head 'topic', label 'roads': give one number",
        ),
    ],
)
def test_thresholds_that_would_not_be_read(
    table: Path, saved: Path, tmp_path: Path, arguments: list[str], expected: str
) -> None:
    done = cli("predict", saved, table, "-o", tmp_path / "out.csv", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert expected in done.stderr
    assert not (tmp_path / "out.csv").exists()

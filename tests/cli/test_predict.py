"""`multihead-hf predict`; tests/prediction/test_files.py has more."""

from pathlib import Path

import pytest
from command_line import cli


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--head", "mood", "--threshold", "topic=0.2"],
            "'topic=0.2': head 'topic' is not predicted; --head selects ['mood']",
        ),
        (
            ["--head", "mood", "--threshold", "topic:roads=0.2"],
            "head 'topic' is not predicted; --head selects ['mood']",
        ),
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


def test_rows_that_are_lost_for_their_encoding_are_no_success(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "cp1252.csv"
    path.write_bytes("text,mood\nw1,calm\nw2 café,calm\n".encode("cp1252"))
    done = cli("predict", saved, path, "-o", tmp_path / "out.csv", "--quiet")
    assert done.returncode == 1
    assert "1 of them are in another encoding: name it, such as --encoding cp1252" in done.stdout
    assert "is not in UTF-8" in (tmp_path / "out.csv.errors.jsonl").read_text()
    named = cli("predict", saved, path, "-o", tmp_path / "named.csv", "--quiet", "--encoding", "cp1252")
    assert named.returncode == 0, named.stderr
    assert "w2 café" in (tmp_path / "named.csv").read_text()


def test_a_semicolon_is_recognised_in_one_line(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "excel.csv"
    path.write_text("text;mood\nw1, w2;calm\n", encoding="utf-8-sig")
    done = cli("predict", saved, path, "-o", tmp_path / "out.csv", "--quiet")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith('0,"w1, w2",calm,')

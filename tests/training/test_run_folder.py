"""The folder of a run: what is deleted in it, when, and that two runs never share it."""

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import constants

from multihead_hf.training.run_folder import check_output_dir, claimed, remove_checkpoints


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "multihead_hf" / "runs"


def test_only_checkpoints_of_a_run_are_deleted(tmp_path: Path) -> None:
    kept = ["checkpoint-best-of-may", "my-checkpoint-3", "checkpoint-3.old"]
    for name in (*kept, "checkpoint-3", "checkpoint-12"):
        (tmp_path / "out" / name).mkdir(parents=True)
    (tmp_path / "out" / "checkpoint-7").write_text("a file")
    remove_checkpoints(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*kept, "checkpoint-7"}
    remove_checkpoints(tmp_path / "none")


def test_a_folder_belongs_to_one_run(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with claimed("out"):
        for name in ("out", str(tmp_path / "out"), "link"):
            with pytest.raises(ValueError, match=f"another run is writing into {name} at this moment"), claimed(name):
                raise AssertionError
        with claimed("other"):
            pass
    with claimed("out"):
        assert len(list(cache.iterdir())) == 2


def test_the_claim_of_another_process_ends_with_it(tmp_path: Path, cache: Path) -> None:
    script = (
        "import sys, time; from huggingface_hub import constants; constants.HF_HOME = sys.argv[1]\n"
        "from multihead_hf.training.run_folder import claimed\n"
        "with claimed('out'): print('claimed', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", script, constants.HF_HOME], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "claimed\n"
        with pytest.raises(ValueError, match="another run is writing into out"), claimed("out"):
            raise AssertionError
    finally:
        other.kill()
        other.wait()
    with claimed("out"):
        pass


def test_other_processes_of_a_run_share_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    with claimed("out"):
        monkeypatch.setenv("RANK", "1")
        with claimed("out"):
            pass


def test_a_cache_that_cannot_be_written_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").write_text("a file")
    with claimed("out"):
        assert "other runs into out are not noticed" in caplog.text


def test_a_folder_that_holds_something_is_asked_about(tmp_path: Path) -> None:
    check_output_dir("none", may_hold_a_run=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.yaml").write_text("")
    check_output_dir("out", may_hold_a_run=False)
    (tmp_path / "out" / "notes.txt").write_text("")
    check_output_dir("out", may_hold_a_run=True)
    with pytest.raises(ValueError, match="out exists and is not empty"):
        check_output_dir("out", may_hold_a_run=False)
    with pytest.raises(ValueError, match=r"notes\.txt is a file: name a folder"):
        check_output_dir("out/notes.txt", may_hold_a_run=True)

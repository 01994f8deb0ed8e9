"""The notebooks are the tutorials: their code is what tests/test_docs.py runs, after cells that are run here."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny
from doc_pages import ROOT, blocks_of
from hub_server import HubServer
from run_blocks import ENCODER

NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path, kind: str) -> list[str]:
    content: dict[str, Any] = json.loads(notebook.read_text(encoding="utf-8"))
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == kind]


def start_of(notebook: Path) -> list[str]:
    """The cells before the code of the tutorial, but for the one that installs the library."""
    tutorial = python_blocks(notebook)
    return cells(notebook, "code")[1 : -len(tutorial)]


def python_blocks(notebook: Path) -> list[str]:
    page = f"docs/tutorials/{notebook.stem}.md"
    return [block.text.strip("\n") for block in blocks_of(page) if block.language == "python"]


def test_they_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "make_notebooks.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + "Write them anew: python docs/make_notebooks.py"
    assert [path.stem for path in NOTEBOOKS] == ["add-a-head", "csv", "imbalanced", "many-datasets"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_one_is_its_tutorial_without_outputs(notebook: Path) -> None:
    code = cells(notebook, "code")
    assert code[0].startswith("%pip install")
    assert code[-len(python_blocks(notebook)) :] == python_blocks(notebook)
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert cell.get("outputs", []) == []
    for text in cells(notebook, "markdown"):
        for target in text.split("](")[1:]:
            path = target.partition(")")[0].partition("#")[0]
            if path and not path.startswith("http"):
                assert (notebook.parent / path).exists(), path


@pytest.mark.slow
def test_what_they_start_from_is_made(tmp_path: Path) -> None:
    starts = {tuple(start_of(notebook)) for notebook in NOTEBOOKS}
    (longest,) = (start for start in starts if len(start) == 2)
    assert all(start == longest[: len(start)] for start in starts)
    (tmp_path / "start.py").write_text("\n".join(longest), encoding="utf-8")
    with HubServer(tmp_path / "hub") as hub:
        hub.add_model(ENCODER, tiny.save_encoder(tmp_path / "encoder"))
        environment = {**hub.env(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "start.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "complaints" / "model.safetensors").is_file()
    assert (tmp_path / "complaints.csv").read_bytes() == (ROOT / "examples" / "complaints.csv").read_bytes()

"""The README's code runs, and what it says it prints has the shape that it shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from hub_server import HubServer

from multihead_hf.cli import COMMANDS

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.S)
PYTHON = [code for language, code in BLOCKS if language == "python"]
TEXT = [code for language, code in BLOCKS if language == "text"]
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


def test_all_python_blocks_run_in_order(tmp_path: Path) -> None:
    """With a tiny encoder under the name of the real one: other scores, the same code and the same form of output."""
    assert len(PYTHON) >= 3
    assert ENCODER in PYTHON[0]
    with HubServer(tmp_path / "hub") as hub:
        hub.add_model(ENCODER, tiny.save_encoder(tmp_path / "encoder"))
        environment = {**hub.env(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        script = "\n".join(PYTHON)
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=250
        )
        assert done.returncode == 0, done.stderr[-4000:]
        assert hub.strays == []
    line = re.compile(r"(topic|mood) \[(\('[a-z]+', [01]\.\d+\)(, )?)*\]")
    shown = TEXT[0].strip().splitlines()
    printed = [text for text in done.stdout.splitlines() if re.match(r"(topic|mood) \[", text)]
    assert len(shown) == len(printed) == 2
    for text in shown + printed:
        assert line.fullmatch(text), text
    explained = next(code for code in TEXT if code.startswith("topic: damage"))
    pattern = r"topic: damage, probability 0\.\d{4}\nintegrated gradients: .*\n\n((?:[+-]\d+\.\d+ .*\n)+)"
    tables = [re.search(pattern, text) for text in (explained, done.stdout)]
    words = [sorted(row.split()[-1] for row in table[1].splitlines()) for table in tables if table]
    assert words == [sorted(["The", "lamp", "came", "broken", "and", "a", "week", "late"])] * 2


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert pictures
    for path in pictures:
        assert (Path(__file__).parents[1] / path).read_bytes().startswith(b"\x89PNG"), path


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"@[A-Z]+@|TODO|TBD", README)


def test_every_command_is_in_the_readme() -> None:
    named = re.findall(r"`?multihead-hf ([a-z-]+)", README) + re.findall(r"`([a-z-]+)`", README)
    assert set(COMMANDS) - set(named) == set()


@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "bash"])
def test_commands_exist(code: str) -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for command in code.strip().splitlines():
        words = command.split("#")[0].split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, flags=re.M), command
        elif words[0] == "multihead-hf":
            assert words[1] in COMMANDS, command
        elif words[0] == "python":
            assert (Path(__file__).parents[1] / words[1]).is_file(), command
        else:
            assert words[:2] == ["pip", "install"], command


def test_the_support_table_names_the_tested_versions() -> None:
    root = Path(__file__).parents[1]
    for package, shown in (("transformers", "transformers"), ("torch", "PyTorch")):
        lowest = re.search(rf"^{package}==(\d+\.\d+)", (root / ".ci" / "lowest.txt").read_text(), flags=re.M)
        newest = re.search(rf"^{package}==(\d+\.\d+)", (root / ".ci" / "constraints.txt").read_text(), flags=re.M)
        assert lowest
        assert newest
        assert f"| {shown} | {lowest[1]} to {newest[1]} (both ends tested) |" in README

"""README.md is short and true, and names what exists. (test_docs.py runs its code.)"""

import re
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks_of, pages

from multihead_hf.cli import COMMANDS

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [(page, block.text) for page in pages() for block in blocks_of(page) if block.language in ("bash", "sh")]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 200
    assert len(README.split()) <= 1300


def test_pictures_are_there() -> None:
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert pictures
    for path in pictures:
        picture = (ROOT / path).read_bytes()
        assert picture.startswith(b"\x89PNG"), path
        assert len(picture) < 150_000, path


@pytest.mark.parametrize("page", pages())
def test_nothing_is_left_to_fill_in(page: str) -> None:
    assert not re.search(r"@[A-Z]+@|TODO|TBD", (ROOT / page).read_text(encoding="utf-8"))


def test_every_command_has_a_page_that_shows_it() -> None:
    """(The reference has the help of all.)"""
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in pages())
    assert set(COMMANDS) - set(re.findall(r"multihead-hf ([a-z-]+)", text)) == set()


@pytest.mark.parametrize(("page", "code"), SHELL)
def test_commands_exist(page: str, code: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in code.replace("\\\n", " ").strip().splitlines():
        words = command.split("#")[0].split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, flags=re.M), command
        elif words[0] == "multihead-hf":
            assert words[1] in COMMANDS, command
        elif words[0] == "python" and words[1] != "-m":
            assert (ROOT / words[1]).is_file(), command
        elif words[:2] == ["accelerate", "launch"]:
            script = words[2]
            assert script == "-m" or (ROOT / script).is_file(), command
        else:
            known = (["pip", "install"], ["export", "MLFLOW_TRACKING_URI"], ["hf", "upload"], ["python", "-m"])
            assert [words[0], words[1].split("=")[0]] in known, command


def test_the_support_table_names_the_tested_versions() -> None:
    support = Path(ROOT / "docs" / "reference" / "support.md").read_text(encoding="utf-8")
    for package, shown in (("transformers", "transformers"), ("torch", "PyTorch")):
        lowest = re.search(rf"^{package}==(\d+\.\d+)", (ROOT / ".ci" / "lowest.txt").read_text(), flags=re.M)
        newest = re.search(rf"^{package}==(\d+\.\d+)", (ROOT / ".ci" / "constraints.txt").read_text(), flags=re.M)
        assert lowest
        assert newest
        assert f"| {shown} | {lowest[1]} to {newest[1]} (both ends tested) |" in support

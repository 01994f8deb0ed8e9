"""The pages of the documentation, their code blocks, and the run of these blocks.

A `python` block is run. A `text` block that comes next after it, with nothing between them but prose, is the end of its
output (before it stands what a training shows):

- `text`: the same with any encoder, but for numbers with a decimal point;
- `text title="Output"`: the true output with all-MiniLM-L6-v2. With the tiny encoder of the tests the number of lines
  and the first word of each line are compared; `make test-nightly` compares everything, numbers to 0.15
  (processors round differently, and the tables have few rows).
- any other `text title="…"`: shown, and not compared.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tiny
from hub_server import HubServer
from run_blocks import ENCODER

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^( *)```([a-z]*)([^\n]*)\n(.*?)^\1```$", flags=re.S | re.M)
NUMBER = re.compile(r"[+-]?\d+\.\d+(?:e[+-]?\d+)?")
OUTPUT = 'title="Output"'
MIGRATION = "docs/how-to/migrate.md"  # it needs tables of its own: test_migration.py


@dataclass
class Block:
    """One fenced block: its language, what follows the language in the first line, and its text."""

    language: str
    info: str
    text: str


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page (a path from the repository's root), in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(language, info.strip(), body) for _, language, info, body in FENCE.findall(text)]


def pages() -> list[str]:
    """README.md and the pages below docs/."""
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return ["README.md", *found]


def python_pages(folder: str) -> list[str]:
    """Pages with at least one Python block; README.md belongs to the tutorials."""
    own = [page for page in pages() if page.startswith(folder) or (folder == "docs/tutorials" and page == "README.md")]
    own = [page for page in own if page != MIGRATION]
    return [page for page in own if any(block.language == "python" for block in blocks_of(page))]


def run_pages(names: list[str], folder: Path, encoder: Path | None = None) -> dict[str, list[str]]:
    """Run the pages' blocks, with `encoder` under the name of all-MiniLM-L6-v2 (by default a tiny one)."""
    described = {}
    for name in names:
        text = (ROOT / name).read_text(encoding="utf-8")
        code = [block.text for block in blocks_of(name) if block.language == "python"]
        described[name] = {"blocks": code, "needs_model": "<!-- needs the model complaints -->" in text}
    (folder / "pages.json").write_text(json.dumps(described), encoding="utf-8")
    (folder / "work").mkdir()
    with HubServer(folder / "hub") as hub:
        path = encoder or tiny.save_encoder(folder / "encoder")
        for name in (ENCODER, "bert-base-uncased", "BAAI/bge-small-en-v1.5", "roberta-base"):
            hub.add_model(name, path)
        environment = {**hub.env(folder / "home"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).with_name("run_blocks.py")), "../pages.json", "../results.json"]
        done = subprocess.run(
            command, cwd=folder / "work", env=environment, capture_output=True, text=True, timeout=1500
        )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def outputs(name: str, printed: list[str]) -> list[tuple[Block, str]]:
    """The shown outputs of a page, each with what its block printed."""
    pairs, runs, after_code = [], -1, False
    for block in blocks_of(name):
        if block.language == "python":
            runs, after_code = runs + 1, True
        else:
            if after_code and block.language == "text" and block.info in ("", OUTPUT):
                lines = len(block.text.strip().splitlines())
                pairs.append((block, "\n".join(printed[runs].strip().splitlines()[-lines:])))
            after_code = False
    return pairs


def form(text: str) -> list[str]:
    """The lines, with numbers and the widths of columns left out."""
    return [re.sub(r"[\s-]+", " ", NUMBER.sub("#", line)).strip() for line in text.strip().splitlines()]


def first_words(text: str) -> list[str]:
    return [line.split()[0] if line.split() else "" for line in text.strip().splitlines()]

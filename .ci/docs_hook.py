"""Parts of the documentation that are generated when MkDocs builds it, so that they cannot become stale.

A page asks for a part with a comment, `<!-- generated: NAME -->`; the parts are the functions in `PARTS`. The
changelog, the guide for contributors and the benchmarks are pages, too, made from the files in the repository.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "benchmarks.md": "benchmarks/README.md",
}
ROOMS = ("data", "model", "training", "evaluation", "prediction", "explanation", "publishing")
CONFIGURATION = ("model.configuration_multihead", "model.head_multihead", "model.reading_multihead")
# (on GitHub, the line after the comment is shown instead)
PLACE = re.compile(r"<!-- generated: ([a-z ]+) -->(?:\n\*.*\*)?")


def _printed(*words: str) -> str:
    """Return the output of `multihead-hf WORDS`, 100 characters wide."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    command = [sys.executable, "-c", "from multihead_hf.cli import main; main()", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, encoding="utf-8")
    return done.stdout.replace("Usage: -c ", "Usage: multihead-hf ").rstrip()


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```\n"


def _public() -> dict[str, str]:
    """Return public name → its module."""
    sys.path.insert(0, str(ROOT))
    import multihead_hf

    return {name: multihead_hf._LAZY[name] for name in multihead_hf.__all__}


def commands() -> str:
    """Return the help of every command."""
    sys.path.insert(0, str(ROOT))
    from multihead_hf.cli import COMMANDS

    return "\n".join(
        f"## {name}\n\n{summary}\n\n{_fenced(_printed(name, '--help'))}" for name, summary in COMMANDS.items()
    )


def example_of_a_run() -> str:
    return _fenced(_printed("train", "--example"), "yaml")


def keys_of_a_run() -> str:
    """Return a table for each section."""
    sections: dict[str, list[str]] = {}
    for line in _printed("train", "--keys").splitlines():
        key, _, meaning = line.partition(": ")
        name, _, default = key.partition(" ")
        cell = meaning.replace("|", "\\|").replace("<", "&lt;")
        shown = f"`{default.strip('[]')}`" if default else ""
        sections.setdefault(name.split(".")[0], []).append(f"| `{name}` | {shown} | {cell} |")
    return "\n".join(
        f"## {section}\n\n| key | default | meaning |\n|---|---|---|\n" + "\n".join(rows) + "\n"
        for section, rows in sections.items()
    )


def _entries(modules: tuple[str, ...], without: tuple[str, ...] = ()) -> str:
    """Return a mkdocstrings entry for each public name of these modules."""
    names = [name for name, module in _public().items() if module.startswith(modules) and module not in without]
    return "\n".join(f"::: multihead_hf.{name}\n" for name in names)


PARTS: dict[str, Any] = {
    "commands": commands,
    "example of a run": example_of_a_run,
    "keys of a run": keys_of_a_run,
    "api configuration": lambda: _entries(CONFIGURATION),
    **{f"api {room}": lambda room=room: _entries((f"{room}.",), CONFIGURATION) for room in ROOMS},
}


def on_files(files: "Files", config: Any) -> "Files":
    """Add the pages that are generated from files of the repository."""
    from mkdocs.structure.files import File  # (the tests read this file without MkDocs)

    for page, source in FILES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Insert the generated parts, and link the benchmarks to their page."""
    markdown = markdown.replace("](../../benchmarks/README.md", "](../benchmarks.md")
    return PLACE.sub(lambda match: PARTS[match[1]](), markdown)

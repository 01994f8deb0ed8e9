"""Write the notebooks of `examples/notebooks` from the tutorials, or check that they are up to date.

    python docs/make_notebooks.py
    python docs/make_notebooks.py --check

A notebook holds the text and the code of its tutorial; it has no outputs, and begins with a cell that installs the
library, and one that creates the files that the tutorial needs.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
NOTEBOOKS = ROOT / "examples" / "notebooks"
TABLE = ROOT / "examples" / "complaints.csv"
INSTALL = '%pip install -q "multihead-hf[plots]"\n# before its release: %pip install -q "PATH_OF_A_CLONE[plots]"'
NEEDS_MODEL = "<!-- needs the model complaints -->"
FENCE = re.compile(r"^```([a-z]*)[^\n]*\n(.*?)^```\n?", flags=re.S | re.M)
LINK = re.compile(r"\]\((?!https?:)([^)#]+\.md)")

TRAIN = """\
from transformers import AutoTokenizer, set_seed
from multihead_hf import MultiHeadModel, MultiHeadTrainer, MultiHeadTrainingArguments, infer_heads

set_seed(42)
encoder = "sentence-transformers/all-MiniLM-L6-v2"
heads = infer_heads("complaints.csv", ["topics", "mood"], sep={"topics": "|"}, empty="none")
trainer = MultiHeadTrainer(
    model=MultiHeadModel.from_encoder(encoder, heads=heads),
    args=MultiHeadTrainingArguments("complaints"),
    train_dataset="complaints.csv",
    processing_class=AutoTokenizer.from_pretrained(encoder),
)
trainer.train()
trainer.save_model()
"""


def notebook(page: str) -> dict[str, Any]:
    """Return the notebook of a tutorial.

    Args:
        page: Markdown of the tutorial.
    """
    title, heading, rest = page.replace(NEEDS_MODEL + "\n", "").partition("\n## ")
    start = [_code(INSTALL), _markdown("The table of this tutorial: 40 complaints to a shop."), _code(table_cell())]
    if NEEDS_MODEL in page:
        start += [_markdown("The model `complaints`, which this tutorial starts from."), _code(TRAIN)]
    cells = [_markdown(title), *start, *_cells(heading + rest)]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def table_cell() -> str:
    """Return the code that writes the table of the tutorials."""
    rows = TABLE.read_text(encoding="utf-8")
    return f'from pathlib import Path\n\nPath("complaints.csv").write_text("""\\\n{rows}""", encoding="utf-8");'


def _cells(page: str) -> Iterator[dict[str, Any]]:
    """Yield the cells: prose as Markdown, Python blocks as code, without outputs."""
    place, prose = 0, ""
    for fence in FENCE.finditer(page):
        language = fence[1]
        prose += page[place : fence.start()]
        place = fence.end()
        if language == "python":
            if prose.strip():
                yield _markdown(prose)
            yield _code(fence[2])
            prose = ""
        elif language != "text":
            prose += fence[0]
    prose += page[place:]
    if prose.strip():
        yield _markdown(prose)


def _markdown(text: str) -> dict[str, Any]:
    linked = LINK.sub(lambda link: f"]({_from_notebooks(link[1])}", text.strip())
    return {"cell_type": "markdown", "metadata": {}, "source": linked.splitlines(keepends=True)}


def _from_notebooks(path: str) -> str:
    page = (TUTORIALS / path).resolve().relative_to(ROOT)
    return f"../../{page.as_posix()}"


def _code(text: str) -> dict[str, Any]:
    source = text.strip("\n").splitlines(keepends=True)
    return {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": [], "source": source}


def notebooks() -> dict[Path, str]:
    """Return each notebook's path and content."""
    return {
        NOTEBOOKS / f"{page.stem}.ipynb": json.dumps(notebook(page.read_text(encoding="utf-8")), indent=1) + "\n"
        for page in sorted(TUTORIALS.glob("*.md"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a notebook is out of date")
    check = parser.parse_args().check
    NOTEBOOKS.mkdir(exist_ok=True)
    wrong = [path for path, text in notebooks().items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in wrong:
        if not check:
            path.write_text(notebooks()[path], encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'out of date' if check else 'written'}")
    sys.exit(1 if check and wrong else 0)


if __name__ == "__main__":
    main()

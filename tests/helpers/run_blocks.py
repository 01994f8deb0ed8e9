"""Run the Python blocks of documentation pages: `python run_blocks.py PAGES.json RESULTS.json`, in an empty folder.

`PAGES.json` maps each page to its blocks. A page's blocks run in order and in one namespace, in a folder that holds
`complaints.csv` and, where the page asks for it, the model folder `complaints` that the quickstart makes.
`RESULTS.json` maps each page to the list of what each block printed.
"""

import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
TABLE = Path(__file__).resolve().parents[2] / "examples" / "complaints.csv"


def train_complaints(folder: Path) -> None:
    """The model of the quickstart."""
    from transformers import AutoTokenizer, set_seed

    from multihead_hf import MultiHeadModel, MultiHeadTrainer, MultiHeadTrainingArguments, infer_heads

    set_seed(42)
    heads = infer_heads(str(TABLE), ["topics", "mood"], sep={"topics": "|"}, empty="none")
    trainer = MultiHeadTrainer(
        model=MultiHeadModel.from_encoder(ENCODER, heads=heads),
        args=MultiHeadTrainingArguments(str(folder)),
        train_dataset=str(TABLE),
        processing_class=AutoTokenizer.from_pretrained(ENCODER),
    )
    trainer.train()
    trainer.save_model()


def run_page(name: str, blocks: list[str]) -> list[str]:
    """What each block printed; an error names the page and the block."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for number, code in enumerate(blocks, 1):
        stdout = io.StringIO()
        try:
            with contextlib.redirect_stdout(stdout):
                exec(compile(code, f"<{name}, Python block {number}>", "exec"), namespace)
        except Exception as error:
            raise RuntimeError(f"{name}, Python block {number}:\n{code}") from error
        printed.append(stdout.getvalue())
    return printed


def main() -> None:
    pages = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    results, home = {}, Path.cwd()
    for name, page in pages.items():
        if page["needs_model"] and not (home / "complaints").is_dir():
            with contextlib.redirect_stdout(sys.stderr):
                train_complaints(home / "complaints")
        folder = home / name.replace("/", "_").removesuffix(".md")
        (folder / "examples").mkdir(parents=True)
        shutil.copy(TABLE, folder / "examples")
        shutil.copy(TABLE, folder)
        if page["needs_model"]:
            shutil.copytree(home / "complaints", folder / "complaints")
        os.chdir(folder)
        results[name] = run_page(name, page["blocks"])
        os.chdir(home)
    Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()

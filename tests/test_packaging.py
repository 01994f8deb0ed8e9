"""The project's own files agree with each other: pyproject.toml, the pins in .ci, the Makefile and CONTRIBUTING.md."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import multihead_hf

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with pytest

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTED_AS = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
TARGETS = {
    *("help", "install", "train", "test", "test-all", "test-nightly", "test-gpu", "test-ray", "test-lowest", "fuzz"),
    *("lint", "format", "types", "docs", "bench", "release-check", "clean"),
}


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def runtime(pyproject: dict) -> list[Requirement]:
    return [Requirement(line) for line in pyproject["project"]["dependencies"]]


@pytest.fixture(scope="module")
def dev(pyproject: dict) -> list[Requirement]:
    return [Requirement(line) for line in pyproject["project"]["optional-dependencies"]["dev"]]


def read_pins(name: str) -> dict[str, str]:
    """Package → version of a requirements file in which every line is a `name==version` pin or a comment."""
    pins: dict[str, str] = {}
    for line in (ROOT / ".ci" / name).read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        package, equals, version = line.partition("==")
        assert equals, f"{name}: {line!r} is not a pin"
        assert canonicalize_name(package) not in pins, f"{name}: {package} is pinned twice"
        pins[canonicalize_name(package)] = version.strip()
    assert pins, f"{name} holds no pin"
    return pins


def documented_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def test_dependencies_are_floors_only(runtime: list[Requirement]) -> None:
    assert runtime
    assert [str(r) for r in runtime if [s.operator for s in r.specifier] != [">="]] == []


def test_lowest_equals_the_floors(runtime: list[Requirement]) -> None:
    floors = {canonicalize_name(r.name): next(iter(r.specifier)).version for r in runtime}
    assert read_pins("lowest.txt") == floors


def test_constraints_pin_every_direct_dependency(runtime: list[Requirement], dev: list[Requirement]) -> None:
    pins = read_pins("constraints.txt")
    assert [r.name for r in runtime + dev if canonicalize_name(r.name) not in pins] == []
    assert [str(r) for r in runtime if pins[canonicalize_name(r.name)] not in r.specifier] == []


def test_constraints_are_portable(pyproject: dict) -> None:
    pins = read_pins("constraints.txt")
    assert canonicalize_name(pyproject["project"]["name"]) not in pins
    assert {package: pin for package, pin in pins.items() if "+" in pin} == {}, "a local build such as +cpu"


def test_version_is_the_package_version(pyproject: dict) -> None:
    assert pyproject["project"]["version"] == multihead_hf.__version__


def test_ruff_targets_the_oldest_supported_python(pyproject: dict) -> None:
    oldest = pyproject["project"]["requires-python"].removeprefix(">=")
    assert pyproject["tool"]["ruff"]["target-version"] == "py" + oldest.replace(".", "")


def test_make_help_lists_every_documented_target() -> None:
    # A `make` around this test must not hand its own flags to the one started here.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    run = subprocess.run(["make"], cwd=ROOT, env=env, capture_output=True, text=True, check=True, timeout=60)
    listed = {line.split()[0] for line in run.stdout.splitlines()}
    assert listed == documented_targets() == TARGETS
    assert run.stderr == ""


def test_every_phony_target_is_documented() -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony is not None
    assert set(phony.group(1).split()) == documented_targets()


def test_contributing_names_only_targets_that_exist() -> None:
    named = re.findall(r"`make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert named
    assert set(named) - documented_targets() == set()


def test_what_the_package_imports_is_declared(pyproject: dict) -> None:
    """Also what comes with another library anyway; but for IPython, which is there wherever notebooks are."""
    project = pyproject["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    imported = set()
    for path in Path(multihead_hf.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").split(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {"multihead_hf", "IPython"}
    assert {canonicalize_name(DISTRIBUTED_AS.get(name, name)) for name in foreign} - declared == set()

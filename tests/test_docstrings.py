"""Public docstrings: one entry for each parameter, returns and raises, and examples that run."""

import dataclasses
import inspect
import json
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from hub_server import HubServer
from run_blocks import ENCODER

import multihead_hf

PUBLIC = sorted(name for name in multihead_hf.__all__ if callable(getattr(multihead_hf, name)))
# they take what the classes of transformers take, whose documentation describes it
INHERITED = {
    *("MultiHeadTrainingArguments", "MultiHeadPipeline", "MultiHeadOutput"),
    *("MultiHeadConfig", "MultiHeadModel", "MultiHeadTrainer"),
}


def public_methods(name: str) -> Iterator[tuple[str, Any]]:
    """The public methods of a class that this package defines."""
    owner = getattr(multihead_hf, name)
    if not isinstance(owner, type):
        return
    for base in owner.__mro__:
        if not base.__module__.startswith("multihead_hf"):
            continue
        for method, value in vars(base).items():
            function = getattr(value, "__func__", value)
            if any(method in vars(other) for other in owner.__mro__ if not other.__module__.startswith("multihead_hf")):
                continue  # the documentation of transformers describes it
            if not method.startswith("_") and isinstance(function, types.FunctionType):
                yield f"{name}.{method}", function


METHODS = sorted({name: function for public in PUBLIC for name, function in public_methods(public)}.items())
EVERY = [*((name, getattr(multihead_hf, name)) for name in PUBLIC), *METHODS]


def sections(documented: Any) -> dict[str, str]:
    """The sections of a docstring by their titles; the text before them under an empty one."""
    text = inspect.cleandoc(documented.__doc__ or "")
    found = re.split(r"^(Args|Returns|Yields|Raises|Example|Attributes):\n", text, flags=re.M)
    return {"": found[0], **dict(zip(found[1::2], found[2::2], strict=True))}


def entries(section: str) -> list[str]:
    """The names of the entries of a section."""
    return re.findall(r"^ {4}\*{0,2}(\w+):", section, flags=re.M)


def parameters(documented: Any) -> list[str]:
    if dataclasses.is_dataclass(documented):
        return [field.name for field in dataclasses.fields(documented) if field.init]
    if isinstance(documented, type) and issubclass(documented, tuple):
        return list(documented._fields)  # type: ignore[attr-defined]
    try:
        found = inspect.signature(documented).parameters.values()
    except ValueError:
        return []
    return [each.name for each in found if each.name not in ("self", "cls", "args", "kwargs")]


@pytest.mark.parametrize(("name", "documented"), EVERY, ids=[name for name, _ in EVERY])
def test_a_public_name_has_a_summary_and_an_entry_for_each_parameter(name: str, documented: Any) -> None:
    told = sections(documented)
    summary = told[""].partition("\n")[0]
    assert summary.endswith("."), summary
    if name in INHERITED:
        return
    if name not in PUBLIC and "Args" not in told and len(parameters(documented)) < 2:
        return  # the summary of a method describes a single parameter
    assert entries(told.get("Args", "")) == parameters(documented)


@pytest.mark.parametrize(("name", "documented"), EVERY, ids=[name for name, _ in EVERY])
def test_what_is_returned_is_described(name: str, documented: Any) -> None:
    if isinstance(documented, type):
        return
    if inspect.signature(documented).return_annotation not in (None, "None"):
        assert {"Returns", "Yields"} & sections(documented).keys()


@pytest.mark.parametrize(("name", "documented"), EVERY, ids=[name for name, _ in EVERY])
def test_errors_are_described(name: str, documented: Any) -> None:
    raises = re.search(r"^ +raise (?!AttributeError)\w+\(", inspect.getsource(documented), flags=re.M)
    if not isinstance(documented, type) and raises:
        assert "Raises" in sections(documented)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_an_example(name: str) -> None:
    assert ">>> " in sections(getattr(multihead_hf, name)).get("Example", ""), name


RUN = """
import doctest, json, sys
sys.path.insert(0, sys.argv[1])
import run_blocks
from pathlib import Path
import multihead_hf
run_blocks.train_complaints(Path("complaints"))
failures = {}
runner_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
for name in json.loads(sys.argv[2]):
    owner, _, method = name.partition(".")
    documented = getattr(multihead_hf, owner)
    documented = getattr(documented, method) if method else documented
    examples = doctest.DocTestParser().get_doctest(documented.__doc__ or "", {}, name, None, 0)
    said = []
    doctest.DocTestRunner(optionflags=runner_flags, verbose=False).run(examples, out=said.append)
    if said:
        failures[name] = "".join(said)
Path("failures.json").write_text(json.dumps(failures))
"""


@pytest.mark.slow
def test_the_examples_run(tmp_path: Path) -> None:
    """In the order of their names, in a folder with complaints.csv and the model of the quickstart."""
    work = tmp_path / "work"
    work.mkdir()
    root = Path(__file__).parents[1]
    (work / "complaints.csv").write_bytes((root / "examples" / "complaints.csv").read_bytes())
    names = [name for name, documented in EVERY if ">>> " in (documented.__doc__ or "")]
    assert len(names) >= len(PUBLIC)
    with HubServer(tmp_path / "hub") as hub:
        hub.add_model(ENCODER, tiny.save_encoder(tmp_path / "encoder"))
        environment = {**hub.env(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", RUN, str(root / "tests" / "helpers"), json.dumps(names)]
        done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    failures = json.loads((work / "failures.json").read_text())
    assert not failures, "\n".join(failures.values())

"""What is read from the library's source is what Python finds in the library."""

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path

import pytest

import multihead_hf
from multihead_hf.cli import COMMANDS
from multihead_hf.cli.expansion import Library
from multihead_hf.cli.signatures import parameters, training_argument_names
from multihead_hf.model.head_multihead import near_names
from multihead_hf.utils import messages


def libraries() -> list[Library]:
    modules = [importlib.import_module(f"multihead_hf.cli.{name.replace('-', '_')}") for name in COMMANDS]
    annotated = [
        each.annotation for module in modules for each in inspect.signature(module.command).parameters.values()
    ]
    return [mark for each in annotated for mark in getattr(each, "__metadata__", ()) if isinstance(mark, Library)]


@pytest.mark.parametrize("target", sorted({each.target for each in libraries()}))
def test_names_and_defaults_are_those_of_the_signature(target: str) -> None:
    module, _, name = target.rpartition(".")
    function = getattr(importlib.import_module(f"multihead_hf.{module}") if module else multihead_hf, name)
    expected = inspect.signature(function).parameters
    found = parameters(target)
    plain = [each for each in expected.values() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    assert list(found) == [each.name for each in plain]
    for each in plain:
        made = dataclasses.is_dataclass(function) and type(each.default).__name__ == "_HAS_DEFAULT_FACTORY_CLASS"
        missing = each.default is each.empty or made
        assert found[each.name].default == (None if missing else each.default), each.name


def test_every_option_of_the_library_has_a_help_text() -> None:
    found = libraries()
    assert len(found) > 10
    for library in found:
        for name in library.options:
            text = parameters(library.target)[name].help
            assert text.endswith("."), (library.target, name, text)
            assert "`" not in text


def test_training_arguments_are_those_of_the_class() -> None:
    fields = dataclasses.fields(multihead_hf.MultiHeadTrainingArguments)
    assert sorted(training_argument_names()) == sorted(field.name for field in fields if field.init)


def test_near_names_are_those_of_the_model_room() -> None:
    known = ["topic", "mood", "moods"]
    for name in ("topc", "mod", "colour", 3):
        assert messages.near_names(name, known) == near_names(name, known)


def test_a_help_text_stands_once() -> None:
    """No command spells out what the docstring of the function that it calls says."""
    texts = {parameters(library.target)[name].help for library in libraries() for name in library.options}
    for path in Path(multihead_hf.__file__).parent.glob("cli/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Constant) and node.value in texts), (path, ast.unparse(node))

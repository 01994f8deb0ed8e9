"""Parameters of the library's functions, read from their source.

Importing the functions would load torch, which takes seconds.
"""

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .. import _LAZY

_PACKAGE = Path(__file__).parents[1]


class Parameter(NamedTuple):
    """A parameter of a function, or a field of a dataclass.

    Args:
        annotation: its type, as it is written.
        default: its default value, `None` where it has none or one that is created on each call.
        help: its description in the docstring, as one sentence.
    """

    annotation: str
    default: Any
    help: str


@cache
def parameters(target: str) -> dict[str, Parameter]:
    """Read the parameters of a function or class.

    Args:
        target: a public name of the package, or module and name, such as `"publishing.card_facts.CardFacts"`.

    Returns:
        The parameters by name, in their order, without `self`.
    """
    module, _, name = target.rpartition(".")
    path = _PACKAGE / f"{(module or _LAZY[name]).replace('.', '/')}.py"
    node = next(
        node for node in _parsed(path).body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name
    )
    texts = _described(ast.get_docstring(node) or "")
    return {
        name: Parameter(annotation, _value(default, path), texts.get(name, ""))
        for name, annotation, default in (_fields(node) if isinstance(node, ast.ClassDef) else _arguments(node))
    }


def training_argument_names() -> list[str]:
    """Return the names of the arguments of `MultiHeadTrainingArguments`, those of transformers first."""
    spec = find_spec("transformers")
    assert spec is not None
    assert spec.origin is not None
    tree = _parsed(Path(spec.origin).with_name("training_args.py"))
    base = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments")
    return list(dict.fromkeys([*(name for name, _, _ in _fields(base)), *parameters("MultiHeadTrainingArguments")]))


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


_Parts = tuple[str, str, ast.expr | None]


def _arguments(node: ast.FunctionDef) -> list[_Parts]:
    """Return name, type and default of the arguments of a function, without `*args` and `**kwargs`."""
    positional = [*node.args.posonlyargs, *node.args.args]
    values: list[ast.expr | None] = [*node.args.defaults, *node.args.kw_defaults]
    defaults = [None] * (len(positional) - len(node.args.defaults)) + values
    pairs = zip([*positional, *node.args.kwonlyargs], defaults, strict=True)
    return [
        (argument.arg, _written(argument.annotation), default) for argument, default in pairs if argument.arg != "self"
    ]


def _fields(node: ast.ClassDef) -> list[_Parts]:
    """Return the arguments of `__init__` of a class, or the fields of a dataclass."""
    for inner in node.body:
        if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
            return _arguments(inner)
    assigned = [inner for inner in node.body if isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name)]
    init_fields = [inner for inner in assigned if "init=False" not in _written(inner.value)]
    return [(inner.target.id, _written(inner.annotation), inner.value) for inner in init_fields]  # type: ignore[union-attr]


def _written(node: ast.expr | None) -> str:
    return "" if node is None else ast.unparse(node)


def _value(node: ast.expr | None, path: Path) -> object:
    """Return the value of a default: a literal, or a constant of the same or a sibling module."""
    if node is None or isinstance(node, ast.Call):
        return None
    if not isinstance(node, ast.Name):
        return ast.literal_eval(node)
    for statement in _parsed(path).body:
        if isinstance(statement, ast.Assign) and [_written(target) for target in statement.targets] == [node.id]:
            return ast.literal_eval(statement.value)
        if (
            isinstance(statement, ast.ImportFrom)
            and statement.level == 1
            and node.id in [alias.name for alias in statement.names]
        ):
            return _value(node, path.with_name(f"{statement.module}.py"))
    raise ValueError(f"{path}: the default {node.id} is neither a constant there nor in a module beside it")


def _described(docstring: str) -> dict[str, str]:
    """Return name → description, from the section `Args` of a docstring."""
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", docstring, re.M)
    texts: dict[str, str] = {}
    for names, text in re.findall(r"^ {4}([\w, ]+): ((?:.*\n?)(?: {8}.*\n?)*)", section[1] if section else "", re.M):
        texts |= dict.fromkeys(names.split(", "), _sentence(text))
    return texts


def _sentence(text: str) -> str:
    plain = " ".join(text.replace("`", "").split())
    return plain[:1].upper() + plain[1:]

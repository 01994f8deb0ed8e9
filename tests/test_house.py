"""The house: no file of the package is so long that a reader loses the way."""

import ast
from pathlib import Path

import pytest

import multihead_hf

PACKAGE = Path(multihead_hf.__file__).parent


def test_no_file_has_more_than_400_lines() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def imports_of(path: Path, everywhere: bool) -> set[str]:
    """Modules of the package that a file imports: at its top, or also inside functions."""
    found = set()
    tree = ast.parse(path.read_text())
    if everywhere:  # but for what is only there for types
        tree.body = [node for node in tree.body if "TYPE_CHECKING" not in ast.unparse(getattr(node, "test", tree))]
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            room = path.parents[node.level - 1]
            place = room / (node.module or "").replace(".", "/")
            for name in [place.with_suffix(".py"), *(place / f"{alias.name}.py" for alias in node.names)]:
                if name.is_file():
                    found.add(name.relative_to(PACKAGE).as_posix())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("everywhere", [False, True])
def test_no_import_goes_in_a_circle(everywhere: bool) -> None:
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    below = {path.relative_to(PACKAGE).as_posix(): imports_of(path, everywhere) for path in files}
    assert sum(map(len, below.values())) > 100
    while leaves := [name for name, others in below.items() if not others]:
        for leaf in leaves:
            del below[leaf]
        for others in below.values():
            others.difference_update(leaves)
    assert below == {}

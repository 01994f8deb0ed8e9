"""The house: no file of the package is so long that a reader loses the way."""

from pathlib import Path

import multihead_hf

PACKAGE = Path(multihead_hf.__file__).parent


def test_no_file_has_more_than_400_lines() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 400} == {}

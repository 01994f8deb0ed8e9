"""The program `multihead-hf`, called from tests."""

import contextlib
import io
import sys
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from multihead_hf.cli import main


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def cli(*arguments: str | Path) -> Done:
    """The program in this process: starting one takes seconds."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["multihead-hf", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Done(code, out.getvalue(), err.getvalue())

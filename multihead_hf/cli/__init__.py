"""The command line `multihead-hf`: reads options, calls the library, and says errors in one line."""

import sys

try:
    import typer  # noqa: F401 (what follows needs it)
except ImportError:
    raise SystemExit('the command line needs typer: pip install "multihead-hf[cli]"') from None

from . import (  # noqa: F401 (each adds its commands to `app`)
    demonstrating,
    explaining,
    exporting,
    judging,
    making,
    predicting,
    training,
)
from .options import NAME, app


def main() -> None:
    """The program."""
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        told = " ".join(str(error).split())
        if not isinstance(error, (ValueError, OSError, ImportError)):  # those that say what to do
            told = f"unexpected {type(error).__name__}: {told} (--debug shows where)"
        print(f"{NAME}: {told}", file=sys.stderr)
        sys.exit(1)

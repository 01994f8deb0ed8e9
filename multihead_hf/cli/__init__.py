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
    except (ValueError, OSError, ImportError) as error:
        if "--debug" in sys.argv:
            raise
        print(f"{NAME}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        told = " ".join(str(error).split())
        print(f"{NAME}: unexpected {type(error).__name__}: {told} (--debug shows where)", file=sys.stderr)
        sys.exit(1)

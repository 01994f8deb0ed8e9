"""The example scripts, run as programs."""

import subprocess
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(command: list[str], where: Path, environment: dict[str, str]) -> str:
    """Run a program to its end in a folder, and return what it prints."""
    environment = {**environment, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
    return done.stdout

"""Folder of a run: what it may hold, and that no other run writes into it."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ..utils.cache import cache_path, name_for

RUN_FILE = "run.yaml"  # written into the model's folder

logger = logging.get_logger(__name__)


def is_first_process() -> bool:
    """Return whether this is the only process of a run, or the first of those that a launcher has started."""
    return int(os.environ.get("RANK") or 0) == 0


def check_output_dir(output_dir: str, may_hold_a_run: bool) -> None:
    """Check the folder of a run.

    Args:
        output_dir: The folder.
        may_hold_a_run: Whether a run in it is resumed or overwritten.

    Raises:
        ValueError: The folder is not empty, and it should neither be overwritten nor hold a run to resume.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file: name a folder as output_dir")
    if not may_hold_a_run and folder.is_dir() and any(path.name != RUN_FILE for path in folder.iterdir()):
        raise ValueError(
            f"{folder} exists and is not empty: --resume continues from its newest checkpoint, --overwrite starts a "
            "new run, or name another folder (--output-dir; output_dir in a YAML file)"
        )


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of an earlier run, which a later run would resume."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if re.fullmatch(rf"{PREFIX_CHECKPOINT_DIR}-\d+", path.name) and path.is_dir():
            shutil.rmtree(path)


@contextlib.contextmanager
def claimed(output_dir: str) -> Iterator[None]:
    """Context manager: no other run on this machine writes into the folder.

    The first process of a run holds the lock, a file in the Hugging Face cache, which ends with the process at the
    latest.

    Raises:
        ValueError: Another run writes into the folder.
    """
    if not is_first_process():
        yield
        return
    path = cache_path("runs", f"{name_for(output_dir)}.lock")
    lock = FileLock(path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"another run is writing into {output_dir} at this moment: wait for it, or name another folder "
            "(--output-dir; output_dir in a YAML file)"
        ) from None
    except OSError as error:
        logger.warning(f"other runs into {output_dir} are not noticed: {path.parent} cannot be written ({error})")
        yield
        return
    try:
        yield
    finally:
        lock.release()  # (the file stays: if it were deleted, two runs could lock two files of one name)

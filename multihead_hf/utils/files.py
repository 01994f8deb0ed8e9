"""Files that are there as a whole or not at all, also when the process is killed."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def check_free(folder: str | os.PathLike, overwrite: bool) -> None:
    """
    Raises:
        ValueError: the folder holds something already, and is not to be overwritten.
    """
    place = Path(folder)
    if place.exists() and (not place.is_dir() or any(place.iterdir())) and not overwrite:
        raise ValueError(f"{folder} exists and is not empty: take another folder, or overwrite it (--overwrite)")


def write_whole(path: Path, data: bytes) -> None:
    """Write one file."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with naming(path):
            part.write_bytes(data)
            with part.open("rb+") as file:
                os.fsync(file.fileno())  # a name that lasts longer than what it names would be an empty file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within this an error of a write, such as that of a full disk, says which file it is about."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def write_files_whole(folder: Path, save: Callable[[str], None], pattern: str = "*") -> None:
    """Let `save` write files into a folder of its own inside `folder` (which is never pushed), and put those that match
    the pattern in place when all of them are written."""
    with tempfile.TemporaryDirectory(dir=folder, prefix="_") as fresh:
        save(fresh)
        for path in Path(fresh).glob(pattern):
            os.replace(path, folder / path.name)

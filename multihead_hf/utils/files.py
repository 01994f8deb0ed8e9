"""Atomic file writes, also when the process is killed."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from safetensors import SafetensorError


def check_free(folder: str | os.PathLike, overwrite: bool) -> None:
    """Check that a folder is empty or may be overwritten.

    Raises:
        ValueError: If the folder is not empty and is not to be overwritten.
    """
    path = Path(folder)
    if path.exists() and (not path.is_dir() or any(path.iterdir())) and not overwrite:
        raise ValueError(f"{folder} exists and is not empty: use another folder, or overwrite it (--overwrite)")


def write_whole(path: Path, data: bytes) -> None:
    """Write one file atomically."""
    part = path.parent / f".{path.name}.{os.getpid()}.part"
    try:
        with naming(path):
            part.write_bytes(data)
            with part.open("rb+") as file:
                os.fsync(file.fileno())  # otherwise a crash could leave the new name with an empty file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Context manager: an error of a write, such as that of a full disk, contains the name of the file."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def naming_full_disk(folder: str | os.PathLike) -> Iterator[None]:
    """Context manager: an error of PyTorch or safetensors that means a failed write says so, with the free space.

    Raises:
        OSError: A file could not be written; the message has the free space of the disk of `folder`.
    """
    try:
        yield
    except (RuntimeError, SafetensorError, OSError) as error:
        names_its_file = isinstance(error, OSError) and error.filename is not None
        if names_its_file or not any(sign in str(error) for sign in _FAILED_WRITES):
            raise
        free = shutil.disk_usage(folder).free / 2**20 if os.path.isdir(folder) else 0
        raise OSError(
            errno.ENOSPC,
            f"a file could not be written ({type(error).__name__}: {error}). The disk of {folder} has {free:,.0f} MiB "
            "free: make room, and resume from the newest complete checkpoint",
        ) from error


# (PyTorch's own message of a full disk is `[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534`)
_FAILED_WRITES = ("unexpected pos", "PytorchStreamWriter", os.strerror(errno.ENOSPC))
_CONFIGURATIONS = ("config.json", "adapter_config.json")
_WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")


def holds_model(folder: Path) -> bool:
    """Return whether a folder holds the configuration or the weights of a model."""
    names = os.listdir(folder) if folder.is_dir() else []
    return any(name in _CONFIGURATIONS or _WEIGHTS.fullmatch(name) for name in names)


def write_files_whole(folder: Path, save: Callable[[str], None], pattern: str = "*") -> None:
    """Let `save` write files into a temporary folder inside `folder`, and move them into place when all are written.

    Only files that match the pattern are moved; the temporary folder is never pushed. The configuration of a model is
    removed first and written last, and weights that the new ones do not replace are removed too. A process that is
    killed in between leaves a folder that is refused because it has no configuration, and never one model's weights
    with another model's labels. After an error the folder is as it was before.
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="_saving-") as temporary:
        fresh, old = Path(temporary, "new"), Path(temporary, "old")
        fresh.mkdir()
        save(str(fresh))
        names = [str(path.relative_to(fresh)) for path in sorted(fresh.rglob(pattern)) if path.is_file()]
        for name in names:
            with open(fresh / name, "rb+") as file:
                os.fsync(file.fileno())
        stale = {path.name for path in folder.iterdir() if _WEIGHTS.fullmatch(path.name)} - {*names}
        gone = {*names, *(stale if any(map(_WEIGHTS.fullmatch, names)) else ())}
        moves = [(folder, old, name) for name in sorted(gone, key=_is_no_configuration) if (folder / name).is_file()]
        moves += [(fresh, folder, name) for name in sorted(names, key=_is_no_configuration, reverse=True)]
        done: list[tuple[Path, Path, str]] = []
        try:
            for source, target, name in moves:
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(source / name, target / name)
                done.append((source, target, name))
        except BaseException:
            for source, target, name in reversed(done):
                os.replace(target / name, source / name)
            raise


def _is_no_configuration(name: str) -> bool:
    return name not in _CONFIGURATIONS

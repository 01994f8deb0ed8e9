"""Parts of an unfinished output: locks, the run that they belong to, and which parts are complete."""

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout
from transformers.utils import logging

from ..utils.cache import cache_path, name_for
from ..utils.files import write_whole

logger = logging.get_logger(__name__)

_STATE, _LOCK = "state.json", "lock"
_NAME = re.compile(r"part-(\d{8})\.(\w+)\.(\d+)-(\d+)\.\w+")


class Part(NamedTuple):
    """A complete part.

    Args:
        path: Its file.
        rows: Number of rows.
    """

    path: Path
    rows: int


class Parts:
    """The folder `OUTPUT.parts`, and a record of the completed run in the Hugging Face cache.

    A part's name contains its run and its numbers of rows and bytes, so that an incomplete part, or a part of another
    run, does not count as done.

    Args:
        output: The file that the parts will be joined into.
        suffix: Suffix of the parts' files.
    """

    def __init__(self, output: Path, suffix: str) -> None:
        self.output, self._suffix = output, suffix
        self.folder = output.with_name(f"{output.name}.parts")
        self._record = cache_path("predicted", f"{name_for(output)}.json")
        self.run = ""
        self._noted: set[str] = set()  # runtimes that were recorded
        self._lock: FileLock | None = None

    def lock(self) -> None:
        """Lock this output for other processes until `unlock`.

        Raises:
            ValueError: Another process has locked it.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"{self.folder} is a file, but the predictions made so far go into a folder of this name")
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(
                f"another run is writing {self.output} at this moment: wait for it, or give another output"
            ) from None
        self._lock = lock

    def unlock(self) -> None:
        """Unlock the output, and remove the folder if it holds no parts."""
        if self._lock is not None:
            if not self.can_go_on():
                shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()
            self._lock = None

    def can_go_on(self) -> bool:
        """Return whether there are parts that a later run can resume from."""
        return (self.folder / _STATE).is_file()

    def state(self) -> dict[str, Any]:
        """Return the settings of the run that the parts belong to."""
        return self._read(self.folder / _STATE)

    def ended(self) -> dict[str, Any] | None:
        """Return the record of the run that wrote the output, if it exists and the output is unchanged."""
        if not self.output.is_file() or not self._record.is_file():
            return None
        record = self._read(self._record)
        return record if record.get("output") == self._seen() else None

    def _seen(self) -> list[int]:
        return [self.output.stat().st_size, self.output.stat().st_mtime_ns]

    def _read(self, path: Path) -> dict[str, Any]:
        """Read a JSON file.

        Raises:
            ValueError: The file is damaged.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}): --overwrite starts again") from None
        if not isinstance(content, dict):
            raise ValueError(f"{path} is damaged (not a JSON object): --overwrite starts again")
        return content

    def begin(self, about: Mapping[str, Any]) -> None:
        """Begin a new run, and remove the parts of an earlier one."""
        for path in self.folder.iterdir():
            if path.name != _LOCK:
                path.unlink()
        self.run = uuid.uuid4().hex[:12]
        write_whole(self.folder / _STATE, json.dumps({**about, "run": self.run}, indent=2).encode())

    def backends(self) -> list[str]:
        """Return the runtimes that the main process of this run has used, before and after `resume`."""
        return self.state().get("backends", [])

    def add_backend(self, backend: str) -> None:
        """Record a runtime of this run."""
        if backend in self._noted:  # (called for each window)
            return
        self._noted.add(backend)
        state = self.state()
        if backend not in (known := state.setdefault("backends", [])):
            known.append(backend)
            write_whole(self.folder / _STATE, json.dumps(state, indent=2).encode())

    def done(self) -> dict[int, Part]:
        """Return window → part, of the complete parts of this run."""
        parts = {}
        for path in self.folder.glob(f"part-*.{self.run}.*"):
            name = _NAME.fullmatch(path.name)
            if name is not None and path.stat().st_size == int(name[4]):
                parts[int(name[1])] = Part(path, int(name[3]))
        return parts

    def write(self, index: int, rows: int, write: Callable[[Path], None]) -> None:
        """Let `write` write a part into a temporary file, and rename it."""
        unfinished = self.folder / f"part-{index:08}.{self.run}.unfinished{self._suffix}"
        write(unfinished)
        size = unfinished.stat().st_size
        os.replace(unfinished, self.folder / f"part-{index:08}.{self.run}.{rows}-{size}{self._suffix}")

    def errors(self, index: int) -> Path:
        """Return the file of a window's bad rows."""
        return self.folder / f"errors-{index:08}.{self.run}.jsonl"

    def end(self, facts: Mapping[str, Any]) -> None:
        """Record that the output is finished, and remove its parts."""
        try:
            self._record.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self._record, json.dumps({**self.state(), **facts, "output": self._seen()}).encode())
        except OSError as error:  # a later `resume` will not detect the completed run
            logger.info(f"no record was kept of {self.output}: {error}")
        (self.folder / _STATE).unlink()  # removed first: without it, remaining parts are ignored
        self.unlock()

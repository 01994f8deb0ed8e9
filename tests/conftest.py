"""Tests run without the network and leave nothing behind: their Hub cache is a temporary folder."""

import os
import tempfile

# before transformers is imported: it reads these once
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="multihead-hf-tests-")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.pop("HF_TOKEN", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # workers whose threads wait for each other take many times as long

import gc
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers

transformers.utils.logging.disable_progress_bar()


# roughly the seconds of a test
_SECONDS = {"slow": 5, "browser": 15, "distributed": 20}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first, so that two workers end at about the same time."""
    seconds: Counter[Path] = Counter()
    for item in items:
        seconds[item.path] += 1 + sum(_SECONDS.get(marker.name, 0) for marker in item.iter_markers())
    items.sort(key=lambda item: -seconds[item.path])  # (stable: the tests of a file stay together and in order)


@pytest.fixture(autouse=True, scope="session")
def _temporary_hub_cache() -> Iterator[None]:
    yield
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test writes by a relative path lands in its own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True, scope="module")
def _collects_its_own_garbage_only() -> None:
    """Keep what the imports have made out of garbage collection.

    accelerate collects at the start of every training: over a million objects this was three quarters of a training of
    one step.
    """
    gc.collect()
    gc.freeze()

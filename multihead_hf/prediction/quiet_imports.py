"""Imports of OpenVINO and NNCF without telemetry: both send usage data by default."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from types import ModuleType

_TELEMETRY = "openvino_telemetry"
_NNCF_SWITCH = "NNCF_CI"  # documented as "must be set in CI environments"; read once, on import


def openvino() -> ModuleType:
    """Import OpenVINO as if its telemetry package were not installed."""
    with _without_telemetry():
        importlib.import_module("openvino.tools.ovc.convert_impl")
        return importlib.import_module("openvino")


def package(name: str) -> ModuleType:
    """Import a package of a runtime, OpenVINO without its telemetry."""
    return openvino() if name == "openvino" else importlib.import_module(name)


def nncf() -> ModuleType:
    """Import NNCF with telemetry disabled."""
    openvino()
    before = os.environ.get(_NNCF_SWITCH)
    os.environ[_NNCF_SWITCH] = "1"
    try:
        with _without_telemetry():
            return importlib.import_module("nncf")
    finally:
        if before is None:
            del os.environ[_NNCF_SWITCH]
        else:
            os.environ[_NNCF_SWITCH] = before


@contextlib.contextmanager
def _without_telemetry() -> Iterator[None]:
    loaded = _TELEMETRY in sys.modules
    if not loaded:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # importing it raises ImportError
    try:
        yield
    finally:
        if not loaded:
            del sys.modules[_TELEMETRY]

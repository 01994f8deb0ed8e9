"""Alternate signal stack of a thread, protected from libraries that leave freed memory in its place."""

import contextlib
import ctypes
import gc
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


@contextlib.contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Restore the alternate signal stack of this thread on exit (on Linux; elsewhere nothing is done).

    OpenVINO's CPU plugin sets its own stack, and each of several plugins restores the previous one, which another
    plugin may have freed by then. The next signal with a Python handler, such as Ctrl+C, then crashes the process.
    """
    if sys.platform != "linux":
        yield
        return
    libc, before = ctypes.CDLL(None), _Stack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        gc.collect()  # plugins that are not freed yet would change the stack later
        libc.sigaltstack(ctypes.byref(before), None)

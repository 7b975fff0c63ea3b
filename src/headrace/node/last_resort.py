"""A standard error that takes whatever it is told and never raises.

It is the log of node and keeper, and logs fail like other files: the disk is full, a pipe has no reader (EPIPE), a terminal is gone (EIO).
Such an error is swallowed, because there is nobody left to tell, and what was to be told is the lesser trouble: a keeper that raised while it
told of a node's death closed every descriptor that it held, and all mounts ended with it. Standard library only: the keeper needs it.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Swallowing(io.FileIO):
    """Writes what can be written, and says that it was everything: callers that knew better would try again, or raise."""

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        try:
            return super().write(data) or size  # None when it would block
        except OSError:  # nobody is left to tell
            return size


def never_failing(descriptor: int) -> io.TextIOWrapper:
    """A text stream over a descriptor, which stays open with it. A line goes out by one write, as those of the interpreter's own do."""
    raw = io.BufferedWriter(_Swallowing(descriptor, "wb", closefd=False))
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def swallow_errors_of_stderr() -> None:
    """First thing in node and keeper. Tracebacks, of threads too, `sys.excepthook`, `warnings` and `logging` look `sys.stderr` up each time."""
    # None when the process began with it closed: its number may be another file's by now.
    descriptor = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC) if sys.stderr is None else sys.stderr.fileno()
    sys.stderr = sys.__stderr__ = never_failing(descriptor)  # type: ignore[misc]

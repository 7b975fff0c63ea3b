"""Stops single threads of another process, as a busy machine may for a moment: the others go on."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_DETACH, _SEIZE, _INTERRUPT = 17, 0x4206, 0x4207
_WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def threads(pid: int, name: str) -> list[int]:
    """Threads of a process whose name begins so; one that ends meanwhile is none."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().startswith(name):
                found.append(int(task.name))
    return found


@contextmanager
def stopped(wanted: list[int]) -> Iterator[None]:
    """These threads stand still until the end of the `with`, or until their process is killed."""
    for thread in wanted:
        _ptrace(_SEIZE, thread)
        _ptrace(_INTERRUPT, thread)
        assert os.WIFSTOPPED(os.waitpid(thread, _WALL)[1])
    try:
        yield
    finally:
        for thread in wanted:
            with contextlib.suppress(ProcessLookupError):
                _ptrace(_DETACH, thread)
                continue
            # Killed: the kernel keeps it until whoever stopped it has seen its end.
            with contextlib.suppress(ChildProcessError):
                while not os.WIFSIGNALED(os.waitpid(thread, _WALL)[1]):
                    pass


def _ptrace(request: int, thread: int) -> None:
    if _libc.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), f"ptrace: {os.strerror(ctypes.get_errno())}")


def waits_in_fuse(pid: int) -> bool:
    """Whether a thread waits in the kernel's FUSE for an answer, and not for requests on the device."""
    return any("fuse_" in stack and "fuse_dev_do_read" not in stack for stack in stacks(pid))


def waits_for_bytes(pid: int) -> bool:
    """Whether a thread waits in the kernel for bytes of a file: for an answer, or for a page that somebody has asked for."""
    return any(place in stack for stack in stacks(pid) for place in ("fuse_", "folio_wait", "filemap_"))


def stacks(pid: int) -> list[str]:
    """Where each thread of a process is in the kernel; one that ends meanwhile is nowhere."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append((task / "stack").read_text())
    return found

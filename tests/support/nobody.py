"""A user without privileges."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

NOBODY = 65534
# A user of its own, who may find the way to this repository wherever it lies, and nothing else.
AS_NOBODY = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all,+dac_read_search",
    "--ambient-caps=-all,+dac_read_search", "--",
]  # fmt: skip
_DEVICE = "/dev/fuse"


@contextmanager
def fuse_for_everybody() -> Iterator[None]:
    """The device open to all users, as every distribution has it; a bare container may not.

    Tests that run side by side need it at the same time, so whoever is the last closes it again: each has a lock on it.
    """
    device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(device, fcntl.LOCK_SH)
        mode = os.fstat(device).st_mode & 0o777
        os.chmod(_DEVICE, 0o666)
        yield
        try:
            fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        os.chmod(_DEVICE, mode)
    finally:
        os.close(device)

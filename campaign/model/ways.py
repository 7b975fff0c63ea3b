"""Ways to read a range through a descriptor. Each gives the bytes from `offset`, as many of `length` as there are, or raises OSError.

What was read before an error must be right too: `Partial` carries it.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
from collections.abc import Callable

PAGE = 4096


class Partial(OSError):
    """A read that failed after some bytes."""

    def __init__(self, error: OSError, data: bytes) -> None:
        super().__init__(error.errno, error.strerror)
        self.data = data


def pread(descriptor: int, offset: int, length: int) -> bytes:
    """The kernel gives what precedes a page that failed as a short read, so it is asked until nothing more comes."""
    return _until_end(length, lambda at, rest: os.pread(descriptor, rest, offset + at))


def direct(descriptor: int, offset: int, length: int) -> bytes:
    """Through an aligned buffer, for descriptors opened with O_DIRECT: from the page that `offset` is in."""
    skip = offset % PAGE
    size = -(-(skip + length) // PAGE) * PAGE
    with mmap.mmap(-1, size) as buffer:

        def read(at: int, rest: int) -> bytes:
            got = os.preadv(descriptor, [memoryview(buffer)[at : at + rest]], offset - skip + at) if at % PAGE == 0 else 0
            return buffer[at : at + got]

        return _until_end(size, read)[skip : skip + length]


def send_direct(descriptor: int, offset: int, length: int) -> bytes:
    """As `send`, for descriptors opened with O_DIRECT: a file system may refuse to begin anywhere but at a page (ext4 does)."""
    skip = offset % PAGE
    return send(descriptor, offset - skip, -(-(skip + length) // PAGE) * PAGE)[skip : skip + length]


def send(descriptor: int, offset: int, length: int) -> bytes:
    """sendfile(2) into a memory file."""
    memory = os.memfd_create("sent")
    try:
        got = 0
        while got < length and (count := os.sendfile(memory, descriptor, offset + got, length - got)):
            got += count
        return os.pread(memory, got, 0)
    finally:
        os.close(memory)


def mapped(descriptor: int, offset: int, length: int) -> bytes:
    """A mapping, touched by a child of its own: a page that can't be had kills whoever touches it. EIO when it did."""
    size = os.fstat(descriptor).st_size
    length = max(0, min(length, size - offset))
    if length == 0:
        return b""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)  # pytest's faulthandler would print where
        with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as view:
            data = memoryview(view)[offset : offset + length].tobytes()
        while data:
            data = data[os.write(sending, data) :]
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS:
        raise OSError(errno.EIO, "SIGBUS")
    assert status == 0, f"a child that reads a mapping ended with status {status}"
    return data


def _until_end(length: int, read: Callable[[int, int], bytes]) -> bytes:
    data = b""
    while len(data) < length:
        try:
            part = read(len(data), length - len(data))
        except OSError as error:
            raise Partial(error, data) from error
        if not part:
            break
        data += part
    return data

"""Ways to read a range through a descriptor. Each gives the bytes from `offset`, as many of `length` as there are, or raises OSError.

What was read before an error must be right too: `Partial` carries it. Memory of a mapping is only touched by a process of
its own (`apart`): a page that can't be had kills whoever touches it. The same process can be left waiting in the kernel
(`Apart`), while something happens to whom it waits for.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import resource
import select
import signal
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

PAGE = 4096
_ERRNO_BYTES = 4
_DESCRIPTORS_MAX = 1 << 20
_HANGS = 90  # seconds after which a read is said to hang: more than any deadline of the campaign


class Partial(OSError):
    """A read that failed after some bytes."""

    def __init__(self, error: OSError, data: bytes) -> None:
        super().__init__(error.errno, error.strerror)
        self.data = data


class Apart:
    """A read by a process of its own, begun but not waited for."""

    def __init__(self, read: Callable[[], bytes], *descriptors: int) -> None:
        """`descriptors` are those that the read needs; the process has no others."""
        self._answer = os.memfd_create("answer")  # a pipe would let the process wait for us
        self.pid = os.fork()
        if self.pid == 0:
            _answer(read, self._answer, *descriptors)
        self._ended = False

    def stands(self) -> bool:
        """Whether it waits in the kernel."""
        return self._state() in "SD"

    def runs(self) -> bool:
        return self._state() == "R"

    def result(self) -> bytes:
        """What it read, once it has. AssertionError when it hangs."""
        status = self._status()
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGBUS:
            raise OSError(errno.EIO, "SIGBUS")
        assert status == 0, f"a process that reads ended with status {status}"
        answer = os.pread(self._answer, os.fstat(self._answer).st_size, 0)
        number, data = int.from_bytes(answer[:_ERRNO_BYTES]), answer[_ERRNO_BYTES:]
        if number:
            raise Partial(OSError(number, os.strerror(number)), data)
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._ended:
            os.kill(self.pid, signal.SIGKILL)
            self._status()
        os.close(self._answer)

    def _state(self) -> str:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]

    def _status(self) -> int:
        handle = os.pidfd_open(self.pid)
        try:
            end = select.poll()
            end.register(handle, select.POLLIN)
            assert end.poll(_HANGS * 1000), f"a read hangs for {_HANGS} s"
        finally:
            os.close(handle)
        self._ended = True
        return os.waitpid(self.pid, 0)[1]


def _answer(read: Callable[[], bytes], answer: int, *descriptors: int) -> NoReturn:
    """The process of an `Apart`: leaves errno and bytes in a memory file."""
    status = 1
    try:
        signal.signal(signal.SIGBUS, signal.SIG_DFL)  # pytest's faulthandler would print where
        _close_all_but(*range(3), answer, *descriptors)
        number, data = 0, b""
        try:
            data = read()
        except OSError as error:
            number, data = error.errno or errno.EIO, error.data if isinstance(error, Partial) else b""
        left = memoryview(number.to_bytes(_ERRNO_BYTES) + data)
        while left:
            left = left[os.write(answer, left) :]
        status = 0
    except BaseException:  # never back into the program that it is a copy of
        traceback.print_exc()
    finally:
        os._exit(status)


def _close_all_but(*kept: int) -> None:
    """A connection of the test's own origin would not end while a copy of it is held here, and its client wait for that end."""
    borders = [-1, *sorted(set(kept)), min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], _DESCRIPTORS_MAX)]
    for low, high in itertools.pairwise(borders):
        if low + 1 < high:  # Python takes an empty range for everything from there on
            os.closerange(low + 1, high)


def apart(read: Callable[[], bytes], *descriptors: int) -> bytes:
    """What a process of its own reads. EIO when a page that could not be had killed it."""
    with Apart(read, *descriptors) as process:
        return process.result()


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
    """A new mapping."""
    return apart(partial(touch, descriptor, offset, length), descriptor)


def touch(descriptor: int, offset: int, length: int) -> bytes:
    """A new mapping, touched by the process itself."""
    if offset >= os.fstat(descriptor).st_size:
        return b""
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as view:
        return view[offset : offset + length]


def look(view: mmap.mmap, offset: int, length: int) -> bytes:
    """A mapping that is held, touched by the process itself."""
    return view[offset : offset + length]


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

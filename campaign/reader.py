"""Reads files of a mount again and again and compares every byte, until its standard input ends.

    reader.py MODE THREADS SEED MOUNT REFERENCE

MODE is `random` (pread anywhere), `sequential` (from the start, in pieces) or `mapped` (pages of a mapping, touched
anywhere). REFERENCE is a directory with the same files. It ends by printing, as JSON: `opens`, `reads`, `bytes`, the
`longest` call in seconds, and the first `wrong` ones: file, offset and what was wrong, "bytes" or an errno.

A program of its own: a page fault of a mapping holds Python's lock, so whoever serves the bytes must be elsewhere.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

_READS = 32  # of a file, before it is closed
_PIECE = 64 << 10
_WRONG_MAX = 20

Read = tuple[int, int, Callable[[], bytes]]  # offset, length, the call


class Reader:
    """What all threads share."""

    def __init__(self, mode: str, mount: Path, reference: Path) -> None:
        self.way: Callable[[int, int, random.Random], Iterator[Read]] = {"random": _random, "sequential": _sequential, "mapped": _mapped}[mode]
        self.mount = mount
        self.files = {path.name: path.read_bytes() for path in sorted(reference.iterdir())}
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.opens = self.reads = self.bytes = 0
        self.longest = 0.0
        self.wrong: list[tuple[str, int, str]] = []

    def run(self, seed: str) -> None:
        chance = random.Random(seed)
        while not self.stop.is_set():
            name = chance.choice(list(self.files))
            descriptor = -1

            def open_it(name: str = name) -> bytes:
                nonlocal descriptor
                descriptor = os.open(self.mount / name, os.O_RDONLY)
                # Without this the kernel would answer from the pages it keeps.
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                return b""

            with self.lock:
                self.opens += 1
            self.one(name, 0, 0, open_it)
            if descriptor < 0:
                continue
            try:
                for offset, length, read in self.way(descriptor, len(self.files[name]), chance):
                    with self.lock:
                        self.reads += 1
                    self.one(name, offset, length, read)
                    if self.stop.is_set():
                        break
            finally:
                os.close(descriptor)

    def one(self, name: str, offset: int, length: int, read: Callable[[], bytes]) -> None:
        """One call, timed and compared."""
        began = time.monotonic()
        data, fault = b"", ""
        try:
            data = read()
        except OSError as error:
            fault = errno.errorcode[error.errno or 0]
        if not fault and data != self.files[name][offset : offset + length]:
            fault = "bytes"
        with self.lock:
            self.bytes += len(data)
            self.longest = max(self.longest, time.monotonic() - began)
            if fault and len(self.wrong) < _WRONG_MAX:
                self.wrong.append((name, offset, fault))


def _random(descriptor: int, size: int, chance: random.Random) -> Iterator[Read]:
    for _ in range(_READS if size else 0):
        offset, length = chance.randrange(size), chance.randint(1, _PIECE)
        yield offset, length, partial(os.pread, descriptor, length, offset)


def _sequential(descriptor: int, size: int, chance: random.Random) -> Iterator[Read]:
    length = chance.randint(4096, 16 * _PIECE)
    for offset in range(0, size, length):
        yield offset, length, partial(os.pread, descriptor, length, offset)


def _mapped(descriptor: int, size: int, chance: random.Random) -> Iterator[Read]:
    if size == 0:
        return
    with mmap.mmap(descriptor, 0, prot=mmap.PROT_READ) as view:
        view.madvise(mmap.MADV_RANDOM)
        for _ in range(_READS):
            offset, length = chance.randrange(size), chance.randint(1, _PIECE)
            yield offset, length, partial(_part, view, offset, length)


def _part(view: mmap.mmap, offset: int, length: int) -> bytes:
    return view[offset : offset + length]


def main() -> None:
    mode, threads, seed, mount, reference = sys.argv[1:]
    reader = Reader(mode, Path(mount), Path(reference))
    with ThreadPoolExecutor(int(threads)) as pool:
        running = [pool.submit(reader.run, f"{seed} {mode} {n}") for n in range(int(threads))]
        sys.stdin.read()
        reader.stop.set()
        for each in running:
            each.result()
    print(json.dumps({"opens": reader.opens, "reads": reader.reads, "bytes": reader.bytes, "longest": reader.longest, "wrong": reader.wrong}))


if __name__ == "__main__":
    main()

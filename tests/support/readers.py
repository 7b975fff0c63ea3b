"""Programs that read while something happens to the mount: they must notice nothing."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MIB = 1 << 20


class Reader(threading.Thread):
    """Reads at random or in order until told to stop; remembers what went wrong."""

    def __init__(self, path: Path, data: bytes, seed: int, stop: threading.Event) -> None:
        super().__init__()
        self.path, self.data, self.stop = path, data, stop
        self.random = random.Random(seed)
        self.failures: list[str] = []
        self.reads = 0

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                self._pass()
            except OSError as error:
                self.failures.append(repr(error))
                return

    def _pass(self) -> None:
        with self.path.open("rb", buffering=0) as file:
            for index in range(-(-len(self.data) // MIB)):
                at = index * MIB if self.random.random() < 0.5 else self.random.randrange(len(self.data))
                if os.pread(file.fileno(), 70_000, at) != self.data[at : at + 70_000]:
                    self.failures.append(f"wrong bytes at {at}")
                self.reads += 1
                # Paced, so that the readers don't take the processors from the node that is to come back.
                if self.stop.wait(0.004):
                    return


@contextmanager
def under_readers(path: Path, data: bytes, count: int) -> Iterator[None]:
    """Has `count` readers read `path` meanwhile; at the end none has failed, hangs, or saw a byte that is not of `data`."""
    stop = threading.Event()
    readers = [Reader(path, data, seed, stop) for seed in range(count)]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        stop.set()
        for reader in readers:
            reader.join(60)
    assert [f for r in readers for f in r.failures] == []
    assert all(not r.is_alive() and r.reads > 0 for r in readers)

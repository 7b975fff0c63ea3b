"""Reading a complete file again through the mount, against the same bytes in a file of the local disk.

Both lie in the page cache. `dd bs=1M` copies; the mapped readers touch: once all words are added up, as a program that
uses its weights does, and once a single byte of each page, which shows the cost of page faults alone.

At ten gigabytes a second it counts for some percent how a file's pages were made and where they lie in memory. So each round makes them anew,
and alike: the page cache is dropped and both files are read from the disk. Pages as a cold read leaves them are told beside: those that
were read back (decision 23) are touched for the first time by the second read, which on a virtual machine the host has to prepare.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import machine, readers
from bench.measure import Figure, at_least, ratios
from bench.objects import GIB
from bench.place import Place

TITLE = "warm reads through the mount / the same file native"
WAYS: dict[str, Callable[[Path], readers.Read]] = {
    "dd bs=1M": readers.dd,
    "mmap, sum of all bytes": lambda path: readers.run("mapped_sum", path),
    "mmap, one byte a page": lambda path: readers.run("mapped_touch", path),
}
BOUND = {"dd bs=1M", "mmap, sum of all bytes"}
DRAWS = 2  # where pages lie makes single rounds differ by ten percent
LEFT = "pages as a cold read leaves them, "

Pairs = dict[str, list[tuple[float, float]]]


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    native = wanted.native
    with place.headrace() as system:

        def compare(ways: dict[str, Callable[[Path], readers.Read]], prepare: Callable[[int], Path], rounds: int) -> Pairs:
            """Rates through the mount and of the native file, which begin by turns."""
            pairs: Pairs = {name: [] for name in ways}
            for number in range(rounds):
                files = (prepare(number), native)
                for name, read in ways.items():
                    rates = {file: wanted.size / read(file).seconds / 1e6 for file in (files[::-1] if number % 2 else files)}
                    pairs[name].append((rates[files[0]], rates[native]))
            return pairs

        def after_cold_read(_: int) -> Path:
            path = place.cold(system, wanted)
            readers.dd(path)
            system.wait_durable()
            readers.dd(native)
            return path

        def from_disk(number: int) -> Path:
            machine.drop_caches()
            for file in (path, native) if number // 2 % 2 else (native, path):  # those read first may lie better
                readers.dd(file)
            return path

        left = compare({"second read": readers.dd, "third read": readers.dd}, after_cold_read, place.repeats.long)
        path = system.directory / wanted.name
        place.check(path, wanted)
        alike = compare(WAYS, from_disk, DRAWS * place.repeats.short)
    figures = [figure for name, pairs in alike.items() for figure in _figures(name, pairs, bound=name in BOUND)]
    return figures + [figure for name, pairs in left.items() for figure in _figures(LEFT + name, pairs, bound=False)]


def _figures(name: str, pairs: list[tuple[float, float]], *, bound: bool) -> list[Figure]:
    return [
        Figure(f"{name}, mount / native", "", ratios(pairs), at_least(0.95) if bound else None),
        Figure(f"{name}, mount", "MB/s", tuple(mount for mount, _ in pairs)),
    ]

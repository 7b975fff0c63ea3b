"""S3: the second read of a file, in every way of reading, by one reader and by four, against the same file native.

All lies in the page cache. `dd bs=1M` copies; a mapping is touched (one byte of each page: page faults alone) and summed (all
of it, as a program does that uses its weights). Peers are told beside, with `dd`: one at a time, for each keeps a copy in memory.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from bench import readers
from bench.contest import OURS
from bench.measure import Figure, Rounds, at_least
from bench.objects import GIB, Object
from bench.place import Place
from bench.systems import System
from bench.systems.headrace import Headrace

TITLE = "warm read and mmap, 1 and 4 readers / native"
NATIVE = "native"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    with place.headrace() as system:
        path = _warmed(place, system, wanted)
        figures = [figure for readers_ in (1, 4) for figure in _ways(place, path, wanted, readers_)]
    return figures + second_reads(place)


def second_reads(place: Place) -> list[Figure]:
    """Of Headrace and each peer by `dd`, with the rate and the ratio to native."""
    rounds = place.once("second reads", lambda: _second_reads(place))
    place.record.draw("Second read, 2 GiB in order\n/ native file", {name: each.ratios(name, NATIVE) for name, each in rounds.items()})
    figures = []
    for name, each in rounds.items():
        figures.append(Figure(f"second read: {name} / native", "", each.ratios(name, NATIVE)))
        figures.append(Figure(f"second read: {name}", "MB/s", each.values[name]))
    return figures


def best_share(place: Place) -> float:
    """Of native, that the best peer's second read reaches; 0 without peers."""
    rounds: dict[str, Rounds] = place.once("second reads", lambda: _second_reads(place))
    return max((statistics.median(each.ratios(name, NATIVE)) for name, each in rounds.items() if name != OURS), default=0.0)


def _second_reads(place: Place) -> dict[str, Rounds]:
    wanted = place.objects.file(2 * GIB)
    found: dict[str, Rounds] = {}
    with place.systems() as systems:
        place.rehearse(systems, wanted.source)
        for system in systems:
            path = _warmed(place, system, wanted)
            runs: dict[str, Callable[[], float]] = {
                system.name: lambda path=path: wanted.size / readers.dd(path).seconds / 1e6,  # type: ignore[misc]
                NATIVE: lambda: wanted.size / readers.dd(wanted.native).seconds / 1e6,
            }
            rounds = place.repeats.compare(runs, place.failed)
            if system.name in rounds.values:
                found[system.name] = rounds
            place.leave(system)
    return found


def _warmed(place: Place, system: System, wanted: Object) -> Path:
    """The object's path, read once through the mount, as the native file was: both are in the page cache."""
    path = place.cold(system, wanted)
    place.check(path, wanted)
    if isinstance(system, Headrace):
        system.wait_durable()
    readers.dd(path)
    readers.dd(wanted.native)
    return path


def _ways(place: Place, path: Path, wanted: Object, count: int) -> list[Figure]:
    ways: dict[str, Callable[[Path], float]] = {
        "dd bs=1M": lambda file: readers.dd(file).seconds if count == 1 else readers.dd_together(file, count),
        "mmap, sum of all bytes": lambda file: _together("mapped_sum", file, count),
        "mmap, one byte a page": lambda file: _together("mapped_touch", file, count),
    }
    figures = []
    for name, read in ways.items():
        runs: dict[str, Callable[[], float]] = {
            OURS: lambda read=read: count * wanted.size / read(path) / 1e6,  # type: ignore[misc]
            NATIVE: lambda read=read: count * wanted.size / read(wanted.native) / 1e6,  # type: ignore[misc]
        }
        rounds = place.repeats.compare(runs, place.failed)
        what = f"{name}, {count} reader{'s' if count > 1 else ''}"
        figures.append(Figure(f"{what}: {OURS} / native", "", rounds.ratios(OURS, NATIVE), at_least(0.95)))
        figures.append(Figure(f"{what}: {OURS}", "MB/s", rounds.values[OURS]))
    return figures


def _together(way: str, path: Path, count: int) -> float:
    """Seconds of the slowest of several that begin at once."""
    return max(each.seconds for each in readers.run_together(way, path, readers=count))

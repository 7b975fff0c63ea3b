"""S4: the first 4 KiB of a file that nothing was read of, at a random offset: open and read, against one ranged GET.

Just before, each has read a little of another file, so that it has a connection. Every turn takes a file of its own and
an offset of its own. Once beside the server, once with every first byte 20 ms late.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import raw, readers
from bench.contest import OURS, RAW
from bench.measure import Figure, Repeats, at_most
from bench.objects import MIB, Tree
from bench.place import Place
from bench.seats import Route
from headrace.testing.delay import delayed

TITLE = "first 4 KiB of a cold open and read / one ranged GET"
TURNS = 27
SIZE = 32 * MIB
LENGTH = 4 << 10
DELAY_SECONDS = 0.02


def run(place: Place) -> list[Figure]:
    turns = place.plan.rounds or (9 if place.plan.quick else TURNS)
    tree = place.objects.tree("first-byte", turns + 1, SIZE)
    figures = _figures(place, tree, place.route, "beside the server", turns)
    with delayed(place.server, DELAY_SECONDS) as access:
        figures += _figures(place, tree, Route(access), "20 ms away", turns)
    return figures


def _figures(place: Place, tree: Tree, route: Route, where: str, turns: int) -> list[Figure]:
    with place.systems(route) as systems:
        place.rehearse(systems, tree.source)
        mounts = {each.name: place.cold_mount(each, tree) for each in systems}
        offsets = random.Random(place.seed)
        signed = raw.addresses(route, "bench", [each.key for each in tree.objects])
        runs: dict[str, Callable[[], float]] = {name: _mounted(path, tree, route, offsets) for name, path in mounts.items()}
        runs[RAW] = _ranged(signed, route, offsets)
        rounds = Repeats(turns, turns).compare(runs, place.failed)
    shares = {name: rounds.ratios(RAW, name) for name in rounds.among(mounts)}
    place.record.draw(f"First 4 KiB of a cold open and read\n{where} / one ranged GET", shares)
    bounded = Figure(f"{where}: {OURS} / one ranged GET", "", rounds.ratios(OURS, RAW), at_most(1.3))
    return [bounded, *(Figure(f"{where}: {name}", "ms", tuple(1e3 * each for each in values)) for name, values in rounds.values.items())]


def _mounted(mount: Path, tree: Tree, route: Route, offsets: random.Random) -> Callable[[], float]:
    files = iter(tree.objects[1:])

    def turn() -> float:
        wanted = next(files)
        warm = tree.path(mount, tree.objects[0])
        path = tree.path(mount, wanted)
        return float(readers.run("first_bytes", path, warm, _offset(offsets), LENGTH, seat=route.seat).found)

    return turn


def _ranged(signed: list[str], route: Route, offsets: random.Random) -> Callable[[], float]:
    files: Iterator[str] = iter(signed[1:])
    return lambda: raw.first_byte(route, next(files), _offset(offsets), LENGTH, warm=signed[0])


def _offset(offsets: random.Random) -> int:
    return offsets.randrange(SIZE // LENGTH) * LENGTH

"""S6: 10,000 files of 16 KiB in 100 directories, read by one thread in the order of their names.

Cold against a client with 32 requests in flight, which knows all keys beforehand; warm against the same files on the local
disk, both in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import raw, readers
from bench.contest import OURS, RAW
from bench.measure import Figure, Rounds, at_least
from bench.objects import Tree
from bench.place import Place
from bench.systems import System

TITLE = "10,000 × 16 KiB, one reader / raw client with 32 in flight; warm / native"
FILES = 10_000
SIZE = 16 << 10
NATIVE = "native"


def run(place: Place) -> list[Figure]:
    tree = place.objects.tree("small", place.plan.count(FILES), SIZE)
    with place.systems() as systems:
        place.rehearse(systems, tree.source)
        cold = place.repeats.compare(_cold(place, tree, systems), place.failed)
        kept = [each for each in systems if each.name in cold.values]
        places = {NATIVE: place.native / tree.prefix} | {each.name: place.cold_mount(each, tree) for each in kept}
        _check(places)
        warm = place.repeats.compare(_warm(places, tree), place.failed)
    place.record.draw(
        "10,000 files of 16 KiB, cold, one reader\n/ raw client with 32 in flight", {each.name: cold.ratios(each.name, RAW) for each in kept}
    )
    return [*_figures("cold", cold, RAW, 0.6, systems), *_figures("warm", warm, NATIVE, 0.5, systems)]


def _cold(place: Place, tree: Tree, systems: list[System]) -> dict[str, Callable[[], float]]:
    def mounted(system: System) -> float:
        path = place.cold_mount(system, tree)
        rate = len(tree.objects) / readers.run("read_tree", path).seconds
        place.leave(system)
        return rate

    def ceiling() -> float:
        place.settle(tree)
        return len(tree.objects) / raw.fetch_many(place.route, tree.signed)

    runs: dict[str, Callable[[], float]] = {each.name: lambda each=each: mounted(each) for each in systems}  # type: ignore[misc]
    return {**runs, RAW: ceiling}


def _check(places: dict[str, Path]) -> None:
    """Reads everything; RuntimeError when a system shows other names or bytes."""
    digests = {name: readers.run("tree_digest", path).found for name, path in places.items()}
    if wrong := [name for name, digest in digests.items() if digest != digests[NATIVE]]:
        raise RuntimeError(f"wrong bytes, or files that are not there: {', '.join(wrong)}")


def _warm(places: dict[str, Path], tree: Tree) -> dict[str, Callable[[], float]]:
    """Everything was read before, through the mounts and natively."""
    return {name: lambda path=path: len(tree.objects) / readers.run("read_tree", path).seconds for name, path in places.items()}  # type: ignore[misc]


def _figures(what: str, rounds: Rounds, ceiling: str, limit: float, systems: list[System]) -> list[Figure]:
    rival = rounds.best(each.name for each in systems if each.name != OURS)
    figures = [Figure(f"{what}: {OURS} / {ceiling}", "", rounds.ratios(OURS, ceiling), at_least(limit))]
    if rival and what == "cold":
        figures.append(Figure(f"{what}: {OURS} / best peer ({rival})", "", rounds.ratios(OURS, rival), at_least(1.0)))
    return figures + [Figure(f"{what}: {name}", "files/s", values) for name, values in rounds.values.items()]

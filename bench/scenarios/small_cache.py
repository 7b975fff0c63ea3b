"""A file four times as large as the cache: every byte right in three ways of reading, and the limit kept.

What the cache takes is counted in allocated blocks of every file below it, also of those unlinked but still held by the
node, by the keeper, or by a reader, and looked at all the while.
"""

from __future__ import annotations

from bench import machine, readers
from bench.measure import Figure, at_most
from bench.objects import GIB, MIB
from bench.place import Place
from bench.watch import Watch

TITLE = "4 GiB through a cache of 1 GiB"
_RANDOM_READS = 2000


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(4 * GIB)
    limit = place.plan.size(GIB)
    ways: dict[str, tuple[str, list[int]]] = {
        "sequential": ("sequential_check", [wanted.seed]),
        f"{_RANDOM_READS} random reads": ("random_check", [wanted.seed, place.plan.count(_RANDOM_READS)]),
        "mapped": ("mapped_check", [wanted.seed]),
    }
    figures = []
    with place.headrace(cache_size=limit, memory=128 * MIB) as system:
        for name, (way, arguments) in ways.items():
            path = place.cold(system, wanted)
            pids = system.pids()
            with Watch(lambda pids=pids: machine.allocated(system.cache, pids), every=0.05) as watch:  # type: ignore[misc]
                found = readers.run(way, path, *arguments)
            figures += [
                Figure(f"{name}: wrong bytes", "", (0.0 if found.found is None else 1.0,), at_most(0)),
                Figure(f"{name}: largest size of the cache / limit", "", (watch.highest / limit,), at_most(1), worst=True),
            ]
    return figures

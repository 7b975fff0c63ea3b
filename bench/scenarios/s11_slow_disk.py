"""S11: S1 with the cache on a disk that takes a tenth of what the link brings.

The disk is a loop device whose writes the kernel throttles (control groups, version 1). What it cannot keep up with is to be
read past it.
"""

from __future__ import annotations

from bench import raw, readers
from bench.contest import RAW
from bench.measure import Figure, at_least
from bench.objects import BUCKET, GIB
from bench.place import Place
from bench.scenarios.s01_link import DELAY_SECONDS, RATE
from support.disk import disk

TITLE = "cache disk of a tenth of the link's rate / S1"
SLOW = "slow cache disk"
USUAL = "cache disk of S1"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    with (
        place.far_route(RATE, DELAY_SECONDS) as (route, _),
        disk(place.directory, "slow", 2 * wanted.size + GIB) as slow,
        place.headrace(route=route, settings={"HEADRACE_CACHE_DIR": str(slow.directory / "cache")}) as on_slow,
        place.headrace(route=route) as usual,
    ):

        def read(slowed: bool) -> float:
            system = on_slow if slowed else usual
            slow.limit_writes(0)  # what the last run left is written at once
            path = place.cold(system, wanted)
            slow.limit_writes(RATE // 8 // 10 if slowed else 0)
            return wanted.size / readers.dd(path, route.seat).seconds / 1e6

        def ceiling() -> float:
            place.settle(wanted)
            return wanted.size / raw.fetch(route, BUCKET, wanted.key, wanted.size) / 1e6

        try:
            rounds = place.repeats.compare({SLOW: lambda: read(True), USUAL: lambda: read(False), RAW: ceiling}, place.failed)
            place.check(place.cold(on_slow, wanted), wanted, route.seat)
        finally:
            slow.limit_writes(0)
    return [
        Figure(f"{SLOW} / {USUAL}", "", rounds.ratios(SLOW, USUAL), at_least(0.9)),
        *(Figure(name, "MB/s", values) for name, values in rounds.values.items()),
    ]

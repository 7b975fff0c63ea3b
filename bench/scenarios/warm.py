"""Reading a complete file again through the mount, against the same bytes in a file of the local disk.

Both lie in the page cache. `dd bs=1M` copies; the mapped readers touch: once all words are added up, as a program that
uses its weights does, and once a single byte of each page, which shows the cost of page faults alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import readers
from bench.measure import Figure, at_least, ratios
from bench.objects import GIB
from bench.place import Place

TITLE = "warm reads through the mount / the same file native"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    with place.headrace() as system:
        path = place.cold(system, wanted)
        place.check(path, wanted)
        system.wait_durable()
        readers.dd(wanted.native)  # both are in the page cache now

        def way(name: str, read: Callable[[Path], readers.Read], bounded: bool) -> list[Figure]:
            rates = place.repeats.in_turn([lambda: wanted.size / read(path).seconds / 1e6, lambda: wanted.size / read(wanted.native).seconds / 1e6])
            return [
                Figure(f"{name}, mount / native", "", ratios(rates), at_least(0.95) if bounded else None),
                Figure(f"{name}, mount", "MB/s", tuple(mount for mount, _ in rates)),
            ]

        return [
            *way("dd bs=1M", readers.dd, True),
            *way("mmap, sum of all bytes", lambda p: readers.run("mapped_sum", p), True),
            *way("mmap, one byte a page", lambda p: readers.run("mapped_touch", p), False),
        ]

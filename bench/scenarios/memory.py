"""Anonymous and shared memory of the node at its peak while it reads 4 GiB cold, looked at every 20 ms.

Pages of the cache files are the kernel's to drop and are not in it.
"""

from __future__ import annotations

from bench import machine, readers
from bench.measure import Figure, at_most
from bench.objects import GIB, MIB
from bench.place import Place
from bench.watch import Watch

TITLE = "peak memory of the node, cold"
BUDGET_MIB = 256


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(4 * GIB)
    figures = []
    with place.headrace(memory=BUDGET_MIB * MIB) as system:

        def peak(count: int) -> float:
            path = place.cold(system, wanted)
            pid = system.pid()
            with Watch(lambda: machine.memory(pid)) as watch:
                readers.dd_together(path, count)
            return watch.highest / MIB

        for count, name in ((1, "one reader"), (8, "eight readers")):
            peaks = place.repeats.times(lambda count=count: peak(count))  # type: ignore[misc]
            figures.append(Figure(f"{name}, budget {BUDGET_MIB} MiB", "MiB", tuple(peaks), at_most(300 + BUDGET_MIB), worst=True))
        place.check(system.directory / wanted.name, wanted)
    return figures

"""S9: CPU-seconds that a mount's processes take for a GB: cold, and warm.

Cold is counted in the contest of S2, unpinned. Warm, a kernel that reads the cache file itself leaves the mount nothing to
do, so what is compared is all that the second read takes, reader and mount together, with a reader of the native file.
"""

from __future__ import annotations

from bench import machine, readers
from bench.contest import OURS
from bench.measure import Figure, at_most, ratios
from bench.objects import GIB
from bench.place import Place
from bench.scenarios.s02_unlimited import unlimited

TITLE = "CPU-seconds per GB of the mount, cold and warm"


def run(place: Place) -> list[Figure]:
    gigabytes = place.objects.file(2 * GIB).size / 1e9
    counted = unlimited(place).cpu
    figures = [
        Figure(f"cold: {name}", "s/GB", tuple(each.total / gigabytes for each in values), at_most(0.75) if name == OURS else None)
        for name, values in counted.items()
        if values
    ]
    figures.append(Figure(f"cold: {OURS}, of it in the kernel", "s/GB", tuple(each.system / gigabytes for each in counted[OURS])))
    return figures + _warm(place)


def _warm(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    gigabytes = wanted.size / 1e9
    mounts: list[float] = []
    with place.headrace() as system:
        path = place.cold(system, wanted)
        place.check(path, wanted)
        system.wait_durable()
        readers.dd(wanted.native)  # both are in the page cache now
        pids = system.pids()

        def mounted() -> float:
            before = machine.cpu(*pids)
            reader = readers.dd(path).cpu_seconds
            mounts.append((machine.cpu(*pids) - before).total / gigabytes)
            return mounts[-1] + reader / gigabytes

        rounds = place.repeats.in_turn([mounted, lambda: readers.dd(wanted.native).cpu_seconds / gigabytes])
    return [
        # 1 is native; as S3, a twentieth is what repeated native reads differ by.
        Figure("warm: reader and mount / reader of the native file", "", ratios(rounds), at_most(1.05)),
        Figure(f"warm: {OURS}, the mount alone", "s/GB", tuple(mounts)),
        Figure("warm: reader and mount", "s/GB", tuple(both for both, _ in rounds)),
        Figure("warm: reader of the native file", "s/GB", tuple(native for _, native in rounds)),
    ]

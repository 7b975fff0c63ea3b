"""One cold sequential read with `dd bs=1M`, against a client that throws the bytes away. Not limited by any link.

The server, the node and the reader share this machine's cores, so CPU-seconds are what decides here. They are counted for
the node alone.
"""

from __future__ import annotations

from bench import machine, raw, readers
from bench.measure import Figure, ratios
from bench.objects import BUCKET, GIB
from bench.place import Place

TITLE = "cold sequential read / raw parallel ranged GETs"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    cpu: list[machine.Cpu] = []
    with place.headrace() as system:

        def mounted() -> float:
            path = place.cold(system, wanted)
            pid = system.pid()
            before = machine.cpu(pid)
            seconds = readers.dd(path).seconds
            cpu.append(machine.cpu(pid) - before)
            return wanted.size / seconds / 1e6

        def ceiling() -> float:
            place.settle(wanted)
            return wanted.size / raw.fetch(place.route, BUCKET, wanted.key, wanted.size) / 1e6

        rates = place.repeats.in_turn([mounted, ceiling])
        place.check(system.directory / wanted.name, wanted)
    gigabytes = wanted.size / 1e9
    return [
        Figure("cold dd / raw client", "", ratios(rates)),
        Figure("cold dd", "MB/s", tuple(mount for mount, _ in rates)),
        Figure("raw client", "MB/s", tuple(ceiling for _, ceiling in rates)),
        Figure("CPU of the node for a GB", "s", tuple(each.total / gigabytes for each in cpu)),
        Figure("… of it in the kernel", "s", tuple(each.system / gigabytes for each in cpu)),
    ]

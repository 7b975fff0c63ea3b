"""A file is read cold once, closed, and opened again: what the second read takes from the cache disk.

Once as soon as the file is settled (confirmed by the disk, and what came faster than the page cache takes it read back into memory),
and once, told beside, at once after a first read that nothing limits but the processors.

Counted for the two processes that could read the disk, the reader (passthrough) and the node, by the kernel's own accounts
of them; the disk's counters would show what neighbours read.
"""

from __future__ import annotations

from bench import machine, readers
from bench.measure import Figure, at_most
from bench.objects import GIB
from bench.place import Place

TITLE = "bytes read from the cache disk by a second read / bytes of the file"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    with place.headrace() as system:

        def second(settled: bool) -> float:
            path = place.cold(system, wanted)
            readers.dd(path)
            if settled:
                system.wait_durable()
            pid = system.pid()
            before = machine.disk_bytes_read(pid)
            again = readers.dd(path)
            return 100 * (again.disk_bytes + machine.disk_bytes_read(pid) - before) / wanted.size

        shares = place.repeats.times(lambda: second(settled=True))
        at_once = place.repeats.times(lambda: second(settled=False))
        place.check(system.directory / wanted.name, wanted)
    return [
        Figure("second read, of the file", "%", tuple(shares), at_most(1), worst=True),
        Figure("… at once after a first read at full speed", "%", tuple(at_once)),
    ]

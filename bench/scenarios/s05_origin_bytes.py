"""S5: body bytes that the server sent, against the bytes that readers asked for.

SeaweedFS counts them itself, for each bucket: what hedges and retries took is in it, listings are not. Readers in order read
all of a file; random ones 64 KiB anywhere; strided ones a quarter of each 8 MiB, as a rank of four reads its rows of every
tensor. What a mapping asks for is the kernel's choice, so there the bytes are compared with what reached the node.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import readers
from bench.measure import Figure, at_most
from bench.objects import BUCKET, GIB, MIB
from bench.place import Place
from bench.systems.headrace import Headrace

TITLE = "body bytes the server sent / bytes asked for"
PIECE = 64 << 10
PIECES = 500
TENSOR = 8 * MIB
SLICE = 2 * MIB
RANDOM = f"{PIECES} random reads of 64 KiB"
ONE, EIGHT, STRIDED = "one reader in order", "eight readers in order", "strided reads"
MAPPED = f"{PIECES} random 64 KiB of a mapping / what the kernel asked for"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    pieces = place.plan.count(PIECES)
    random_pieces = (pieces, PIECE, place.seed)
    with place.headrace() as system:

        def sent(read: Callable[[Path], object]) -> int:
            """Bytes that the server sent during a cold read."""
            path = place.cold(system, wanted)
            before = place.server.sent_bytes(BUCKET)
            read(path)
            return place.server.sent_bytes(BUCKET) - before

        def mapped() -> float:
            path = place.cold(system, wanted)
            before, asked = place.server.sent_bytes(BUCKET), _asked_by_kernel(system)
            readers.run("mapped_pieces", path, *random_pieces)
            return (place.server.sent_bytes(BUCKET) - before) / (_asked_by_kernel(system) - asked)

        runs: dict[str, Callable[[], float]] = {
            ONE: lambda: sent(readers.dd) / wanted.size,
            EIGHT: lambda: sent(lambda path: readers.dd_together(path, 8)) / wanted.size,
            RANDOM: lambda: sent(lambda path: readers.run("random_pieces", path, *random_pieces)) / (pieces * PIECE),
            STRIDED: lambda: sent(lambda path: readers.run("strided", path, SLICE, TENSOR)) / (wanted.size // TENSOR * SLICE),
            MAPPED: mapped,
        }
        rounds = place.repeats.compare(runs, place.failed)
        place.check(place.cold(system, wanted), wanted)
    worst = {ONE: 1.01, EIGHT: 1.01, RANDOM: 2.0, STRIDED: 1.1}
    return [Figure(name, "", values, at_most(worst[name]) if name in worst else None, worst=name in worst) for name, values in rounds.values.items()]


def _asked_by_kernel(system: Headrace) -> int:
    """Bytes of the reads that reached the node, through mounts that there are now."""
    return int(system.status()["counters"]["mount_read_bytes_total"])

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
from bench.place import BUCKET, GIB, MIB, Place

TITLE = "body bytes the server sent / bytes asked for"
PIECE = 64 << 10
PIECES = 500
TENSOR = 8 * MIB
SLICE = 2 * MIB
RANDOM = f"{PIECES} random reads of 64 KiB"
MAPPED = f"{PIECES} random 64 KiB of a mapping / what the kernel asked for"


def run(place: Place) -> list[Figure]:
    wanted = place.object(2 * GIB)
    pieces = place.plan.count(PIECES)
    random_pieces = (pieces, PIECE, place.seed)
    with place.headrace() as system:

        def cold(read: Callable[[Path], object], asked: Callable[[], int]) -> float:
            """Bytes sent during a read, to what was asked for by its end."""
            path = place.cold(system, wanted)
            sent, before = place.server.sent_bytes(BUCKET), asked()
            read(path)
            return (place.server.sent_bytes(BUCKET) - sent) / (asked() - before or asked())

        def by_kernel() -> int:
            return int(system.status()["counters"]["mount_read_bytes_total"])

        runs: dict[str, Callable[[], float]] = {
            "one reader in order": lambda: cold(lambda path: readers.dd(path), lambda: wanted.size),
            "eight readers in order": lambda: cold(lambda path: readers.dd_together(path, 8), lambda: wanted.size),
            RANDOM: lambda: cold(lambda path: readers.run("random_pieces", path, *random_pieces), lambda: pieces * PIECE),
            "strided reads": lambda: cold(lambda path: readers.run("strided", path, SLICE, TENSOR), lambda: wanted.size // TENSOR * SLICE),
            MAPPED: lambda: cold(lambda path: readers.run("mapped_pieces", path, *random_pieces), by_kernel),
        }
        rounds = place.repeats.compare(runs, place.failed)
        place.check(place.cold(system, wanted), wanted)
    worst = {"one reader in order": 1.01, "eight readers in order": 1.01, RANDOM: 2.0, "strided reads": 1.1}
    return [Figure(name, "", values, at_most(worst[name]) if name in worst else None, worst=name in worst) for name, values in rounds.values.items()]

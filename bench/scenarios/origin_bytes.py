"""Body bytes that the server sent during a cold sequential read, against the file's bytes.

SeaweedFS counts them itself, for each bucket: what hedges and retries took is in it, listings are not.
"""

from __future__ import annotations

from bench import readers
from bench.measure import Figure, at_most
from bench.objects import BUCKET, GIB
from bench.place import Place

TITLE = "body bytes the server sent / bytes of the file, cold"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    with place.headrace() as system:

        def sent(count: int) -> float:
            path = place.cold(system, wanted)
            before = place.server.sent_bytes(BUCKET)
            readers.dd_together(path, count)
            return (place.server.sent_bytes(BUCKET) - before) / wanted.size

        counted = place.repeats.in_turn([lambda: sent(1), lambda: sent(8)])
        place.check(system.directory / wanted.name, wanted)
    return [
        Figure("one reader", "", tuple(one for one, _ in counted), at_most(1.01), worst=True),
        Figure("eight readers of the same file", "", tuple(eight for _, eight in counted), at_most(1.01), worst=True),
    ]

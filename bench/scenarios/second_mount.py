"""A file is cached, the node ends, and another mounts the same prefix: what the server sends for reading it again."""

from __future__ import annotations

from bench import readers
from bench.measure import Figure, at_most
from bench.objects import BUCKET, GIB
from bench.place import Place

TITLE = "body bytes the server sends for a second mount by a new node"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    with place.headrace() as system:
        path = place.cold(system, wanted)
        readers.dd(path)

        def again() -> float:
            old = system.pid()
            system.stop()
            system.mount(wanted.source)
            if system.pid() == old:
                raise RuntimeError("the node is the old one")
            before = place.server.sent_bytes(BUCKET)
            readers.dd(path)
            return place.server.sent_bytes(BUCKET) - before

        sent = place.repeats.times(again)
        place.check(path, wanted)
    return [Figure("second mount", "bytes", tuple(sent), at_most(0), worst=True)]

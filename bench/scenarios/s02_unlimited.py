"""S2: the same file, cold and in order, limited by nothing but the machine's two processors.

Pinned: the server has one processor; mount and reader, or the client, have the other. Unpinned: all share both. The ceiling
is the best of the parallel clients that throw the bytes away, ours and s5cmd. The server is SeaweedFS; beside it nginx.
"""

from __future__ import annotations

from bench.contest import Contest, cold_sequential
from bench.measure import Figure
from bench.objects import GIB
from bench.place import Place
from bench.seats import Route, Seat

TITLE = "2 GiB sequential, cold, not limited / best raw parallel client"
SERVER_CORE = 0
PINNED = Seat(cores="1")


def run(place: Place) -> list[Figure]:
    with place.pinned(place.server, {SERVER_CORE}):
        pinned = _contest(place, Route(place.server, PINNED))
    unpinned = unlimited(place)
    place.record.draw("Cold read, 2 GiB in order\nnot limited, all on two processors / best raw parallel client", unpinned.shares())
    return [
        *pinned.figures("pinned", pinned.ceilings, 0.95),
        *unpinned.figures("unpinned", unpinned.ceilings, 0.7),
        *_by_nginx(place),
    ]


def _by_nginx(place: Place) -> list[Figure]:
    """Told beside: with a server that takes next to nothing, what is left is the client's own."""
    wanted = place.objects.file(2 * GIB)
    with place.nginx(wanted) as server:
        with place.pinned(server, {SERVER_CORE}), place.headrace(route=Route(server, PINNED)) as system:
            pinned = cold_sequential(place, wanted, Route(server, PINNED), [system], [])
        with place.headrace(route=Route(server)) as system:
            unpinned = cold_sequential(place, wanted, Route(server), [system], [])
    return [*pinned.figures("nginx, pinned", pinned.ceilings, None), *unpinned.figures("nginx, unpinned", unpinned.ceilings, None)]


def _contest(place: Place, route: Route) -> Contest:
    with place.systems(route) as systems:
        return cold_sequential(place, place.objects.file(2 * GIB), route, systems, place.clients())


def unlimited(place: Place) -> Contest:
    """The unpinned contest, which S9 counts in as well."""
    return place.once("unlimited", lambda: _contest(place, place.route))

"""Two lines of 1 Gbit/s to the server, used at once by binding connections to the addresses of both, against one of them.

The setting is HEADRACE_INTERFACES: source addresses, separated by commas.
"""

from __future__ import annotations

from bench import readers
from bench.link import GIGABIT
from bench.measure import Figure, at_least
from bench.objects import GIB
from bench.place import Place
from bench.scenarios.s01_link import DELAY_SECONDS

TITLE = "two links / one"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    with (
        place.far_route(GIGABIT, DELAY_SECONDS, lines=2) as (route, line),
        place.headrace(route=route, settings={"HEADRACE_INTERFACES": ",".join(line.addresses)}) as both,
        place.headrace(route=route, settings={"HEADRACE_INTERFACES": line.addresses[0]}) as one,
    ):

        def read(number: int) -> float:
            system = (one, both)[number]
            rate = wanted.size / readers.dd(place.cold(system, wanted, route), route.seat).seconds / 1e6
            place.leave(system)
            return rate

        rounds = place.repeats.compare({"two links": lambda: read(1), "one link": lambda: read(0)}, place.failed)
    return [
        Figure("two links / one", "", rounds.ratios("two links", "one link"), at_least(1.9)),
        *(Figure(name, "MB/s", values) for name, values in rounds.values.items()),
    ]

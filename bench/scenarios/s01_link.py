"""S1: a file of 2 GiB, read cold and in order through a link of 2 Gbit/s, every first byte 20 ms late.

The ceiling is a parallel client that throws the bytes away, through the same link and the same delay: it shows what the
link carries. Server and delay are on one side of the link, mount and reader on the other.
"""

from __future__ import annotations

from bench.contest import RAW, cold_sequential
from bench.link import GIGABIT
from bench.measure import Figure
from bench.objects import GIB
from bench.place import Place

TITLE = "2 GiB sequential, cold, 2 Gbit/s and 20 ms / the link"
RATE = 2 * GIGABIT
DELAY_SECONDS = 0.02


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    with place.far_route(RATE, DELAY_SECONDS) as (route, line), place.systems(route) as systems:
        contest = cold_sequential(place, wanted, route, systems, place.clients())
    place.record.draw("Cold read, 2 GiB in order\nlink of 2 Gbit/s, first bytes 20 ms late / raw parallel client", contest.shares())
    carried = tuple(rate * 8e6 / line.bits_per_second for rate in contest.rates.values[RAW])
    return [
        *contest.figures("cold", [RAW], 0.97),
        Figure("raw client / nominal rate of the link, which counts frames", "", carried),
    ]

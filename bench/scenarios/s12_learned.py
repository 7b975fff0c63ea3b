"""S12: a load that takes the parts of a file in an order of its own, 20 ms away: the second cold load against the first.

The first is by a Headrace that has never seen the file; before the second everything cached is dropped, and what was learned
stays. The same with a load in order, which nothing needs to be learned for.
"""

from __future__ import annotations

from pathlib import Path

from bench import readers
from bench.measure import Figure, Rounds, at_least
from bench.models import TENSOR
from bench.objects import GIB, MIB, Object
from bench.place import Place
from bench.seats import Route
from headrace.testing.delay import delayed

TITLE = "second cold load in a shuffled order, 20 ms away / the first"
DELAY_SECONDS = 0.02
NOISE = 0.03  # by which equal loads differ


def run(place: Place) -> list[Figure]:
    wanted = place.objects.model("shuffled", 2 * GIB).objects[0]
    with delayed(place.server, DELAY_SECONDS) as access:
        route = Route(access, server=place.server)
        shuffled = _rounds(place, route, wanted, ("shuffled", TENSOR, place.seed))
        in_order = _rounds(place, route, wanted, ("strided", MIB, MIB))
    return [
        *_figures("shuffled", shuffled, 1.3),
        *_figures("in order", in_order, 1.0 - NOISE),
    ]


def _rounds(place: Place, route: Route, wanted: Object, way: tuple[str, int, int]) -> Rounds:
    """MB/s of both loads, each round with a Headrace of its own."""
    firsts: list[float] = []

    def both() -> float:
        with place.headrace(route=route) as system:
            firsts.append(_load(place.cold(system, wanted, route), wanted, way))
            return _load(place.cold(system, wanted, route), wanted, way)

    seconds = tuple(place.repeats.times(both))
    return Rounds({"second": seconds, "first": tuple(firsts)})


def _load(path: Path, wanted: Object, way: tuple[str, int, int]) -> float:
    return wanted.size / readers.run(way[0], path, *way[1:]).seconds / 1e6


def _figures(what: str, rounds: Rounds, limit: float) -> list[Figure]:
    figures = [Figure(f"{what}: second cold load / first", "", rounds.ratios("second", "first"), at_least(limit))]
    return figures + [Figure(f"{what}: {name}", "MB/s", values) for name, values in rounds.values.items()]

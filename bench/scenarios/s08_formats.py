"""S8: a cold load of 2 GiB in two shards with `safetensors`, and of a GGUF of 2 GiB that four processes map and fault in.

Each against one read in order of the same system: through the link of S1, and not limited, as S2. Peers are told beside, not
limited, with `safetensors`.
"""

from __future__ import annotations

from collections.abc import Callable

from bench import readers
from bench.contest import OURS
from bench.measure import Figure, Rounds, at_least
from bench.objects import GIB, Tree
from bench.place import Place
from bench.scenarios.s01_link import DELAY_SECONDS, RATE
from bench.seats import Route

TITLE = "safetensors in 2 shards, GGUF by mmap of 4 processes, cold / sequential read"
SHARDS = "safetensors, 2 shards"
GGUF = "GGUF, mapped by 4 processes"
IN_ORDER = "dd"
RANKS = 4


def run(place: Place) -> list[Figure]:
    with place.far_route(RATE, DELAY_SECONDS) as (route, _):
        figures = _figures("link", _ours(place, route))
    return [*figures, *_figures("unlimited", _ours(place, place.route)), *_peers(place)]


def _ours(place: Place, route: Route) -> Rounds:
    shards, gguf = place.objects.model("shards", 2 * GIB, 2), place.objects.model("gguf.gguf", 2 * GIB)
    wanted = place.objects.file(2 * GIB)
    with place.headrace(route=route) as system:

        def loaded() -> float:
            path = place.cold_mount(system, shards)
            return shards.size / readers.run("loaded", path, seat=route.seat).seconds / 1e6

        def mapped() -> float:
            path = place.cold_mount(system, gguf) / gguf.objects[0].name
            return gguf.size / max(each.seconds for each in readers.ranks(path, RANKS, route.seat)) / 1e6

        def in_order() -> float:
            return wanted.size / readers.dd(place.cold(system, wanted), route.seat).seconds / 1e6

        return place.repeats.compare({SHARDS: loaded, GGUF: mapped, IN_ORDER: in_order}, place.failed)


def _figures(what: str, rounds: Rounds) -> list[Figure]:
    figures = [Figure(f"{what}: {way} / {IN_ORDER}", "", rounds.ratios(way, IN_ORDER), at_least(0.9)) for way in (SHARDS, GGUF)]
    return figures + [Figure(f"{what}: {way}", "MB/s", values) for way, values in rounds.values.items()]


def _peers(place: Place) -> list[Figure]:
    shards: Tree = place.objects.model("shards", 2 * GIB, 2)
    with place.systems() as systems:
        place.rehearse(systems, shards.source)

        def loaded(number: int) -> float:
            seconds = readers.run("loaded", place.cold_mount(systems[number], shards)).seconds
            place.leave(systems[number])
            return seconds

        runs: dict[str, Callable[[], float]] = {each.name: lambda number=number: loaded(number) for number, each in enumerate(systems)}  # type: ignore[misc]
        rounds = place.repeats.compare(runs, place.failed)
    return [Figure(f"{SHARDS}: {name}", "s", values) for name, values in rounds.values.items() if name != OURS or len(runs) > 1]

"""S10: 8 GiB cold through the link of S1 with budgets of 64 MiB, 256 MiB and 1 GiB.

The budget is for buffers: their peak is the node's own counter. What the processes of the mount grow by while they read, seen
from outside every 20 ms, is told beside and may exceed it by what threads and tables take.
"""

from __future__ import annotations

from collections.abc import Callable

from bench import machine, readers
from bench.measure import Figure, at_least, at_most
from bench.objects import GIB, MIB
from bench.place import Place
from bench.scenarios.s01_link import DELAY_SECONDS, RATE
from bench.seats import Route
from bench.watch import Watch

TITLE = "8 GiB with budgets of 64 MiB, 256 MiB and 1 GiB"
BUDGETS = (64, 256, 1024)
SMALL, USUAL = 64, 256  # that of S1


def run(place: Place) -> list[Figure]:
    buffers: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    grown: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    with place.far_route(RATE, DELAY_SECONDS) as (route, _):
        runs: dict[str, Callable[[], float]] = {
            str(budget): lambda budget=budget: _read(place, route, budget, buffers[budget], grown[budget])  # type: ignore[misc]
            for budget in BUDGETS
        }
        rounds = place.repeats.compare(runs, place.failed)
    figures = [Figure(f"rate with {SMALL} MiB / with {USUAL} MiB, as S1", "", rounds.ratios(str(SMALL), str(USUAL)), at_least(0.9))]
    for budget in BUDGETS:
        figures += [
            Figure(f"{budget} MiB: buffers at their peak / budget", "", tuple(buffers[budget]), at_most(1.0), worst=True),
            Figure(f"{budget} MiB: memory of the mount grows by", "MiB", tuple(grown[budget])),
            Figure(f"{budget} MiB: rate", "MB/s", rounds.values[str(budget)]),
        ]
    return figures


def _read(place: Place, route: Route, budget: int, buffers: list[float], grown: list[float]) -> float:
    """MB/s of a cold read by a node that was started for it."""
    wanted = place.objects.file(8 * GIB)
    with place.headrace(memory=budget * MIB, route=route) as system:
        path = place.cold(system, wanted)
        pids = system.pids()
        before = sum(map(machine.memory, pids))
        with Watch(lambda: sum(map(machine.memory, pids))) as watch:
            seconds = readers.dd(path, route.seat).seconds
        grown.append((watch.highest - before) / MIB)
        buffers.append(system.status()["counters"]["buffer_peak_bytes"] / (budget * MIB))
    return wanted.size / seconds / 1e6

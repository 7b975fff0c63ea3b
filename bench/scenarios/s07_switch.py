"""S7: a web interface switches between two models of 2 GiB, as it does: the first switch to a model hashes it (SHA-256), then
loads it (safetensors, every tensor); the next one loads.

Order: A first, B first, A again, B again. Through the link of S1, for what a first switch has to wait for is the origin: it is
compared with one read of it by the raw client. Second switches are compared with the same load from the local disk, both in
memory. This kernel has no NFS to compare with. What the mount itself takes is told of Headrace: CPU-seconds for the four
switches, memory at its peak, and disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench import machine, raw, readers
from bench.contest import OURS
from bench.measure import Figure, Rounds, at_most
from bench.objects import BUCKET, GIB, MIB
from bench.place import Place
from bench.scenarios.s01_link import DELAY_SECONDS, RATE
from bench.seats import HERE, Route
from bench.systems import System
from bench.systems.headrace import Headrace
from bench.watch import Watch

TITLE = "model switch: hash and load, then load / one origin read; local file"
ORIGIN = "one read of the origin"
LOCAL = "local file"


def run(place: Place) -> list[Figure]:
    models = (place.objects.model("switch/a", 2 * GIB), place.objects.model("switch/b", 2 * GIB))
    both = models[0] + models[1]
    told: dict[str, list[float]] = {"CPU of the mount": [], "memory of the mount at its peak": [], "disk of the cache": []}
    seconds: dict[str, list[float]] = {}  # of second switches, in the order of the rounds
    with place.far_route(RATE, DELAY_SECONDS) as (route, _), place.systems(route) as systems:
        place.rehearse(systems, both.source)

        def mounted(system: System) -> float:
            above = place.cold_mount(system, both)
            first, second = _switches(system, [above / Path(each.prefix).name for each in models], route, told)
            place.leave(system)
            seconds.setdefault(system.name, []).append(second)
            return first

        def local() -> float:
            first, second = (sum(_switch(place.native / each.prefix, kind) for each in models) / 2 for kind in ("first", "again"))
            seconds.setdefault(LOCAL, []).append(second)
            return first

        def origin() -> float:
            place.settle(both)
            return raw.fetch(route, BUCKET, models[0].objects[0].key, models[0].size)

        runs: dict[str, Callable[[], float]] = {each.name: lambda each=each: mounted(each) for each in systems}  # type: ignore[misc]
        firsts = place.repeats.compare({**runs, LOCAL: local, ORIGIN: origin}, place.failed)
    seconds_of = Rounds({name: tuple(seconds[name]) for name in firsts.values if name in seconds})
    return [*_figures(firsts, seconds_of), *(Figure(f"{OURS}: {name}", _UNITS[name], tuple(values)) for name, values in told.items())]


_UNITS = {"CPU of the mount": "s", "memory of the mount at its peak": "MiB", "disk of the cache": "GiB"}


def _switches(system: System, models: list[Path], route: Route, told: dict[str, list[float]]) -> tuple[float, float]:
    """Mean seconds of the first switches and of the second ones."""
    pids = system.pids()
    before = machine.cpu(*pids)
    with Watch(lambda: sum(map(machine.memory, pids))) as watch:
        first = sum(_switch(path, "first", route) for path in models) / 2
        if isinstance(system, Headrace):
            system.wait_durable()
        second = sum(_switch(path, "again", route) for path in models) / 2
    if isinstance(system, Headrace):
        told["CPU of the mount"].append((machine.cpu(*pids) - before).total)
        told["memory of the mount at its peak"].append(watch.highest / MIB)
        told["disk of the cache"].append(machine.allocated(system.cache, pids) / GIB)
    return first, second


def _switch(path: Path, kind: str, route: Route | None = None) -> float:
    return float(sum(readers.run("switched", path, kind, seat=route.seat if route else HERE).found))


def _figures(firsts: Rounds, seconds: Rounds) -> list[Figure]:
    figures = [
        Figure(f"first switch: {OURS} / {ORIGIN}", "", firsts.ratios(OURS, ORIGIN), at_most(1.1)),
        Figure(f"second switch: {OURS} / {LOCAL}", "", seconds.ratios(OURS, LOCAL), at_most(1.05)),
    ]
    figures += [Figure(f"first switch: {name}", "s", values) for name, values in firsts.values.items()]
    return figures + [Figure(f"second switch: {name}", "s", values) for name, values in seconds.values.items()]

"""Systems, clients and ceilings that take turns at the same cold read of one object, through the same route.

A system's turn is a new mount with an empty cache; when it has read, it is unmounted and its cache is dropped, so that
nothing of it (a disk that is written to, a process that looks around) falls into the next one's turn. Clients have no
mount: they read the object into memory. Ceilings throw it away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from bench import machine, raw, readers
from bench.measure import Figure, Rounds, at_least
from bench.objects import BUCKET, Object
from bench.place import Place
from bench.seats import Route
from bench.systems import Client, System

OURS = "headrace"
RAW = "raw client"
S5CMD = "s5cmd"


@dataclass
class Contest:
    """`rates` in MB/s; CPU-seconds of the processes of each mount, in the order of the rounds."""

    rates: Rounds
    cpu: dict[str, list[machine.Cpu]] = field(default_factory=dict)
    mounts: tuple[str, ...] = ()  # the peers', and those that read into memory
    clients: tuple[str, ...] = ()

    @property
    def ceilings(self) -> list[str]:
        return self.rates.among([RAW, S5CMD])

    def shares(self) -> dict[str, tuple[float, ...]]:
        """Of the ceiling, by everything that isn't one."""
        labels = {OURS: OURS} | {name: name for name in self.mounts} | {name: f"{name}, to memory" for name in self.clients}
        return {labels[name]: self.rates.ratios(name, *self.ceilings) for name in self.rates.among(labels)}

    def figures(self, what: str, ceiling: Iterable[str], limit: float | None) -> list[Figure]:
        """The bounds that every cold read has, and the rate of each who took part."""
        names = self.rates.among(ceiling)
        of = "best raw parallel client" if len(names) > 1 else names[0]
        figures = [Figure(f"{what}: {OURS} / {of}", "", self.rates.ratios(OURS, *names), None if limit is None else at_least(limit))]
        for kind, rivals in (("mounts", self.mounts), ("reads into memory", self.clients)):
            if best := self.rates.best(rivals):
                figures.append(Figure(f"{what}: {OURS} / best peer that {kind} ({best})", "", self.rates.ratios(OURS, best), at_least(1.0)))
        return figures + [Figure(f"{what}: {name}", "MB/s", values) for name, values in self.rates.values.items()]


def cold_sequential(place: Place, wanted: Object, route: Route, systems: list[System], clients: list[Client]) -> Contest:
    """`dd bs=1M` through each mount, each client's own way of reading all of it, and the ceilings."""
    place.rehearse(systems, wanted.source)
    cpu: dict[str, list[machine.Cpu]] = {system.name: [] for system in systems}

    def mounted(system: System) -> float:
        path = place.cold(system, wanted, route)
        pids = system.pids()
        before = machine.cpu(*pids)
        seconds = readers.dd(path, route.seat).seconds
        cpu[system.name].append(machine.cpu(*pids) - before)
        place.leave(system)
        return wanted.size / seconds / 1e6

    def settled(fetch: Callable[[], float]) -> float:
        place.settle(wanted, route)
        return wanted.size / fetch() / 1e6

    runs: dict[str, Callable[[], float]] = {system.name: lambda system=system: mounted(system) for system in systems}  # type: ignore[misc]
    runs[RAW] = lambda: settled(lambda: raw.fetch(route, BUCKET, wanted.key, wanted.size))
    for client in clients:
        runs[client.name] = lambda client=client: settled(lambda: client.read(route, BUCKET, wanted.key, wanted.size))  # type: ignore[misc]
    rates = place.repeats.compare(runs, place.failed)
    mounts = tuple(each.name for each in systems if each.name != OURS)
    others = tuple(each.name for each in clients if each.name != S5CMD)
    for system in systems:
        if system.name in rates.values:
            place.check(place.cold(system, wanted, route), wanted, route.seat)
            place.leave(system)
    return Contest(rates, cpu, mounts, others)

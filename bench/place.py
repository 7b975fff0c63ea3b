"""Where a run takes place: a directory, servers, prepared objects, and systems; all gone at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from bench import link, machine, raw, readers
from bench.measure import Repeats
from bench.objects import BUCKET, GIB, MIB, Object, Objects, Tree
from bench.plan import Plan
from bench.record import Record
from bench.seats import HERE, Route, Seat, pin
from bench.servers.nginx import Nginx, nginx
from bench.systems import Client, System, installed
from bench.systems.headrace import Headrace
from bench.systems.juicefs import Volume
from headrace.node import mountinfo
from headrace.testing.delay import delayed
from headrace.testing.seaweed import Seaweed, seaweed

T = TypeVar("T")

_FAILURE_TOLD = 400  # characters; the end says what it was
_CLAIMED_MOST = 12 * GIB  # or a file of 8 GiB would take more than there is


@dataclass
class Place:
    """Made by `place()`. Server and objects come when first asked for and are shared by the scenarios of a run."""

    directory: Path
    plan: Plan
    seed: int
    _stack: ExitStack
    record: Record = field(default_factory=Record)
    _made: dict[str, object] = field(default_factory=dict)
    _systems: int = 0
    _prepared: float = 0.0  # seconds

    @cached_property
    def server(self) -> Seaweed:
        return self._stack.enter_context(seaweed(BUCKET, directory=self.directory / "seaweed"))

    @property
    def native(self) -> Path:
        return self.directory / "native"

    @cached_property
    def objects(self) -> Objects:
        return Objects(self.native, self.plan, self.seed, lambda: self.server)

    @property
    def route(self) -> Route:
        """To the server without any link, wherever the kernel runs what."""
        return Route(self.server)

    @contextmanager
    def far_route(self, bits_per_second: int, delay_seconds: float, lines: int = 1) -> Iterator[tuple[Route, link.Link]]:
        """To the server through a link of that rate, each first byte late by the delay."""
        with link.link(bits_per_second, lines) as line, delayed(self.server, delay_seconds, host=line.server_address) as access:
            self.record.note(f"link: {line}; first byte {delay_seconds * 1e3:g} ms late")
            yield Route(access, Seat(namespace=line.namespace), self.server), line

    @property
    def repeats(self) -> Repeats:
        """Of the plan; preparing a run is no part of its length."""
        return replace(self.plan.repeats, clock=lambda: time.monotonic() - self._prepared)

    @contextmanager
    def _preparing(self) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._prepared += time.monotonic() - began

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What several scenarios of a run use and one of them measures."""
        if name not in self._made:
            self._made[name] = make()
        return cast(T, self._made[name])

    @contextmanager
    def headrace(
        self,
        *,
        cache_size: int = 16 * GIB,
        memory: int = 256 * MIB,
        route: Route | None = None,
        settings: dict[str, str] | None = None,
    ) -> Iterator[Headrace]:
        """A Headrace with an empty cache; it and its cache are gone afterwards. Settings are added to those of the bench."""
        with self.base("headrace") as base:
            system = Headrace(base, route or self.route, cache_size=cache_size, memory=memory, settings=settings or {})
            try:
                yield system
            finally:
                self.record.mount_options[system.name] = system.options
                self.record.configurations[system.name] = system.configuration
                system.stop()

    @contextmanager
    def base(self, name: str) -> Iterator[Path]:
        """A directory for a system; removed afterwards, but never through a mount that was left."""
        self._systems += 1
        base = self.directory / f"{name}-{self._systems}"
        try:
            yield base
        finally:
            for left in [each.directory for each in mountinfo.mounted() if each.directory.startswith(f"{base}/")]:
                subprocess.run(["umount", "--lazy", left], check=True)
            if base.exists():
                shutil.rmtree(base)

    def cold(self, system: System, wanted: Object, route: Route | None = None) -> Path:
        """The object's path in a new mount with an empty cache and a dropped page cache, the server's files read once."""
        return self.cold_mount(system, wanted, route) / wanted.name

    def cold_mount(self, system: System, wanted: Object | Tree, route: Route | None = None) -> Path:
        """As `cold`; the directory."""
        with self._preparing():
            system.forget()
            path = system.mount(wanted.source)
        self.settle(wanted, route)
        return path

    @contextmanager
    def systems(self, route: Route | None = None) -> Iterator[list[System]]:
        """Headrace and every peer that the plan wants and that is installed, not mounted yet."""
        with ExitStack() as stack:
            systems: list[System] = [stack.enter_context(self.headrace(route=route))]
            for name, (version, make) in self._peers.items():
                if self.plan.wants(name):
                    self.record.versions[name] = version
                    systems.append(stack.enter_context(self._peer(make, route or self.route)))
            yield systems

    @cached_property
    def _peers(self) -> dict[str, tuple[str, installed.Maker]]:
        return installed.mounts(Volume(self.directory / "juicefs", self.route, self.native))

    @contextmanager
    def _peer(self, make: installed.Maker, route: Route) -> Iterator[System]:
        with self.base("peer") as base:
            system = make(base, route)
            try:
                yield system
            finally:
                self.record.mount_options[system.name] = system.options
                self.record.configurations[system.name] = system.configuration.replace(str(self.directory), "RUN")
                system.stop()

    def clients(self) -> list[Client]:
        """Those that read without a mount, as the plan wants and where they are installed."""
        found: list[Client] = []
        for name, (version, client) in installed.clients().items():
            if self.plan.wants(name):
                self.record.versions[name] = version
                self.record.configurations[name] = client.configuration
                found.append(client)
        return found

    def rehearse(self, systems: list[System], source: str) -> None:
        """Each mounts once, untimed: what has to be prepared is, and who can't is out."""
        for system in list(systems):
            try:
                system.mount(source)
                system.forget()
            except (RuntimeError, OSError, subprocess.SubprocessError) as failure:
                self.failed(system.name, failure)
                systems.remove(system)

    def failed(self, name: str, failure: Exception) -> None:
        """A contestant that fails is out of the contest, and the results say so; ours has to work."""
        if name in (Headrace.name, "raw client"):
            raise failure
        self.record.note(f"{name} failed and is left out: …{str(failure)[-_FAILURE_TOLD:]}")

    @contextmanager
    def pinned(self, server: Seaweed | Nginx, cores: set[int]) -> Iterator[None]:
        """The server has these processors alone."""
        pids = machine.family(server.pid)
        for pid in pids:
            pin(pid, cores)
        try:
            yield
        finally:
            for pid in pids:
                pin(pid, set(range(os.cpu_count() or 1)))

    @contextmanager
    def nginx(self, *wanted: Object) -> Iterator[Nginx]:
        """Serves the native files of these objects."""
        prefixes = [each.key.rpartition("/")[0] for each in wanted]
        with self.base("nginx") as base, nginx(BUCKET, self.native, prefixes, base) as running:
            yield running

    def leave(self, system: System) -> None:
        """After a run: unmounted, and its cache is gone, before another's turn begins."""
        with self._preparing():
            system.forget()

    def check(self, path: Path, wanted: Object, seat: Seat = HERE) -> None:
        """Compares every byte; RuntimeError at the first wrong one."""
        wrong = readers.run("sequential_check", path, wanted.seed, seat=seat).found
        if wrong is not None:
            raise RuntimeError(f"{path}: byte {wrong} is wrong")

    def settle(self, wanted: Object | Tree, route: Route | None = None) -> None:
        """The state before every cold run, also of the ceilings: see the package's docstring. The route tells which server."""
        with self._preparing():
            machine.drop_caches()
            machine.claim_memory(min(2 * wanted.size + GIB, _CLAIMED_MOST))
            if isinstance(wanted, Tree):
                raw.fetch_many(self.route, wanted.signed)
            else:
                raw.fetch((route or self.route).near, BUCKET, wanted.key, wanted.size)


@contextmanager
def place(directory: Path, plan: Plan, seed: int) -> Iterator[Place]:
    """A place below `directory`, which must not exist yet and is removed afterwards."""
    directory.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            yield Place(directory, plan, seed, stack)
    finally:
        shutil.rmtree(directory)

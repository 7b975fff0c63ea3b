"""Where a run takes place: a directory, servers, prepared objects, and systems; all gone at the end."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

from bench import link, machine, models, raw, readers
from bench.clients import Obstore, RunAi, S5cmd
from bench.measure import Repeats
from bench.seats import HERE, Route, Seat, pin
from bench.servers.nginx import Nginx, nginx
from bench.systems import Client, System
from bench.systems.foreground import Foreground
from bench.systems.geesefs import Geesefs
from bench.systems.headrace import Headrace
from bench.systems.juicefs import JuiceFS, Volume
from bench.systems.mountpoint import Mountpoint
from bench.systems.rclone import Rclone
from bench.systems.s3fs import S3fs
from headrace.node import mountinfo
from headrace.testing.content import write_file
from headrace.testing.delay import delayed
from headrace.testing.seaweed import Seaweed, seaweed

T = TypeVar("T")

BUCKET = "bench"
GIB = 1 << 30
MIB = 1 << 20
_UPLOADS = 16  # at once
_IN_A_DIRECTORY = 100
_FAILURE_TOLD = 400  # characters; the end says what it was
_CLAIMED_MOST = 12 * GIB  # or a file of 8 GiB would take more than there is


@dataclass(frozen=True)
class Plan:
    """How large and how often: the sizes of a result, or an eighth and less for a look."""

    quick: bool = False
    peers: frozenset[str] | None = None  # names in small letters; None is all that are installed

    rounds: int | None = None  # in place of the usual number

    def wants(self, peer: str) -> bool:
        return self.peers is None or peer.lower() in self.peers

    @property
    def repeats(self) -> Repeats:
        if self.rounds is not None:
            return Repeats(self.rounds, self.rounds)
        return Repeats(3, 2) if self.quick else Repeats()

    def size(self, full: int) -> int:
        return full // 8 if self.quick else full

    def count(self, full: int) -> int:
        return full // 20 if self.quick else full


@dataclass(frozen=True)
class Object:
    """An object on the server: the bytes of content `seed`, or a model. `native` is a file with the same bytes."""

    key: str
    size: int
    seed: int
    native: Path

    @property
    def source(self) -> str:
        """What to mount."""
        return f"s3://{BUCKET}/{self.key.rpartition('/')[0]}"

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


@dataclass(frozen=True)
class Tree:
    """Many objects below one prefix, and their signed addresses at the server itself."""

    prefix: str
    objects: tuple[Object, ...]
    signed: tuple[str, ...]

    @property
    def source(self) -> str:
        return f"s3://{BUCKET}/{self.prefix}"

    @property
    def size(self) -> int:
        return sum(each.size for each in self.objects)

    def __add__(self, other: Tree) -> Tree:
        """Both, below the prefix that they share."""
        prefix = os.path.commonpath([self.prefix, other.prefix])
        return Tree(prefix, self.objects + other.objects, self.signed + other.signed)

    def path(self, below: Path, wanted: Object) -> Path:
        """Of an object, with the tree mounted on `below`."""
        return below / wanted.key.removeprefix(f"{self.prefix}/")


@dataclass
class Place:
    """Made by `place()`. Server and objects come when first asked for and are shared by the scenarios of a run.

    Native files lie below `native`, in the tree that their keys make.
    """

    directory: Path
    plan: Plan
    seed: int
    _stack: ExitStack
    mount_options: dict[str, str] = field(default_factory=dict)
    configurations: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    chart: dict[str, dict[str, float]] = field(default_factory=dict)  # by panel and system: see `bench.chart`
    notes: list[str] = field(default_factory=list)  # what a reader of the results has to know besides
    _objects: dict[str, Object] = field(default_factory=dict)
    _trees: dict[str, Tree] = field(default_factory=dict)
    _made: dict[str, object] = field(default_factory=dict)
    _systems: int = 0
    _prepared: float = 0.0  # seconds

    @cached_property
    def server(self) -> Seaweed:
        return self._stack.enter_context(seaweed(BUCKET, directory=self.directory / "seaweed"))

    @property
    def native(self) -> Path:
        return self.directory / "native"

    @property
    def route(self) -> Route:
        """To the server without any link, wherever the kernel runs what."""
        return Route(self.server)

    @contextmanager
    def far_route(self, bits_per_second: int, delay_seconds: float, lines: int = 1) -> Iterator[tuple[Route, link.Link]]:
        """To the server through a link of that rate, each first byte late by the delay."""
        with link.link(bits_per_second, lines) as line, delayed(self.server, delay_seconds, host=line.server_address) as access:
            self.note(f"link: {line}; first byte {delay_seconds * 1e3:g} ms late")
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

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def object(self, full_size: int) -> Object:
        """An object of this size (less in a quick run), with a native file beside it."""
        size = self.plan.size(full_size)
        return self._object(f"{size >> 20}-mib/weights.bin", size, self.seed)

    def tree(self, prefix: str, count: int, size: int) -> Tree:
        """Objects of one size below a prefix, a hundred in a directory, each with contents of its own."""
        if prefix not in self._trees:
            keys = [f"{prefix}/{number // _IN_A_DIRECTORY:03}/{number:06}.bin" for number in range(count)]
            with ThreadPoolExecutor(_UPLOADS) as uploads:
                made = list(uploads.map(lambda each: self._object(each[1], size, self.seed + each[0]), enumerate(keys)))
            self._trees[prefix] = Tree(prefix, tuple(made), tuple(raw.addresses(self.route, BUCKET, keys)))
        return self._trees[prefix]

    def model(self, name: str, full_size: int, shards: int = 1) -> Tree:
        """A model in safetensors, or in GGUF where the name ends in .gguf, of about this size in all (less in a quick run)."""
        if name not in self._trees:
            size = self.plan.size(full_size) // shards
            write = models.write_gguf if name.endswith(".gguf") else models.write_safetensors
            ending = "gguf" if name.endswith(".gguf") else "safetensors"
            keys = [f"{name}/model-{shard + 1:05}-of-{shards:05}.{ending}" for shard in range(shards)]
            made = [self._object(key, size, self.seed + number, write) for number, key in enumerate(keys)]
            self._trees[name] = Tree(name, tuple(made), tuple(raw.addresses(self.route, BUCKET, keys)))
        return self._trees[name]

    def _object(self, key: str, size: int, seed: int, write: Callable[[Path, int, int], None] = write_file) -> Object:
        if key not in self._objects:
            native = self.native / key
            native.parent.mkdir(parents=True, exist_ok=True)
            write(native, seed, size)
            with native.open("rb") as body:
                self._client.put_object(Bucket=BUCKET, Key=key, Body=body)
            self._objects[key] = Object(key, native.stat().st_size, seed, native)
        return self._objects[key]

    @cached_property
    def _client(self) -> Any:
        return self.server.client()

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
                self.mount_options[system.name] = system.options
                self.configurations[system.name] = system.configuration
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
                    self.versions[name] = version
                    systems.append(stack.enter_context(self._peer(make, route or self.route)))
            yield systems

    @cached_property
    def _peers(self) -> dict[str, tuple[str, Callable[[Path, Route], Foreground]]]:
        """Those installed: version, and how one is made."""
        volume = Volume(self.directory / "juicefs", self.route, self.native)
        kinds: dict[type[Foreground], Callable[[Path, Route], Foreground]] = {
            S3fs: S3fs,
            JuiceFS: lambda base, route: JuiceFS(base, route, volume),
            Rclone: Rclone,
            Geesefs: Geesefs,
            Mountpoint: Mountpoint,
        }
        return {kind.name: (found, make) for kind, make in kinds.items() if (found := kind.found())}

    @contextmanager
    def _peer(self, make: Callable[[Path, Route], Foreground], route: Route) -> Iterator[System]:
        with self.base("peer") as base:
            system = make(base, route)
            try:
                yield system
            finally:
                self.mount_options[system.name] = system.options
                self.configurations[system.name] = system.configuration.replace(str(self.directory), "RUN")
                system.stop()

    def clients(self) -> list[Client]:
        """Those that read without a mount, as the plan wants and where they are installed."""
        found: list[Client] = []
        for kind in (S5cmd, RunAi, Obstore):
            if self.plan.wants(kind.name) and (version := kind.found()):
                self.versions[kind.name] = version
                self.configurations[kind.name] = kind.configuration
                found.append(kind())
        return found

    def tell(self, about: dict[str, Any]) -> None:
        """What was gathered so far, for the results."""
        about["mount_options"] = self.mount_options
        about["configurations"] = self.configurations
        about["machine"]["versions"] |= self.versions
        about["notes"] = self.notes
        about["chart"] = self.chart

    def draw(self, panel: str, shares: Mapping[str, Sequence[float]]) -> None:
        """A panel of the chart: of each system, its shares of the ceiling."""
        self.chart[panel] = {name: statistics.median(values) for name, values in shares.items()}

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
        self.note(f"{name} failed and is left out: …{str(failure)[-_FAILURE_TOLD:]}")

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

"""Where a run takes place: a directory, a server, prepared objects, and systems; all gone at the end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine, raw, readers
from bench.measure import Repeats
from bench.systems.headrace import Headrace
from headrace.testing.content import write_file
from headrace.testing.seaweed import Seaweed, seaweed

BUCKET = "bench"
GIB = 1 << 30
MIB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """How large and how often: the sizes of a result, or an eighth and less for a look."""

    quick: bool = False

    @property
    def repeats(self) -> Repeats:
        return Repeats(3, 2) if self.quick else Repeats()

    def size(self, full: int) -> int:
        return full // 8 if self.quick else full

    def count(self, full: int) -> int:
        return full // 20 if self.quick else full


@dataclass(frozen=True)
class Object:
    """An object on the server: the bytes of content `seed`. `native` is a file with the same bytes."""

    key: str
    size: int
    seed: int
    native: Path

    @property
    def source(self) -> str:
        """What to mount; the object is the only file in it."""
        return f"s3://{BUCKET}/{self.key.rpartition('/')[0]}"

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


@dataclass
class Place:
    """Made by `place()`. Server and objects come when first asked for and are shared by the scenarios of a run."""

    directory: Path
    plan: Plan
    seed: int
    _stack: ExitStack
    _server: Seaweed | None = None
    _objects: dict[int, Object] = field(default_factory=dict)
    mount_options: dict[str, str] = field(default_factory=dict)
    _systems: int = 0

    @property
    def server(self) -> Seaweed:
        if self._server is None:
            self._server = self._stack.enter_context(seaweed(BUCKET, directory=self.directory / "seaweed"))
        return self._server

    def object(self, full_size: int) -> Object:
        """An object of this size (less in a quick run), with a native file beside it."""
        size = self.plan.size(full_size)
        if size not in self._objects:
            key = f"{size >> 20}-mib/weights.bin"
            found = Object(key, size, self.seed, self.directory / f"native-{size >> 20}-mib.bin")
            write_file(found.native, found.seed, size)
            self.server.put(BUCKET, key, found.native)
            self._objects[size] = found
        return self._objects[size]

    @contextmanager
    def headrace(
        self,
        *,
        cache_size: int = 16 * GIB,
        memory: int = 256 * MIB,
        access: dict[str, str] | None = None,
    ) -> Iterator[Headrace]:
        """A Headrace with an empty cache; it and its cache are gone afterwards."""
        self._systems += 1
        base = self.directory / f"headrace-{self._systems}"
        system = Headrace(base, access or self.server.environment(), cache_size=cache_size, memory=memory)
        try:
            yield system
        finally:
            self.mount_options[system.name] = system.options
            system.stop()
            shutil.rmtree(base)

    def cold(self, system: Headrace, wanted: Object) -> Path:
        """The object's path in a new mount with an empty cache and a dropped page cache, the server's files read once."""
        if system.pids():
            if system.directory.is_mount():
                system.unmount()
            system.forget()
        path = system.mount(wanted.source) / wanted.name
        self.settle(wanted)
        return path

    def check(self, path: Path, wanted: Object) -> None:
        """Compares every byte; RuntimeError at the first wrong one."""
        wrong = readers.run("sequential_check", path, wanted.seed).found
        if wrong is not None:
            raise RuntimeError(f"{path}: byte {wrong} is wrong")

    def settle(self, wanted: Object) -> None:
        """The state before every cold run, also of the ceilings: see the package's docstring."""
        machine.drop_caches()
        machine.claim_memory(2 * wanted.size + GIB)
        raw.fetch(self.server, BUCKET, wanted.key, wanted.size)


@contextmanager
def place(directory: Path, plan: Plan, seed: int) -> Iterator[Place]:
    """A place below `directory`, which must not exist yet and is removed afterwards."""
    directory.mkdir(parents=True)
    try:
        with ExitStack() as stack:
            yield Place(directory, plan, seed, stack)
    finally:
        shutil.rmtree(directory)

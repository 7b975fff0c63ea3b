"""Operations in any order, each checked against the truth.

Hypothesis draws the sequences. A failing one is made as short as it can be, and printed as a program.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import headrace
from campaign.model import ways
from campaign.model.handles import HELD, KINDS, Handle, Mounted, Read, opened
from campaign.model.truth import Object, Snapshot, Truth, directories
from campaign.model.world import World
from headrace.errors import HeadraceError
from headrace.testing.store import Body
from support.headrace import wait_until

MIB = 1 << 20
NAMES = ["a", "b", "d/a", "d/e/b", "d/c"]
SIZES = [0, 1, 4095, 4097, 65_537, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5]
LENGTHS = [1, 4096, 65_536, 1_000_003]
HANDLES_MAX = 12
# Of a sequence: many in a row take seconds each, and are what the trial `kills` is for.
KILLS_MAX = 10
RESTARTS_MAX = 2
VICTIMS = ["pid", "keeper_pid", "pid"]
AGAIN = 2  # of what is open, read again after each operation
FAULTS = [0.4, 0.6, 0.2, 0.0]  # shares of ranged GETs
# What a version that the bucket no longer has may answer where it isn't held; the kernel shows page faults and some reads as EIO.
GONE = (errno.ESTALE, errno.EIO)

names = st.sampled_from(NAMES)
which = st.integers(0, HANDLES_MAX - 1)
reads = st.builds(Read, which, st.floats(0, 1, allow_nan=False), st.sampled_from(LENGTHS), st.integers(0, 3))
some_reads = st.lists(reads, min_size=1, max_size=4)


class Machine(RuleBasedStateMachine):
    """Subclasses say which `world` they are in."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.truth = Truth()
        self.bucket = self.world.bucket()
        self.handles: list[Handle] = []
        self.mounts: list[Mounted] = []
        self.turn = self.kills = self.restarts = 0

    # What happens in the bucket

    @initialize(sizes=st.lists(st.sampled_from(SIZES), min_size=2, max_size=4), rate=st.sampled_from(FAULTS))
    def begin(self, sizes: list[int], rate: float) -> None:
        """Some files, each of them held open."""
        for name, size in zip(NAMES, sizes, strict=False):
            self.change(name, size)
        self.world.origin.faults.rate = rate
        self._mount("mnt")
        for number, name in enumerate(sorted(self.truth.bucket)):
            self.open(0, name, KINDS[(number + 1) % len(KINDS)])

    @rule(name=names, size=st.sampled_from([*SIZES, None]))
    def change(self, name: str, size: int | None) -> None:
        """An object is put, or deleted: all but the last one."""
        if size is None:
            self._note("delete")
            if len(self.truth.bucket) > 1 and name in self.truth.bucket:
                del self.truth.bucket[name]
                self.world.origin.bucket(self.bucket).delete(f"m/{name}")
            return
        self._note("put")
        version = Object(self.world.version(), size)
        self.world.origin.bucket(self.bucket).put(f"m/{name}", Body(size, seed=version.number))
        self.truth.bucket[name] = version

    @rule(rate=st.sampled_from(FAULTS))
    def faults(self, rate: float) -> None:
        self._note("faults")
        self.world.origin.faults.rate = rate

    # What people ask for, while programs read

    @rule(index=which, beside=some_reads)
    def refresh(self, index: int, beside: list[Read]) -> None:
        self._note("refresh")
        mount = self._mount_of(index)
        with self._reading(beside, self.handles):
            mount.snapshot = self.world.call("refresh", directory=str(mount.directory))["snapshot"]
            self.truth.listed(mount.snapshot)

    @rule(index=which, held=which, beside=some_reads)
    def rollback(self, index: int, held: int, beside: list[Read]) -> None:
        self._note("rollback")
        mount = self._mount_of(index)
        wanted = self._held(held)
        with self._reading(beside, self.handles):
            self.world.call("rollback", directory=str(mount.directory), snapshot=wanted)
            mount.snapshot = wanted

    @rule(held=which)
    def second_mount(self, held: int) -> None:
        """Comes, or goes."""
        if len(self.mounts) == 1:
            self._note("mount beside")
            self._mount("beside", "--snapshot", self._held(held))
        else:
            self._note("umount")
            self._umount(self.mounts[1])

    @rule(index=which, name=names, everything=st.booleans(), beside=some_reads)
    def evict(self, index: int, name: str, everything: bool, beside: list[Read]) -> None:
        self._note("evict")
        mount = self._mount_of(index)
        with self._reading(beside, self.handles):
            if everything:
                self.world.call("cache.evict", paths=[], all=True)
            elif name in self._shown(mount):
                self.world.call("cache.evict", paths=[str(mount.directory / name)])

    @rule(index=which, what=st.sampled_from(["warm", "pin", "let go"]))
    def keep(self, index: int, what: str) -> None:
        """Brings everything into the cache, or says that it shall stay there, or may go."""
        self._note(what)
        mount = self._mount_of(index)
        if what != "warm":
            self.world.call("cache.pin", paths=[str(mount.directory)], pinned=what == "pin")
            return
        try:
            self.world.call("warm", paths=[str(mount.directory)])
        except HeadraceError as error:
            assert not self.truth.whole(mount.snapshot), f"warm failed though the bucket has everything: {error}"

    # What goes wrong on the machine

    @precondition(lambda self: self.kills < KILLS_MAX)
    @rule(victim=st.sampled_from(VICTIMS))
    def end(self, victim: str) -> None:
        """Kills a process that answers nobody at the moment."""
        self._kill(victim)

    @precondition(lambda self: self.kills < KILLS_MAX)
    @rule(victim=st.sampled_from(VICTIMS), index=which, waiting=some_reads)
    def kill(self, victim: str, index: int, waiting: list[Read]) -> None:
        """Kills a process while programs wait for bytes that are nowhere but in the bucket, which holds them back."""
        self.world.call("cache.evict", paths=[], all=True)
        mount = self._mount_of(index)
        with ExitStack() as cold, ExitStack() as held:
            # Opened before: the kernel lets an open wait for what it reads ahead of the last program, and we would wait for ourselves.
            fresh = [handle for each in sorted(self._shown(mount)) if (handle := self._opened(mount, each, KINDS[index % 3]))]
            for handle in fresh:
                cold.callback(handle.close)
            held.enter_context(self.world.origin.holding())
            with self._reading(waiting, fresh + self.handles) as processes:
                unanswered = self._all_wait(processes)
                self._kill(victim)
                self.world.unanswered += unanswered
                held.close()

    def _kill(self, victim: str) -> None:
        self.kills += 1
        self._note("kill of the node" if victim == "pid" else "kill of the keeper")
        self.world.kill(victim)

    @precondition(lambda self: self.restarts < RESTARTS_MAX)
    @rule()
    def restart(self) -> None:
        """Everything ends in good order, and another node adopts the cache."""
        self.restarts += 1
        self._note("restart")
        for mount in reversed(list(self.mounts)):
            self._umount(mount)
        self.world.end()
        self._mount("mnt", *(["--snapshot", "current"] if self.turn % 2 else []))

    # What programs do

    @precondition(lambda self: len(self.handles) < HANDLES_MAX)
    @rule(index=which, name=names, kind=st.sampled_from(KINDS))
    def open(self, index: int, name: str, kind: str) -> None:
        self._note("open")
        if handle := self._opened(self._mount_of(index), name, kind):
            self.handles.append(handle)

    @precondition(lambda self: len(self.handles) > 1)
    @rule(index=which)
    def close(self, index: int) -> None:
        self._note("close")
        self.handles.pop(index % len(self.handles)).close()

    @precondition(lambda self: self.handles)
    @rule(wanted=some_reads)
    def read(self, wanted: list[Read]) -> None:
        self._note("read")
        for each in wanted:
            self._read(self.handles[each.index % len(self.handles)], each)

    @precondition(lambda self: self.handles)
    @rule(wanted=some_reads)
    def read_cold(self, wanted: list[Read]) -> None:
        """What neither the cache nor the kernel has."""
        self._note("read cold")
        self.world.call("cache.evict", paths=[], all=True)
        for each in wanted:
            handle = self.handles[each.index % len(self.handles)]
            handle.forget()
            self._read(handle, each)

    @rule(index=which, name=names)
    def read_whole(self, index: int, name: str) -> None:
        """As most programs do: open, read to the end, close."""
        self._note("read whole")
        self._read_whole(self._mount_of(index), name)

    @rule(name=names)
    def read_through_python(self, name: str) -> None:
        """The Python door lists for itself, and so sees what is in the bucket now."""
        self._note("read through Python")
        version = self.truth.bucket.get(name)
        if version is None:
            return
        with headrace.open(f"s3://{self.bucket}/m/{name}") as file:
            # It lists the directory of the file: this one is the mounts' own, which may then be rolled back to what was listed.
            if "/" not in name:
                self.truth.listed(self._versions()["current"])
            self._judge("headrace.open", name, version, 0, version.size + 1, file.read)

    @rule(index=which)
    def walk(self, index: int) -> None:
        self._note("walk")
        mount = self._mount_of(index)
        shown = self._shown(mount)
        found: dict[str, int] = {}
        folders: set[str] = set()
        for folder, below, files in os.walk(mount.directory):
            here = os.path.relpath(folder, mount.directory)
            folders |= {os.path.normpath(f"{here}/{name}") for name in below}
            found |= {os.path.normpath(f"{here}/{name}"): os.stat(f"{folder}/{name}").st_size for name in files}
        assert found == {name: version.size for name, version in shown.items()}
        assert folders == directories(shown)

    @invariant()
    def what_is_open_stays_what_it_is(self) -> None:
        """After every operation some of what is open is read again, with and without what the kernel keeps, and something newly opened."""
        self.turn += 1
        chance = random.Random(self.turn)
        mapped = [handle for handle in self.handles if handle.view]
        for handle in chance.sample(self.handles, min(AGAIN, len(self.handles))) + chance.sample(mapped, min(1, len(mapped))):
            if chance.random() < 0.5:
                handle.forget()
            way = handle.ways.index(HELD) if handle.view and chance.random() < 0.7 else chance.randrange(len(handle.ways))
            self._read(handle, Read(0, chance.random(), chance.choice(LENGTHS), way))
        for mount in self.mounts:
            self._read_whole(mount, chance.choice(NAMES))

    # The end of a sequence

    def teardown(self) -> None:
        """Until it is closed, a descriptor shows the version it was opened with; the next sequence finds nothing mounted."""
        self.world.origin.faults.rate = 0.0
        try:
            for handle in self.handles:
                for way in range(len(handle.ways)):
                    self._read(handle, Read(0, 0, 70_000, way))
        finally:
            for mount in reversed(list(self.mounts)):
                self._umount(mount)
            if self.world.headrace.processes():
                self.world.call("cache.evict", paths=[], all=True)

    # How it is done, and judged

    def _opened(self, mount: Mounted, name: str, kind: str) -> Handle | None:
        """A file, newly opened; None where it is not there, or gone from the bucket."""
        expected = self._shown(mount).get(name)
        try:
            handle = opened(mount, name, expected or Object(0, 0), kind)
        except FileNotFoundError:
            assert expected is None, f"{name} is not there"
            return None
        except OSError as error:
            assert expected is not None
            assert self._may_be_gone(name, expected, error), f"open({name}): {error!r}"
            return None
        assert expected is not None, f"{name} is there"
        assert os.fstat(handle.descriptor).st_size == expected.size
        return handle

    @contextmanager
    def _reading(self, wanted: list[Read], handles: list[Handle]) -> Iterator[list[ways.Apart]]:
        """Programs that read meanwhile, each in a process of its own; at the end each is judged."""
        chosen = [(handles[each.index % len(handles)], each) for each in wanted] if handles else []
        with ExitStack() as ends:
            begun = []
            for handle, each in chosen:
                handle.forget()
                process = ways.Apart(handle.call(*each.of(handle)), handle.descriptor)
                begun.append(ends.enter_context(process))
            yield begun
            for (handle, each), process in zip(chosen, begun, strict=True):
                way, offset, length = each.of(handle)
                self._judge(way, handle.name, handle.version, offset, length, process.result)

    def _all_wait(self, processes: list[ways.Apart]) -> int:
        """Waits until each of them has ended or waits for an answer; gives the reads that the node has taken, and not answered."""

        def taken() -> tuple[int] | None:
            if any(process.runs() for process in processes):
                return None
            waiting = self.world.waiting()
            return (waiting,) if waiting or not any(process.stands() for process in processes) else None

        return int(wait_until("every read waits", taken)[0])

    def _read_whole(self, mount: Mounted, name: str) -> None:
        version = self._shown(mount).get(name)
        if version is not None:
            self._judge("whole", name, version, 0, version.size + 1, (mount.directory / name).read_bytes)

    def _read(self, handle: Handle, read: Read) -> None:
        way, offset, length = read.of(handle)
        self._judge(way, handle.name, handle.version, offset, length, lambda: handle.read(way, offset, length))

    def _judge(self, way: str, name: str, version: Object, offset: int, length: int, read: Callable[[], bytes]) -> None:
        """A read gives the bytes of its version. It may fail only when the bucket no longer has that, and then after right bytes."""
        expected = version.data[offset : offset + length]
        try:
            data = read()
        except OSError as error:
            assert self._may_be_gone(name, version, error), f"{name} at {offset}, {way}: {error!r}\n{self.world.told()}"
            if isinstance(error, ways.Partial):
                assert expected.startswith(error.data), f"{name} at {offset}, {way}: wrong bytes before an error"
            self.world.compared["gone"] += 1
            return
        assert len(data) == len(expected), f"{name} at {offset}, {way}: {len(data)} bytes instead of {len(expected)}"
        assert data == expected, f"{name}: wrong bytes from {offset + _first_difference(data, expected)}, {way}"
        self.world.compared[way] += 1

    def _may_be_gone(self, name: str, version: Object, error: OSError) -> bool:
        return error.errno in GONE and self.truth.stale(name, version)

    def _shown(self, mount: Mounted) -> Snapshot:
        return self.truth.snapshots[mount.snapshot]

    def _mount_of(self, index: int) -> Mounted:
        return self.mounts[index % len(self.mounts)]

    def _versions(self) -> Any:
        return self.world.call("snapshots", directory=str(self.mounts[0].directory))

    def _held(self, index: int) -> str:
        versions = self._versions()["versions"]
        return str(versions[index % len(versions)]["id"])

    def _mount(self, name: str, *options: str) -> None:
        directory = self.world.headrace.mount(f"s3://{self.bucket}/m", name, *options)
        mounts = self.world.call("ping")["mounts"]
        snapshot = next(m["snapshot"] for m in mounts if m["directory"] == str(directory))
        if not options:
            self.truth.listed(snapshot)
        self.mounts.append(Mounted(directory, snapshot))

    def _umount(self, mount: Mounted) -> None:
        for handle in [h for h in self.handles if h.mount is mount]:
            self.handles.remove(handle)
            handle.close()
        self.world.call("umount", directory=str(mount.directory))
        self.mounts.remove(mount)

    def _note(self, what: str) -> None:
        self.world.done[what] += 1


def _first_difference(data: bytes, expected: bytes) -> int:
    return next(at for at, (one, other) in enumerate(zip(data, expected, strict=True)) if one != other)

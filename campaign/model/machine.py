"""Operations in any order, each checked against the truth.

Hypothesis draws the sequences. A failing one is made as short as it can be, and printed as a program.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import headrace
from campaign.model import ways
from campaign.model.truth import Object, Snapshot, Truth, directories
from campaign.model.world import World
from headrace.errors import HeadraceError
from headrace.testing.store import Body

MIB = 1 << 20
NAMES = ["a", "b", "d/a", "d/e/b", "d/c"]
SIZES = [0, 1, 4095, 4097, 65_537, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5]
LENGTHS = [1, 4096, 65_536, 1_000_003]
HANDLES_MAX = 12
# What a version that the bucket no longer has may answer where it isn't held; the kernel shows page faults and some reads as EIO.
GONE = (errno.ESTALE, errno.EIO)

names = st.sampled_from(NAMES)
which = st.integers(0, HANDLES_MAX - 1)
places = st.floats(0, 1, allow_nan=False)
WAYS: dict[str, Callable[[int, int, int], bytes]] = {"pread": ways.pread, "send": ways.send, "mapped": ways.mapped}
DIRECT_WAYS = {**WAYS, "pread": ways.direct, "send": ways.send_direct}


@dataclass
class Mounted:
    directory: Path
    snapshot: str


@dataclass
class Handle:
    """A descriptor, and the version it must show for as long as it is open."""

    mount: Mounted
    descriptor: int
    name: str
    version: Object
    direct: bool


class Machine(RuleBasedStateMachine):
    """Subclasses say which `world` they are in."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        self.truth = Truth()
        self.bucket = self.world.bucket()
        self.handles: list[Handle] = []
        self.mounts: list[Mounted] = []

    # What happens in the bucket

    @initialize(sizes=st.lists(st.sampled_from(SIZES), min_size=2, max_size=4))
    def begin(self, sizes: list[int]) -> None:
        for name, size in zip(NAMES, sizes, strict=False):
            self.put(name, size)
        self._mount("mnt")

    @rule(name=names, size=st.sampled_from(SIZES))
    def put(self, name: str, size: int) -> None:
        self._note("put")
        version = Object(self.world.version(), size)
        self.world.origin.bucket(self.bucket).put(f"m/{name}", Body(size, seed=version.number))
        self.truth.bucket[name] = version

    @precondition(lambda self: len(self.truth.bucket) > 1)
    @rule(index=which)
    def delete(self, index: int) -> None:
        self._note("delete")
        name = sorted(self.truth.bucket)[index % len(self.truth.bucket)]
        self.world.origin.bucket(self.bucket).delete(f"m/{name}")
        del self.truth.bucket[name]

    @rule(rate=st.sampled_from([0.0, 0.0, 0.3]))
    def faults(self, rate: float) -> None:
        self._note("faults")
        self.world.origin.faults.rate = rate

    # What people ask for

    @rule(index=which)
    def refresh(self, index: int) -> None:
        self._note("refresh")
        mount = self._mount_of(index)
        mount.snapshot = self.world.call("refresh", directory=str(mount.directory))["snapshot"]
        self.truth.listed(mount.snapshot)

    @rule(index=which, held=which)
    def rollback(self, index: int, held: int) -> None:
        self._note("rollback")
        mount = self._mount_of(index)
        wanted = self._held(held)
        self.world.call("rollback", directory=str(mount.directory), snapshot=wanted)
        mount.snapshot = wanted

    @precondition(lambda self: len(self.mounts) == 1)
    @rule(held=which)
    def mount_beside(self, held: int) -> None:
        self._note("mount beside")
        self._mount("beside", "--snapshot", self._held(held))

    @precondition(lambda self: len(self.mounts) == 2)
    @rule()
    def umount_beside(self) -> None:
        self._note("umount")
        self._umount(self.mounts[1])

    @rule(index=which)
    def warm(self, index: int) -> None:
        self._note("warm")
        mount = self._mount_of(index)
        try:
            self.world.call("warm", paths=[str(mount.directory)])
        except HeadraceError as error:
            assert not self.truth.whole(mount.snapshot), f"warm failed though the bucket has everything: {error}"

    @rule(index=which, name=names, everything=st.booleans())
    def evict(self, index: int, name: str, everything: bool) -> None:
        self._note("evict")
        mount = self._mount_of(index)
        if everything:
            self.world.call("cache.evict", paths=[], all=True)
        elif name in self._shown(mount):
            self.world.call("cache.evict", paths=[str(mount.directory / name)])

    @rule(index=which, pinned=st.booleans())
    def pin(self, index: int, pinned: bool) -> None:
        self._note("pin")
        self.world.call("cache.pin", paths=[str(self._mount_of(index).directory)], pinned=pinned)

    # What goes wrong on the machine

    @rule(victim=st.sampled_from(["pid", "keeper_pid"]))
    def kill(self, victim: str) -> None:
        self._note("kill of the node" if victim == "pid" else "kill of the keeper")
        self.world.kill(victim)

    @rule(current=st.booleans())
    def restart(self, current: bool) -> None:
        """Everything ends in good order; another node adopts the cache."""
        self._note("restart")
        for mount in reversed(list(self.mounts)):
            self._umount(mount)
        self.world.end()
        self._mount("mnt", *(["--snapshot", "current"] if current else []))

    # What programs do

    @precondition(lambda self: len(self.handles) < HANDLES_MAX)
    @rule(index=which, name=names, direct=st.sampled_from([False, False, True]))
    def open(self, index: int, name: str, direct: bool) -> None:
        self._note("open")
        mount = self._mount_of(index)
        expected = self._shown(mount).get(name)
        try:
            descriptor = os.open(mount.directory / name, os.O_RDONLY | (os.O_DIRECT if direct else 0))
        except FileNotFoundError:
            assert expected is None, f"{name} is not there"
            return
        except OSError as error:
            assert expected is not None
            assert self._may_be_gone(name, expected, error), f"open({name}): {error!r}"
            return
        assert expected is not None, f"{name} is there"
        self.handles.append(Handle(mount, descriptor, name, expected, direct))
        assert os.fstat(descriptor).st_size == expected.size

    @precondition(lambda self: self.handles)
    @rule(index=which)
    def close(self, index: int) -> None:
        self._note("close")
        os.close(self.handles.pop(index % len(self.handles)).descriptor)

    @precondition(lambda self: self.handles)
    @rule(index=which, place=places, length=st.sampled_from(LENGTHS), way=st.sampled_from(sorted(WAYS)))
    def read(self, index: int, place: float, length: int, way: str) -> None:
        self._note(f"read: {way}")
        handle = self.handles[index % len(self.handles)]
        read = (DIRECT_WAYS if handle.direct else WAYS)[way]
        offset = int(place * handle.version.size)
        self._judge(handle.name, handle.version, offset, length, lambda: read(handle.descriptor, offset, length))

    @rule(index=which, name=names)
    def read_whole(self, index: int, name: str) -> None:
        """As most programs do: open, read to the end, close."""
        self._note("read whole")
        mount = self._mount_of(index)
        version = self._shown(mount).get(name)
        if version is not None:
            self._judge(name, version, 0, version.size + 1, (mount.directory / name).read_bytes)

    @rule(name=names)
    def read_through_python(self, name: str) -> None:
        """The Python door lists for itself, and so sees what is in the bucket now."""
        self._note("read: headrace.open")
        version = self.truth.bucket.get(name)
        if version is None:
            return
        with headrace.open(f"s3://{self.bucket}/m/{name}") as file:
            # It lists the directory of the file: this one is the mounts' own, which may then be rolled back to what was listed.
            if "/" not in name:
                self.truth.listed(self._versions()["current"])
            self._judge(name, version, 0, version.size + 1, file.read)

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

    # The end of a sequence

    def teardown(self) -> None:
        self.world.origin.faults.rate = 0.0
        for handle in self.handles:
            # Until it is closed, a descriptor shows the version it was opened with.
            self._judge(handle.name, handle.version, 0, 70_000, partial(_start, handle))
        for mount in reversed(list(self.mounts)):
            self._umount(mount)
        if self.world.headrace.processes():
            self.world.call("cache.evict", paths=[], all=True)

    def _judge(self, name: str, version: Object, offset: int, length: int, read: Callable[[], bytes]) -> None:
        expected = version.data[offset : offset + length]
        try:
            data = read()
        except OSError as error:
            assert self._may_be_gone(name, version, error), f"{name} at {offset}: {error!r}"
            if isinstance(error, ways.Partial):
                assert expected.startswith(error.data), f"{name} at {offset}: wrong bytes before an error"
            return
        assert len(data) == len(expected), f"{name} at {offset}: {len(data)} bytes instead of {len(expected)}"
        assert data == expected, f"{name}: wrong bytes from {offset + _first_difference(data, expected)}"

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
            os.close(handle.descriptor)
        self.world.call("umount", directory=str(mount.directory))
        self.mounts.remove(mount)

    def _note(self, what: str) -> None:
        self.world.done[what] += 1


def _start(handle: Handle) -> bytes:
    """The first bytes of a file that is open."""
    return (ways.direct if handle.direct else ways.pread)(handle.descriptor, 0, 70_000)


def _first_difference(data: bytes, expected: bytes) -> int:
    return next(at for at, (one, other) in enumerate(zip(data, expected, strict=True)) if one != other)

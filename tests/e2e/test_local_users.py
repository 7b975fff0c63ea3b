"""Other users of the machine, and servers that lie about who they are: nobody reads, changes or poisons what is another's."""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import NodeFailure
from headrace.node import client
from headrace.settings import Settings, load
from headrace.testing.access import Access
from headrace.testing.content import content
from headrace.testing.origin import Origin, failing_origin
from headrace.testing.store import Body
from support.bucket import Bucket
from support.headrace import Headrace

MIB = 1 << 20
STRANGER = 54321


def as_stranger(act: Callable[[], Any]) -> Any:
    """What a call gives, made by another user without any privilege: its result, or the name of its errno."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setresgid(STRANGER, STRANGER, STRANGER)
        os.setresuid(STRANGER, STRANGER, STRANGER)
        try:
            answer = act()
        except OSError as error:
            answer = errno.errorcode[error.errno or 0]
        os.write(sending, pickle.dumps(answer))
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return pickle.loads(said)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory that every user finds the way to; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as base:
        os.chmod(base, 0o755)
        yield Path(base)


@pytest.fixture
def own(open_place: Path, server: Access) -> Iterator[Headrace]:
    own = Headrace(open_place, server.environment())
    yield own
    own.stop()


def test_a_mount_shows_others_what_it_grants_and_nothing_else(own: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/d/a", 2 * MIB + 1)
    closed = own.mount(bucket.uri("m"), "closed")
    shared = own.mount(bucket.uri("m"), "shared", "--allow-other")
    held_back = own.mount(bucket.uri("m"), "held-back", "--allow-other", "--file-mode", "0440", "--dir-mode", "0750")
    assert as_stranger(lambda: os.listdir(closed)) == "EACCES"
    assert as_stranger((closed / "d/a").read_bytes) == "EACCES"
    assert as_stranger((shared / "d/a").read_bytes) == data
    assert as_stranger(lambda: os.listdir(held_back)) == "EACCES"
    assert as_stranger((held_back / "d/a").read_bytes) == "EACCES"
    assert as_stranger(lambda: os.open(shared / "d/a", os.O_RDWR)) in ("EACCES", "EROFS")
    own.wait_durable(1)
    # Complete now, so that the kernel reads the cache file itself: nothing else is granted by that.
    assert as_stranger((closed / "d/a").read_bytes) == "EACCES"
    assert as_stranger((shared / "d/a").read_bytes) == data

    def opened_again_for_writing() -> int:
        descriptor = os.open(shared / "d/a", os.O_RDONLY)
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)

    assert as_stranger(opened_again_for_writing) in ("EACCES", "EROFS")


def mapped_files(path: Path, reopen: int) -> Any:
    """Opens again, through /proc, what a mapping of a complete file is a mapping of."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert len(view) > 0
        links = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith((".data", path.name))]
        assert links
        return [os.open(f"/proc/self/map_files/{link}", reopen) for link in links]


def test_the_cache_file_behind_a_mapping_can_not_be_opened_for_writing(own: Headrace, bucket: Bucket) -> None:
    bucket.put("m/weights", 3 * MIB)
    path = own.mount(bucket.uri("m"), "mnt", "--allow-other") / "weights"
    path.read_bytes()
    own.wait_durable(1)
    assert as_stranger(lambda: mapped_files(path, os.O_RDONLY)) in ("EPERM", "EACCES")
    assert as_stranger(lambda: mapped_files(path, os.O_RDWR)) in ("EPERM", "EACCES", "EROFS")
    # Root may look through any mapping: it finds the mount's file, and not the cache file that the pages come from.
    assert {os.fstat(descriptor).st_ino for descriptor in mapped_files(path, os.O_RDONLY)} == {path.stat().st_ino}
    with pytest.raises(OSError) as failure:
        mapped_files(path, os.O_RDWR)
    assert failure.value.errno == errno.EROFS


def test_cache_sockets_and_processes_are_closed_to_others(own: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", 3 * MIB)
    path = own.mount(bucket.uri("m"), "mnt", "--allow-other") / "a"
    path.read_bytes()
    own.wait_durable(1)
    kept = [entry for entry in (own.base / "cache").rglob("*") if entry.is_file()]
    assert any(entry.suffix == ".data" for entry in kept)
    assert {as_stranger(lambda entry=entry: os.open(entry, os.O_RDONLY)) for entry in kept} == {"EACCES"}
    assert {as_stranger(lambda entry=entry: os.open(entry, os.O_WRONLY)) for entry in kept} == {"EACCES"}
    sockets = [entry for entry in (own.base / "run").iterdir() if stat.S_ISSOCK(entry.stat().st_mode)]
    assert len(sockets) == 2

    def connect(entry: Path) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(entry))
            return connection.recv(1)

    assert {as_stranger(lambda entry=entry: connect(entry)) for entry in sockets} == {"EACCES"}
    # Somebody opens the way by mistake: who asks is still known from the connection itself.
    (own.base / "run").chmod(0o755)
    for entry in sockets:
        entry.chmod(0o666)
        assert as_stranger(lambda entry=entry: connect(entry)) in (b"", "ECONNRESET", "EPIPE"), entry
    assert connect(own.base / "run/node.sock") == b"{"
    node = own.status()["node"]
    for pid in (node["pid"], node["keeper_pid"]):
        for name in ("environ", "maps", "fd", "mem"):
            secret = Path(f"/proc/{pid}/{name}")
            assert as_stranger(lambda secret=secret: os.listdir(secret) if secret.name == "fd" else os.open(secret, os.O_RDONLY)) == "EACCES"


@pytest.mark.parametrize("how", ["of another user", "open to writers"])
def test_a_cache_directory_that_others_could_write_to_is_refused(own: Headrace, bucket: Bucket, how: str) -> None:
    bucket.put("m/a", MIB)
    cache = own.base / "cache"
    cache.mkdir(mode=0o700)
    if how == "of another user":
        os.chown(cache, STRANGER, STRANGER)
    else:
        cache.chmod(0o777)
    done = own.run("mount", bucket.uri("m"), str(own.base / "mnt"), check=False)
    assert done.returncode == 7, done.stderr
    assert str(cache) in done.stderr
    assert ("54321" if how == "of another user" else "chmod go-w") in done.stderr
    assert not (own.base / "mnt").exists()


def commanded_by_a_stranger(place: Path) -> Settings:
    return load({}, {"HOME": str(place), "HEADRACE_NODE": str(place / "run/node.sock"), "HEADRACE_CACHE_DIR": str(place / "cache")})


def test_credentials_are_not_told_to_a_socket_of_somebody_else(open_place: Path) -> None:
    """Without a session the default place is below /tmp, where anybody may be first."""
    (open_place / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(open_place / "run/node.sock"))
        (open_place / "run/node.sock").chmod(0o666)
        settings = commanded_by_a_stranger(open_place)
        child = os.fork()  # who listens is whom the kernel names
        if child == 0:
            os.setresuid(STRANGER + 1, STRANGER + 1, STRANGER + 1)
            listener.listen()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0

        def command() -> str:
            try:
                client.connect(settings)
            except NodeFailure as error:
                return error.message
            return "connected"

        said = as_stranger(command)
        assert f"belongs to the user {STRANGER + 1}" in said
        assert "HEADRACE_NODE" in said


@pytest.mark.parametrize("made", ["by another user", "open to others", "as a link"])
def test_nothing_is_written_into_a_runtime_directory_of_somebody_else(open_place: Path, made: str) -> None:
    mine, run = open_place / "mine", open_place / "run"
    mine.mkdir(mode=0o700)
    if made == "as a link":
        run.symlink_to(mine)
    else:
        run.mkdir(mode=0o777)
        run.chmod(0o777)
    os.chown(run if made == "open to others" else mine, STRANGER, STRANGER)
    settings = commanded_by_a_stranger(open_place)

    def command() -> str:
        try:
            client.start_keeper(settings)
        except NodeFailure as error:
            return error.message
        return "started"

    assert "closed to others" in as_stranger(command)
    assert list(run.iterdir()) == []


@pytest.fixture
def hostile() -> Iterator[Origin]:
    with failing_origin("models") as running:
        yield running


@pytest.mark.parametrize("first", ["good", "hostile"])
def test_a_server_that_shows_the_same_names_poisons_nobody(tmp_path: Path, hostile: Origin, first: str) -> None:
    size = 3 * MIB + 7
    right, wrong = content(1, 0, size), content(2, 0, size)
    with failing_origin("models") as good:
        good.bucket("models").put("m/a", Body(size, seed=1), etag='"same"')
        hostile.bucket("models").put("m/a", Body(size, seed=2), etag='"same"')
        headrace = Headrace(tmp_path, good.access.environment())
        try:
            endpoints = {"good": good.access.endpoint, "hostile": hostile.access.endpoint}
            expected = {"good": right, "hostile": wrong}
            order = [first, *(name for name in endpoints if name != first)]
            mounts = {name: headrace.mount("s3://models/m", name, "--endpoint", endpoints[name]) for name in order}
            for name in order * 2:
                assert (mounts[name] / "a").read_bytes() == expected[name]
            headrace.run("cache", "evict", str(mounts[first] / "a"))
            for name in order:
                assert (mounts[name] / "a").read_bytes() == expected[name]
        finally:
            headrace.stop()

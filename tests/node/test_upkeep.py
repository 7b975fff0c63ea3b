"""A bounded log, old versions, unfinished listings."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import NotFound
from headrace.node import service, upkeep
from headrace.node.keeper import Kept
from headrace.node.volumes import VolumeStore, remember_numbers

REPORT = {"files": 1, "bytes": 1, "skipped": 0, "versioned": False}


def volume(snapshots: Path, versions: int) -> VolumeStore:
    store = VolumeStore(snapshots, "http://e", "b", "m/")
    for _ in range(versions):
        candidate = store.candidate()
        candidate.write_bytes(b"x")
        store.publish(candidate, REPORT)
    return store


def held(store: VolumeStore) -> list[str]:
    names = [str(v["id"]) for v in store.versions()]
    assert {store.path(name) for name in names} == set(store.directory.glob("v*.snap"))
    return names


def test_the_newest_versions_stay(tmp_path: Path) -> None:
    store = volume(tmp_path, 6)
    assert len(upkeep.drop_old_versions(tmp_path, 3, list)) == 3
    assert held(store) == ["v4", "v5", "v6"]
    assert upkeep.drop_old_versions(tmp_path, 3, list) == []
    with pytest.raises(NotFound, match="v1"):
        store.find("v1")


def test_what_is_current_before_it_or_in_use_stays(tmp_path: Path) -> None:
    store = volume(tmp_path, 8)
    store.set_current("v4")
    upkeep.drop_old_versions(tmp_path, 2, lambda: [str(store.path("v1"))])
    assert held(store) == ["v1", "v3", "v4", "v7", "v8"]
    # Numbers are never used again, whatever was dropped.
    assert volume(tmp_path, 1).current() == "v9"


def test_a_number_and_a_file_are_given_once_beside_a_clean_up(tmp_path: Path) -> None:
    """Dropping old versions wrote back the list that it had read before another was published: the next got its number, and its file's name."""
    store = volume(tmp_path, 2)
    done = threading.Event()

    def clean_up() -> None:
        while not done.is_set():
            upkeep.drop_old_versions(tmp_path, 2, list)

    cleaner = threading.Thread(target=clean_up)
    cleaner.start()
    try:
        given = [volume(tmp_path, 1).current() for _ in range(100)]
    finally:
        done.set()
        cleaner.join()
    assert given == [f"v{number}" for number in range(3, 103)]
    assert held(store)[-1] == "v102"


@pytest.mark.parametrize("lost", ["the record", "everything"])
def test_no_number_and_no_file_is_given_again_after_somebody_deleted(tmp_path: Path, lost: str) -> None:
    store = volume(tmp_path, 3)
    names = {path.name for path in store.directory.glob("v*.snap")}
    if lost == "the record":
        (store.directory / "volume.json").unlink()
    else:
        shutil.rmtree(store.directory)
    assert volume(tmp_path, 1).current() == "v4"
    assert store.path("v4").name not in names


def test_a_node_that_has_just_begun_knows_the_numbers_of_what_is_mounted(tmp_path: Path) -> None:
    store = VolumeStore(tmp_path, "http://e", "b", "m/")
    remember_numbers([str(store.directory / "v7-0123abcd.snap"), str(store.directory / "v8.snap"), "/else/v99.snap"])
    assert volume(tmp_path, 1).current() == "v9"


def test_versions_of_an_earlier_headrace_are_held(tmp_path: Path) -> None:
    """Their files were called by the number alone."""
    store = volume(tmp_path, 2)
    record = store.directory / "volume.json"
    state = json.loads(record.read_text())
    (store.directory / state["versions"][0].pop("file")).rename(store.directory / "v1.snap")
    record.write_text(json.dumps(state))
    assert held(store) == ["v1", "v2"]
    assert store.path("v1").read_bytes() == b"x"
    volume(tmp_path, 2)
    upkeep.drop_old_versions(tmp_path, 2, list)
    assert held(store) == ["v3", "v4"]


def test_unfinished_listings_go(tmp_path: Path) -> None:
    store = volume(tmp_path, 1)
    store.candidate().write_bytes(b"half")
    assert upkeep.drop_unfinished(tmp_path) == 1
    assert held(store) == ["v1"]


def test_a_log_is_cut_and_its_older_part_kept(tmp_path: Path) -> None:
    path = tmp_path / "node.log"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(descriptor, b"a" * 100)
        assert not upkeep.keep_log_small(descriptor, path, 100)
        os.write(descriptor, b"b" * 50)
        assert upkeep.keep_log_small(descriptor, path, 100)
        os.write(descriptor, b"after")
    finally:
        os.close(descriptor)
    assert path.read_bytes() == b"after"
    assert (tmp_path / "node.log.1").read_bytes() == b"a" * 50 + b"b" * 50
    assert (tmp_path / "node.log.1").stat().st_mode & 0o777 == 0o600


def test_a_log_that_is_no_file_is_left_alone(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.write(write, b"line")
    assert not upkeep.keep_log_small(write, tmp_path / "node.log", 1)
    os.close(read)
    os.close(write)


def test_listings_are_cleared_away_before_a_command_can_begin_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `refresh` that met the node just starting lost its listing to the clean-up."""
    order: list[str] = []

    class Begun(Exception):
        pass

    class Threads:
        def __init__(self, target: object, daemon: bool) -> None:
            order.append(getattr(target, "__name__", ""))

        def start(self) -> None:
            raise Begun

    monkeypatch.setattr(service, "drop_unfinished", lambda _snapshots: order.append("clean-up"))
    monkeypatch.setattr(service.Node, "_tell", lambda _node, message: order.append(message["op"]))
    monkeypatch.setattr(service.threading, "Thread", Threads)
    monkeypatch.setattr(service.signal, "signal", lambda *_: None)
    node = object.__new__(service.Node)
    node.settings = type("", (), {"snapshots": tmp_path})()
    node.troubles = upkeep.Troubles()
    with pytest.raises(Begun):
        node.run()
    assert order == ["clean-up", "ready", "_accept"]


def test_a_volume_that_can_not_be_read_keeps_no_other_from_being_pruned(tmp_path: Path) -> None:
    store = volume(tmp_path, 6)
    for name in ("0", "zzz"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "volume.json").touch()
    with pytest.raises(upkeep.SomeFailed, match=r"0/volume.json can't be read .*; and of 1 more"):
        upkeep.drop_old_versions(tmp_path, 3, list)
    assert held(store) == ["v4", "v5", "v6"]


def test_a_log_that_can_not_be_cut_leaves_no_half_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.log"
    path.write_bytes(b"a" * 200)
    monkeypatch.setattr(upkeep.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with path.open("ab") as log, pytest.raises(OSError, match="No space"):
        upkeep.keep_log_small(log.fileno(), path, 100)
    assert [left.name for left in tmp_path.iterdir()] == ["node.log"]
    assert path.stat().st_size == 200


def test_what_fails_is_told_once_until_it_works_again(capsys: pytest.CaptureFixture[str]) -> None:
    troubles = upkeep.Troubles()
    for cause in ("a", "a", "b", "b"):
        with troubles.told("work"):
            raise OSError(5, cause, f"/tmp/{id(object())}")
    assert [event["message"] for event in troubles.events()] == ["work: b; the node goes on, and tries again"]
    with troubles.told("work"):
        pass
    assert troubles.events() == []
    with troubles.told("work"):
        raise KeyError("x")
    told = capsys.readouterr().err
    assert [line.split(": ", 1)[1].split(";")[0] for line in told.splitlines() if line.startswith("node: ")] == [
        "work: a", "work: b", "work: that works again", "work: KeyError: 'x'",
    ]  # fmt: skip
    assert told.count("Traceback") == 1, "a mistake of ours is told whole"


def test_no_piece_of_upkeep_ends_the_node_or_keeps_it_from_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done: list[str] = []

    def failing(name: str) -> Callable[..., None]:
        def fail(*_: object) -> None:
            done.append(name)
            raise RuntimeError(name)

        return fail

    def part(**methods: Callable[..., object]) -> Any:
        return type("", (), {name: staticmethod(method) for name, method in methods.items()})()

    for name in ("close_lists", "drop_unfinished", "keep_log_small", "drop_old_versions"):
        monkeypatch.setattr(service, name, failing(name))
    monkeypatch.setattr(service.task_mounts, "clear", failing("clear"))
    for name in ("drop_dead_mounts", "_renew_credentials"):
        monkeypatch.setattr(service.Node, name, failing(name))
    monkeypatch.setattr(service.Node, "_tell", lambda *_: None)
    monkeypatch.setattr(service.Node, "_end", lambda _: done.append("end"))
    monkeypatch.setattr(service.Node, "_needed", lambda _: done.count("keep_log_small") < 2)
    monkeypatch.setattr(service.threading, "Thread", lambda **_: part(start=lambda: None))
    monkeypatch.setattr(service.signal, "signal", lambda *_: None)
    monkeypatch.setattr(service, "_UPKEEP_SECONDS", 0.0)
    node = object.__new__(service.Node)
    node.settings = type("", (), {"snapshots": tmp_path, "scrub_interval": 0, "log_file": "x", "log_size": 1, "keep_snapshots": 2, "idle": 0})()
    node.fault, node.useful, node.last_used = None, True, 0.0
    node.kept, node.stopping, node.troubles = Kept(), threading.Event(), upkeep.Troubles()
    node.engine, node.speed = part(counters=failing("counters")), part(note=lambda _: None)
    node.learning, node.membership, node.volumes = part(look=failing("look")), part(begin=failing("begin")), part(paths=list)
    node.run()
    every_time = ["drop_dead_mounts", "counters", "keep_log_small", "_renew_credentials", "look", "drop_old_versions"]
    assert done == ["close_lists", "drop_unfinished", "clear", "begin", *every_time, *every_time, "end"]
    assert len(node.troubles.events()) == 10


def test_a_record_that_can_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = volume(tmp_path, 1)
    before = sorted(os.listdir(store.directory))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.set_current("v1")
    assert sorted(os.listdir(store.directory)) == before

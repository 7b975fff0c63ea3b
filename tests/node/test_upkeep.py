"""A bounded log, old versions, unfinished listings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.errors import NotFound
from headrace.node import service, upkeep
from headrace.node.volumes import VolumeStore

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
    assert sorted(names) == sorted(p.stem for p in store.directory.glob("v*.snap"))
    return names


def test_the_newest_versions_stay(tmp_path: Path) -> None:
    store = volume(tmp_path, 6)
    assert len(upkeep.drop_old_versions(tmp_path, 3, [])) == 3
    assert held(store) == ["v4", "v5", "v6"]
    assert upkeep.drop_old_versions(tmp_path, 3, []) == []
    with pytest.raises(NotFound, match="v1"):
        store.find("v1")


def test_what_is_current_before_it_or_in_use_stays(tmp_path: Path) -> None:
    store = volume(tmp_path, 8)
    store.set_current("v4")
    upkeep.drop_old_versions(tmp_path, 2, [str(store.path("v1"))])
    assert held(store) == ["v1", "v3", "v4", "v7", "v8"]
    # Numbers are never used again, whatever was dropped.
    assert volume(tmp_path, 1).current() == "v9"


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

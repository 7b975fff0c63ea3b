"""What a node knows of its tasks: when a mount follows, and which have ended."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.node import task_mounts
from headrace.node.agent.tasks import Tasks

HOUR = 3600.0


def _tasks(made: float, heard: float, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The versions that a mount, which shows the first, is switched to when the second is said to be current."""
    task = {
        "id": "t",
        "node": "gpu-1",
        "lease": 1,
        "acceleration": "a",
        "follow": True,
        "version": 1,
        "volume": "qwen",
        "path": "/mnt/a",
        "revision": 1,
    }
    entry = {"task": {**task, "made": made}, "since": time.time() + HOUR, "slots": {}, "origin": {}}
    node = SimpleNamespace(kept=SimpleNamespace(mounts={"m": entry}), tasks_before=[], engine=SimpleNamespace(mount_alive=lambda _: True))
    version = SimpleNamespace(number=2)
    item = SimpleNamespace(id="a", current=2, version=lambda _: version, origin=SimpleNamespace(revision=1))
    snapshots = SimpleNamespace(get=lambda *_: "list 2")
    control = SimpleNamespace(tell_tasks=lambda *_: {"gone": []})
    contact = SimpleNamespace(heard=lambda: None)
    shown = list[int]()
    monkeypatch.setattr(task_mounts, "switch", lambda _node, _mount, number, _snapshot: shown.append(number))
    parts: tuple[Any, ...] = (node, "gpu-1", control, contact, None, snapshots, lambda: (SimpleNamespace(version=7, items=[item]), heard))
    cast(Any, Tasks)(*parts)._step()
    return shown


def test_what_was_heard_after_the_mount_is_followed_though_the_clock_was_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mount was made at a time of the wall clock that is yet to come."""
    now = time.monotonic()
    assert _tasks(now - 1, now, monkeypatch) == [2]


def test_what_was_heard_before_the_mount_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    assert _tasks(now, now - 1, monkeypatch) == []
    assert _tasks(0.0, 0.0, monkeypatch) == [], "what comes from the disk may be older"


def test_a_task_that_begins_again_after_its_node_was_killed_is_not_told_as_ended() -> None:
    """The node before was killed when it had made the mounts, and before it could hand them over: the command asks its successor."""
    told = list[Any]()
    document = {"id": "t", "name": "", "owner": "admin", "user": 1000, "lease": 1, "mounts": []}
    control = SimpleNamespace(node_task=lambda _: document, tell_tasks=lambda held, ended: told.append((held, ended)) or {"gone": []})
    before = [{"id": task, "node": "gpu-1", "lease": 1} for task in ("t", "gone")]
    node = SimpleNamespace(kept=SimpleNamespace(mounts={}), tasks_before=before)
    parts: tuple[Any, ...] = (node, "gpu-1", control, SimpleNamespace(heard=lambda: None), None, None, lambda: (None, 0.0))
    tasks = cast(Any, Tasks)(*parts)
    tasks.take("t", 1000)
    tasks._tell()
    ((held, ended),) = told
    assert (held, [one["id"] for one in ended]) == ([], ["gone"])

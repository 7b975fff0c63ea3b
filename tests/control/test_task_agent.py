"""What a node knows of its tasks: when a mount follows, and which have ended."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from headrace.client import ControlFailure
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


def test_keys_that_one_volume_can_not_get_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()

    def entry(acceleration: str) -> dict[str, Any]:
        task = {"id": acceleration, "node": "gpu-1", "lease": 1, "acceleration": acceleration, "follow": acceleration == "b", "version": 1,
                "volume": acceleration, "path": f"/mnt/{acceleration}", "revision": 1, "made": now - 1}  # fmt: skip
        place = {"endpoint": "http://s3", "addressing": "path", "anonymous": False}
        return {"task": task, "slots": {}, "origin": place, "bucket": "models", "origin_id": acceleration}

    def refused(volume: str) -> None:
        raise ControlFailure("not-found", f"no volume {volume}", status=404)

    def item(acceleration: str) -> SimpleNamespace:
        origin = SimpleNamespace(
            revision=2, endpoint="http://s3", bucket="models", addressing="path", anonymous=False, volume_id=acceleration, volume=acceleration
        )
        return SimpleNamespace(id=acceleration, current=2, version=lambda number: SimpleNamespace(number=number), origin=origin)

    shown = list[str]()
    monkeypatch.setattr(task_mounts, "switch", lambda _node, mount, _number, _snapshot: shown.append(mount))
    mounts = {"first": entry("a"), "second": entry("b")}
    node = SimpleNamespace(kept=SimpleNamespace(mounts=mounts), tasks_before=[], engine=SimpleNamespace(mount_alive=lambda _: True))
    control = SimpleNamespace(tell_tasks=lambda *_: {"gone": []})
    origins, snapshots = SimpleNamespace(fetched=refused), SimpleNamespace(get=lambda *_: "list 2")
    desired = SimpleNamespace(version=7, items=[item("a"), item("b")])
    parts: tuple[Any, ...] = (node, "gpu-1", control, SimpleNamespace(heard=lambda: None), origins, snapshots, lambda: (desired, now))
    cast(Any, Tasks)(*parts)._step()
    assert shown == ["second"]

"""Tasks: what they mount is used, a lease says that they live, and whoever comes with an old one is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from typing import Any

import pytest

from control.conftest import Origins, Place
from headrace.client import ControlClient, ControlFailure
from headrace.control.accelerations.sweeping import sweep_once
from headrace.control.tasks import service
from headrace.control.background import expire_leases
from headrace.control.database import Database
from headrace.control.hearing import FIRST_SECONDS
from headrace.control.tasks.sweeping import sweep_leases, sweep_lost
from headrace.testing.nodes import SimulatedNode
from support.standing import stand

MOUNT = {"volume": "qwen", "path": "/mnt/models"}


@pytest.fixture
def one(place: Place, origins: Origins) -> Iterator[SimulatedNode]:
    """A region with a node, and a volume."""
    place.admin.create_region({"name": "zj-1", "title_zh": "浙江一区"})
    place.admin.create_volume(origins.volume("qwen"))
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1", gpu="H800")
    with node.client:
        yield node


@pytest.fixture
def active(place: Place, one: SimulatedNode) -> SimulatedNode:
    """The same, and the volume is active there."""
    place.admin.start_acceleration("qwen", {"region": "zj-1"})
    _next_version(one, b"list 1")
    return one


def _next_version(node: SimulatedNode, snapshot: bytes) -> None:
    node.publish("qwen", snapshot)
    node.hold("qwen")


def _do(place: Place, work: Coroutine[Any, Any, None]) -> None:
    asyncio.run_coroutine_threadsafe(work, place.control.loop).result(30)


def _sweep(place: Place, node: SimulatedNode | None = None, **after: float) -> None:
    place.control.clock.advance(timedelta(**after))
    if node is not None:
        node.client.heartbeat({"version": "1"})
    plane = place.control.plane
    for sweep in (sweep_once, sweep_lost, sweep_leases):
        _do(place, sweep(plane.database, plane.clock))


def _task(place: Place, *mounts: dict[str, object], **more: object) -> dict[str, Any]:
    return place.admin.create_task({"region": "zj-1", "mounts": list(mounts or (MOUNT,)), **more})


def _node_id(place: Place) -> str:
    return str(next(iter(place.admin.nodes()))["id"])


def _refused(call: object, code: str) -> str:
    with pytest.raises(ControlFailure) as caught:
        call()  # type: ignore[operator]
    assert caught.value.code == code
    return caught.value.message


def _used(place: Place) -> int:
    return int(place.admin.acceleration("qwen", "zj-1")["tasks"])


def test_the_whole_way(place: Place, active: SimulatedNode) -> None:
    made = _task(place, name="train", node=_node_id(place), user=1000)
    assert (made["state"], made["lease"], made["mounts"][0]["version"]) == ("running", 1, 1)
    told = active.client.node_task(made["id"])
    assert (told["user"], told["lease"]) == (1000, 1)
    mount = told["mounts"][0]
    assert (mount["path"], mount["origin"]["volume"], mount["version"]["number"]) == ("/mnt/models", "qwen", 1)
    assert active.client.tell_tasks([{"id": made["id"], "lease": 1}]) == {"gone": []}
    assert _used(place) == 1
    active.client.tell_tasks([], [{"id": made["id"], "lease": 1, "reason": "its command has ended"}])
    ended = place.admin.task(made["id"])
    assert (ended["state"], ended["end"], ended["ended_because"]["en"]) == ("ended", "done", "its command has ended")
    assert ended["mounts"][0]["version"] == 1
    assert _used(place) == 0
    assert [event["kind"] for event in place.admin.events(noun="task")] == ["task-ended", "task-started"]
    _refused(lambda: active.client.node_task(made["id"]), "not-found")
    assert active.client.tell_tasks([{"id": made["id"], "lease": 1}]) == {"gone": [made["id"]]}


def test_what_is_not_accelerated_is_refused_with_what_to_do(place: Place, one: SimulatedNode) -> None:
    message = _refused(lambda: _task(place), "state-forbids")
    assert "headrace accelerate qwen --region zj-1" in message
    place.admin.start_acceleration("qwen", {"region": "zj-1"})
    item = one.items()["qwen"]
    one.client.listing_failed(item["id"], item["list"], "the bucket is gone")
    assert "the bucket is gone" in _refused(lambda: _task(place), "state-forbids")
    assert list(place.admin.tasks()) == []


def test_a_task_waits_for_the_first_version_and_stays_on_it(place: Place, one: SimulatedNode) -> None:
    place.admin.start_acceleration("qwen", {"region": "zj-1"})
    made = _task(place, {**MOUNT, "version": None}, {"volume": "qwen", "path": "/mnt/new", "follow": True}, node=_node_id(place))
    assert made["state"] == "waiting"
    assert [mount["version"] for mount in one.client.node_task(made["id"])["mounts"]] == [None, None]
    _next_version(one, b"list 1")
    assert place.admin.task(made["id"])["state"] == "running"
    place.admin.refresh("qwen", "zj-1")
    _next_version(one, b"list 2")
    assert [mount["version"] for mount in place.admin.task(made["id"])["mounts"]] == [1, 2]


def test_a_task_that_waits_ends_with_the_pull_that_fails(place: Place, one: SimulatedNode) -> None:
    place.admin.start_acceleration("qwen", {"region": "zj-1"})
    made = _task(place)
    place.admin.cancel_pull("qwen", "zj-1")
    _sweep(place)
    ended = place.admin.task(made["id"])
    assert (ended["state"], ended["end"]) == ("ended", "lost")
    assert "cancelled" in ended["ended_because"]["en"]


def test_a_mounted_task_outlives_a_first_pull_that_fails(place: Place, one: SimulatedNode) -> None:
    """What is mounted reads on from the origin; only the volume can't be deleted meanwhile."""
    place.admin.start_acceleration("qwen", {"region": "zj-1"})
    one.publish("qwen", b"list 1")
    made = _task(place, node=_node_id(place))
    place.admin.cancel_pull("qwen", "zj-1")
    _sweep(place)
    assert one.client.tell_tasks([{"id": made["id"], "lease": 1}]) == {"gone": []}
    assert one.client.origin_credentials(one.client.node_task(made["id"])["mounts"][0]["origin"]["volume_id"])
    _refused(lambda: place.admin.delete_volume("qwen"), "state-forbids")
    place.admin.end_task(made["id"])
    place.admin.delete_volume("qwen")


def test_versions_by_number_side_by_side_are_kept_while_they_are_read(place: Place, one: SimulatedNode) -> None:
    place.admin.start_acceleration("qwen", {"region": "zj-1", "keep_versions": 1})
    _next_version(one, b"list 1")
    made = _task(place)
    place.admin.refresh("qwen", "zj-1")
    _next_version(one, b"list 2")
    both = _task(place, {**MOUNT, "version": "v1"}, {"volume": "qwen", "path": "/mnt/two", "version": "v2"})
    assert [mount["version"] for mount in both["mounts"]] == [1, 2]
    _refused(lambda: _task(place, {**MOUNT, "version": "v7"}), "not-found")
    _refused(lambda: _task(place, {**MOUNT, "version": "stable"}), "not-found")
    for task in (made, both):
        place.admin.end_task(task["id"])
    place.admin.refresh("qwen", "zj-1")
    _next_version(one, b"list 3")
    assert [version["number"] for version in place.admin.versions("qwen", "zj-1")] == [3]


def test_a_version_with_a_label_is_mounted_by_it_and_kept(place: Place, one: SimulatedNode) -> None:
    place.admin.start_acceleration("qwen", {"region": "zj-1", "keep_versions": 1})
    _next_version(one, b"list 1")
    assert place.admin.label_version("qwen", "zj-1", 1, "stable")["label"] == "stable"
    place.admin.refresh("qwen", "zj-1")
    _next_version(one, b"list 2")
    assert _task(place, {**MOUNT, "version": "stable"})["mounts"][0]["version"] == 1
    _refused(lambda: place.admin.label_version("qwen", "zj-1", 2, "stable"), "name-taken")
    _refused(lambda: place.admin.label_version("qwen", "zj-1", 9, "old"), "not-found")
    for label in ("v3", "a b", "x" * 64):
        _refused(lambda label=label: place.admin.label_version("qwen", "zj-1", 1, label), "invalid")  # type: ignore[misc]
    place.admin.label_version("qwen", "zj-1", 1, "")
    place.admin.label_version("qwen", "zj-1", 2, "stable")


def test_release_is_refused_with_the_names_of_tasks_unless_forced(place: Place, active: SimulatedNode) -> None:
    made = _task(place, name="serve", node=_node_id(place))
    assert "serve" in _refused(lambda: place.admin.release("qwen", "zj-1"), "tasks-mounted")
    assert place.admin.acceleration("qwen", "zj-1")["state"] == "active"
    assert place.admin.release("qwen", "zj-1", force=True)["state"] == "idle"
    _sweep(place)
    assert place.admin.task(made["id"])["end"] == "lost"
    assert active.client.tell_tasks([{"id": made["id"], "lease": 1}]) == {"gone": [made["id"]]}


def test_nothing_expires_under_a_task_and_the_clock_begins_at_its_end(place: Place, active: SimulatedNode) -> None:
    made = _task(place, lasts_seconds=3600)
    for _ in range(30):
        place.control.clock.advance(timedelta(minutes=59))
        place.admin.renew_task(made["id"], 1)
    _sweep(place, active)
    shown = place.admin.acceleration("qwen", "zj-1")
    assert (shown["state"], shown["expires_in_seconds"]) == ("active", None)
    place.admin.end_task(made["id"], 1)
    assert place.admin.acceleration("qwen", "zj-1")["expires_in_seconds"] > 86_000
    _sweep(place, active, hours=25)
    assert place.admin.acceleration("qwen", "zj-1")["state"] == "expiring"


def test_a_mount_of_what_expires_completes_it_again(place: Place, active: SimulatedNode) -> None:
    _sweep(place, active, hours=25)
    assert place.admin.acceleration("qwen", "zj-1")["state"] == "expiring"
    assert _task(place, lasts_seconds=3600)["state"] == "running"
    shown = place.admin.acceleration("qwen", "zj-1")
    assert shown["current"] == 1
    assert shown["state"] in ("syncing", "active")
    assert [version["number"] for version in place.admin.versions("qwen", "zj-1")] == [1]


def test_a_lease_that_nobody_renews_ends_the_task(place: Place, active: SimulatedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    stand(monkeypatch, place.control.clock)
    made = _task(place)
    _sweep(place, active, seconds=119)
    assert place.admin.task(made["id"])["state"] == "running"
    _sweep(place, active, seconds=2)
    ended = place.admin.task(made["id"])
    assert (ended["state"], ended["end"]) == ("ended", "lease")
    assert "nobody renewed" in _refused(lambda: place.admin.renew_task(made["id"], 1), "lease-ended")
    _refused(lambda: place.admin.attach_task(made["id"]), "lease-ended")


def test_a_lease_at_its_end_is_refused_before_anybody_has_swept(place: Place, active: SimulatedNode) -> None:
    made = _task(place)
    place.control.clock.advance(timedelta(seconds=121))
    place.control.plane.hearing.since -= FIRST_SECONDS
    _refused(lambda: place.admin.renew_task(made["id"], 1), "lease-ended")


def test_a_lease_that_nobody_could_renew_is_renewed_late(place: Place, active: SimulatedNode) -> None:
    """The control plane was away for longer than it lasts. Whoever took it over meanwhile has it, all the same."""
    made = _task(place)
    place.control.clock.advance(timedelta(hours=2))
    place.control.plane.hearing.was_lost()
    _do(place, expire_leases(place.control.plane))
    assert place.admin.renew_task(made["id"], 1)["state"] == "running"
    place.control.clock.advance(timedelta(hours=2))
    _refused(lambda: place.admin.renew_task(made["id"], 2), "stale-lease")
    place.control.plane.hearing.since -= FIRST_SECONDS
    _do(place, expire_leases(place.control.plane))
    assert place.admin.task(made["id"])["end"] == "lease"


def test_a_replica_whose_clock_is_ahead_ends_no_lease(place: Place, active: SimulatedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others renew by theirs."""
    plane = place.control.plane
    assert abs(asyncio.run_coroutine_threadsafe(plane.database.ahead_seconds(), place.control.loop).result(30)) < 5

    async def ahead(_: Database) -> float:
        return 150.0

    made = _task(place)
    place.control.clock.advance(timedelta(seconds=150))
    plane.hearing.since -= FIRST_SECONDS
    with monkeypatch.context() as patched:
        patched.setattr(Database, "ahead_seconds", ahead)
        _do(place, expire_leases(plane))
    assert place.admin.task(made["id"])["state"] == "running"
    _do(place, expire_leases(plane))
    assert place.admin.task(made["id"])["end"] == "lease"


def test_nobody_has_tasks_without_end(place: Place, active: SimulatedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TASKS_MAX", 2)
    with place.user("alice") as alice:
        first, _ = _task(place), _task(place)
        assert "2 tasks" in _refused(lambda: _task(place), "too-many-tasks")
        _refused(lambda: alice.create_task({"region": "zj-1", "mounts": [MOUNT]}), "not-found")  # of others it says nothing
        place.admin.end_task(first["id"])
        _task(place)


def test_whoever_takes_a_lease_over_shuts_the_other_out(place: Place, active: SimulatedNode) -> None:
    made = _task(place)
    taken = place.admin.attach_task(made["id"])
    assert taken["lease"] == 2
    _refused(lambda: place.admin.renew_task(made["id"], 1), "stale-lease")
    _refused(lambda: place.admin.end_task(made["id"], 1), "stale-lease")
    assert place.admin.renew_task(made["id"], 2)["state"] == "running"
    assert place.admin.end_task(made["id"], 2)["state"] == "ended"
    assert place.admin.end_task(made["id"], 2)["state"] == "ended"


def test_a_task_revives_when_its_node_is_heard_again(place: Place, active: SimulatedNode) -> None:
    """Nobody heard of the node, or the control plane was away: its programs read all the time."""
    made = _task(place, node=_node_id(place))
    _sweep(place, active, hours=2)
    assert place.admin.task(made["id"])["end"] == "lease"
    assert active.client.tell_tasks([{"id": made["id"], "lease": 1}]) == {"gone": []}
    revived = place.admin.task(made["id"])
    assert (revived["state"], revived["mounts"][0]["version"], _used(place)) == ("running", 1, 1)
    assert active.client.node_task(made["id"])["lease"] == 1


def test_a_task_does_not_revive_when_what_it_mounted_is_gone(place: Place, active: SimulatedNode) -> None:
    made = _task(place, node=_node_id(place))
    _sweep(place, active, seconds=121)
    place.admin.release("qwen", "zj-1")
    assert active.client.tell_tasks([{"id": made["id"], "lease": 1}]) == {"gone": [made["id"]]}
    assert _used(place) == 0


def test_a_node_knows_its_own_tasks_only(place: Place, active: SimulatedNode) -> None:
    other = SimulatedNode.join(place.admin, "zj-1", "gpu-2")
    with other.client:
        made = _task(place, node=_node_id(place))
        _refused(lambda: other.client.node_task(made["id"]), "not-found")
        assert other.client.tell_tasks([{"id": made["id"], "lease": 1}]) == {"gone": [made["id"]]}
        other.client.tell_tasks([], [{"id": made["id"], "lease": 1}])
    assert place.admin.task(made["id"])["state"] == "running"


def test_a_node_that_drains_or_is_of_another_region_takes_no_task(place: Place, active: SimulatedNode) -> None:
    node = _node_id(place)
    place.admin.drain_node(node)
    assert "draining" in _refused(lambda: _task(place, node=node), "state-forbids")
    place.admin.create_region({"name": "bj-1"})
    far = SimulatedNode.join(place.admin, "bj-1", "gpu-9")
    far.client.close()
    far_id = next(shown["id"] for shown in place.admin.nodes(region="bj-1"))
    _refused(lambda: _task(place, node=far_id), "not-found")
    _refused(lambda: place.admin.create_task({"region": "bj-1", "mounts": [MOUNT]}), "state-forbids")


@pytest.mark.parametrize(
    "path", ["mnt/models", "/", "/mnt/", "/mnt//x", "/mnt/../etc", "/mnt/.", "/etc/x", "/usr", "/proc/self", "/dev", "/sys/fs", "", "/mnt/\x07"]
)
def test_paths_that_nothing_is_mounted_at(place: Place, path: str) -> None:
    message = _refused(lambda: _task(place, {**MOUNT, "path": path}), "invalid")
    assert "path" in message


def test_paths_inside_one_another_are_refused(place: Place) -> None:
    for path in ("/mnt/models", "/mnt/models/a", "/mnt"):
        _refused(lambda path=path: _task(place, MOUNT, {**MOUNT, "path": path}), "invalid")  # type: ignore[misc]


def test_a_version_that_is_named_is_not_followed(place: Place) -> None:
    assert "names a version" in _refused(lambda: _task(place, {**MOUNT, "version": "v1", "follow": True}), "invalid")


def test_nodes_hear_at_once_of_new_keys(place: Place, active: SimulatedNode, origins: Origins) -> None:
    before = active.client.desired()["version"]
    access = origins.access
    place.admin.rotate_credentials("qwen", {"access_key": access.access_key, "secret_key": access.secret_key})
    assert active.client.desired()["version"] > before
    assert active.items()["qwen"]["origin"]["revision"] == 2


def test_a_ceiling_is_shared_by_the_nodes_that_may_read(place: Place, one: SimulatedNode, origins: Origins) -> None:
    place.admin.create_volume(origins.volume("slow", bandwidth=1000, requests=3))
    place.admin.start_acceleration("slow", {"region": "zj-1", "placement": {"kind": "labels", "labels": {"gpu": "H800"}}})

    def shares(node: SimulatedNode) -> tuple[int, int]:
        share = node.items()["slow"]["share"]
        return share["bandwidth"], share["requests"]

    one.publish("slow", b"list 1")
    assert shares(one) == (1000, 3)
    with SimulatedNode.join(place.admin, "zj-1", "gpu-2", gpu="A100").client as client:
        other = SimulatedNode(client, "gpu-2")
        other_id = next(shown["id"] for shown in place.admin.nodes() if shown["name"] == "gpu-2")
        assert shares(one) == (1000, 3)
        made = place.admin.create_task({"region": "zj-1", "node": other_id, "mounts": [{"volume": "slow", "path": "/mnt/a"}]})
        assert shares(one) == (500, 1)
        assert client.node_task(made["id"])["mounts"][0]["origin"]["bandwidth"] == 500
        place.admin.end_task(made["id"])
        assert shares(one) == (1000, 3)
        warmup = place.admin.start_warmup("slow", "zj-1", {"nodes": [other_id]})
        assert shares(other) == (500, 1)
        place.admin.cancel_warmup(warmup["id"])
        place.admin.create_region({"name": "bj-1"})
        with SimulatedNode.join(place.admin, "bj-1", "far", gpu="H800").client:
            place.admin.start_acceleration("slow", {"region": "bj-1"})
            assert shares(one) == (500, 1)


def test_a_node_hears_at_once_that_its_task_was_ended(place: Place, active: SimulatedNode) -> None:
    """Its mounts are to end now, not when it renews the lease."""
    node = _node_id(place)
    ended, released, elsewhere = _task(place, node=node), _task(place, node=node), _task(place)
    before = active.client.desired()["version"]
    place.admin.end_task(elsewhere["id"])
    assert active.client.desired()["version"] == before, "it is no node's"
    place.admin.end_task(ended["id"])
    assert active.client.desired(before, 5)["version"] == before + 1
    place.admin.end_task(ended["id"])
    place.admin.release("qwen", "zj-1", force=True)
    _sweep(place)
    assert place.admin.task(released["id"])["state"] == "ended"
    # One for the release, one for the task that ended with it; the plane's own sweep may have been first.
    assert active.client.desired()["version"] == before + 3


def test_users_see_and_handle_own_tasks(place: Place, active: SimulatedNode, origins: Origins) -> None:
    with place.user("ann") as ann, place.user("bob") as bob:
        ann.create_volume(origins.volume("hers"))
        ann.start_acceleration("hers", {"region": "zj-1"})
        made = ann.create_task({"region": "zj-1", "mounts": [{"volume": "hers", "path": "/mnt/a"}]})
        _refused(lambda: ann.create_task({"region": "zj-1", "mounts": [MOUNT]}), "not-found")
        _task(place)
        assert [task["id"] for task in ann.tasks()] == [made["id"]]
        assert list(bob.tasks()) == []
        for call in (bob.task, bob.end_task, bob.attach_task):
            _refused(lambda call=call: call(made["id"]), "not-found")  # type: ignore[misc]
    assert len(list(place.admin.tasks())) == 2
    assert [task["id"] for task in place.admin.tasks(volume="hers")] == [made["id"]]
    assert len(list(place.admin.tasks(region="zj-1", ended="true"))) == 0


def test_the_same_creation_again_makes_one_task(place: Place, active: SimulatedNode) -> None:
    said = {"region": "zj-1", "mounts": [MOUNT]}
    first, again = (place.admin.create_task(said, key="k1") for _ in range(2))
    assert first["id"] == again["id"]
    assert _used(place) == 1


def test_a_node_is_named_for_a_task(place: Place, active: SimulatedNode) -> None:
    with SimulatedNode.join(place.admin, "zj-1", "gpu-2", gpu="A100").client as other:
        other.heartbeat({"version": "1", "capacity_bytes": 1 << 42})

        def placed(client: ControlClient = place.admin, **more: object) -> str:
            return str(client.place_task({"region": "zj-1", **more})["name"])

        assert placed(volumes=["qwen"]) == "gpu-1"
        assert placed() == "gpu-2"
        assert placed(labels={"gpu": "H800"}) == "gpu-1"
        assert placed(room_bytes=1 << 41) == "gpu-2"
        for impossible in ({"labels": {"gpu": "none"}}, {"room_bytes": 1 << 60}):
            _refused(lambda more=impossible: placed(**more), "no-nodes")  # type: ignore[misc]
        _task(place, node=next(shown["id"] for shown in place.admin.nodes() if shown["name"] == "gpu-2"))
        assert placed() == "gpu-1"


def test_tasks_that_ended_long_ago_are_forgotten(place: Place, active: SimulatedNode) -> None:
    made = _task(place)
    place.admin.end_task(made["id"])
    plane = place.control.plane

    async def drop(days: float) -> None:
        async with plane.database.writing() as session:
            await service.drop_old(session, plane.clock.now() + timedelta(days=days))

    _do(place, drop(6))
    assert len(list(place.admin.tasks())) == 1
    _do(place, drop(8))
    assert list(place.admin.tasks()) == []

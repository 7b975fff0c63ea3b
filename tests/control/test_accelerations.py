"""A volume in a region goes through its states, by what nodes tell and by what time brings; whatever the table does not have is refused."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import delete

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control.accelerations import mounting, pulls, queries
from headrace.control.accelerations.models import Holding
from headrace.control.accelerations.names import Names
from headrace.control.accelerations.sweeping import candidates, sweep_once
from headrace.control.background import forget_what_is_over
from headrace.testing.nodes import SimulatedNode


@pytest.fixture
def one(place: Place, origins: Origins) -> Iterator[SimulatedNode]:
    """A region with a node, and a volume."""
    place.admin.create_region({"name": "zj-1", "title_zh": "浙江一区"})
    place.admin.create_volume(origins.volume("qwen"))
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1", gpu="H800")
    with node.client:
        yield node


def _state(place: Place) -> tuple[str, str, bool]:
    shown = place.admin.acceleration("qwen", "zj-1")
    return shown["state"], shown["condition"], shown["mountable"]


def _start(place: Place, **more: object) -> None:
    place.admin.start_acceleration("qwen", {"region": "zj-1", **more})


def _sweep(place: Place, **after: float) -> None:
    place.control.clock.advance(timedelta(**after))
    plane = place.control.plane
    asyncio.run_coroutine_threadsafe(sweep_once(plane.database, plane.clock), place.control.loop).result(30)


def _active(place: Place, node: SimulatedNode) -> None:
    _start(place)
    node.publish("qwen", b"list 1")
    node.hold("qwen")
    assert _state(place) == ("active", "", True)


def _refused(call: object, code: str = "state-forbids") -> str:
    with pytest.raises(ControlFailure) as caught:
        call()  # type: ignore[operator]
    assert caught.value.code == code
    return caught.value.message


def test_a_list_has_what_each_has_but_the_nodes(place: Place, one: SimulatedNode) -> None:
    """Of hundreds of nodes each page would be megabytes."""
    _start(place)
    one.publish("qwen", b"list 1")
    one.hold("qwen", done=40)
    of_second = {"version": 1, "files": 1, "files_total": 2, "bytes": 7, "bytes_total": 100, "complete": False, "error": ""}
    with SimulatedNode.join(place.admin, "zj-1", "gpu-2").client as second:
        second.progress([{"acceleration": one.items()["qwen"]["id"], **of_second}])
    (listed,), shown = place.admin.accelerations(), place.admin.acceleration("qwen", "zj-1")
    assert len(shown.pop("nodes")) == 2
    passing = dict.fromkeys(("bytes_per_second", "seconds_left"))
    assert {**listed, **passing} == {**shown, **passing}
    assert (listed["bytes_held"], listed["bytes"], listed["bytes_total"]) == (47, 47, 200)


def test_the_whole_way(place: Place, one: SimulatedNode) -> None:
    _start(place)
    assert _state(place) == ("syncing", "", False)
    assert one.items()["qwen"]["hold"] is None
    assert one.publish("qwen", b"list 1") == 1
    assert _state(place) == ("syncing", "", True)
    one.hold("qwen", done=40)
    shown = place.admin.acceleration("qwen", "zj-1")
    assert (shown["bytes"], shown["bytes_total"], shown["bytes_held"], shown["state"]) == (40, 100, 40, "syncing")
    one.hold("qwen")
    assert _state(place) == ("active", "", True)
    place.admin.refresh("qwen", "zj-1")
    assert _state(place) == ("syncing", "", True)
    assert one.publish("qwen", b"list 2") == 2
    assert place.admin.acceleration("qwen", "zj-1")["current"] == 1
    one.hold("qwen")
    assert place.admin.acceleration("qwen", "zj-1")["current"] == 2
    assert [(v["number"], v["current"]) for v in place.admin.versions("qwen", "zj-1")] == [(1, False), (2, True)]
    assert place.admin.roll_back("qwen", "zj-1", 1)["current"] == 1
    _refused(lambda: place.admin.roll_back("qwen", "zj-1", 7), "not-found")
    assert place.admin.release("qwen", "zj-1")["bytes_held"] == 0
    assert _state(place) == ("idle", "", False)
    assert one.items() == {}
    events = list(place.admin.events(noun="acceleration"))
    (node,) = place.admin.nodes()
    assert {event["who"] for event in events if event["kind"] == "published"} == {f"node gpu-1 ({node['id']})"}
    assert [event["kind"] for event in events][::-1] == [
        "start acceleration",
        "published",
        "pull complete",
        "refresh from origin",
        "published",
        "pull complete",
        "rolled-back",
        "manual release",
    ]
    _start(place)
    assert one.publish("qwen", b"list 1") == 3


def test_a_refresh_that_finds_nothing_new_makes_no_version(place: Place, one: SimulatedNode) -> None:
    _active(place, one)
    place.admin.refresh("qwen", "zj-1")
    assert one.publish("qwen", b"list 1") == 1
    assert _state(place) == ("active", "", True)
    assert len(place.admin.versions("qwen", "zj-1")) == 1


def test_at_once_makes_current_what_is_published(place: Place, one: SimulatedNode) -> None:
    _active(place, one)
    place.admin.refresh("qwen", "zj-1", at_once=True)
    one.publish("qwen", b"list 2")
    assert place.admin.acceleration("qwen", "zj-1")["current"] == 2
    place.admin.cancel_pull("qwen", "zj-1")
    shown = place.admin.acceleration("qwen", "zj-1")
    assert (shown["state"], shown["condition"], shown["current"]) == ("active", "refresh failed", 1)


def test_expiry_and_release_by_time(place: Place, one: SimulatedNode) -> None:
    _active(place, one)
    _sweep(place, hours=23)
    assert _state(place)[0] == "active"
    one.client.heartbeat({"version": "1"})
    _sweep(place, hours=2)
    shown = place.admin.acceleration("qwen", "zj-1")
    assert shown["state"] == "expiring"
    assert 13 * 86_400 < shown["released_in_seconds"] < 15 * 86_400
    _refused(lambda: place.admin.refresh("qwen", "zj-1"))
    _sweep(place, days=15)
    assert _state(place) == ("idle", "", False)
    assert place.admin.acceleration("qwen", "zj-1")["bytes_held"] == 0


def test_what_expires_is_completed_again_when_it_is_used(place: Place, one: SimulatedNode) -> None:
    """The same snapshot: nothing new is listed or published."""
    _active(place, one)
    _sweep(place, hours=25)
    one.client.heartbeat({"version": "1"})
    plane = place.control.plane
    identifier = place.admin.acceleration("qwen", "zj-1")["id"]

    async def use() -> None:
        async with plane.database.writing() as session:
            row = await queries.by_id(session, identifier, lock=True)
            there = await candidates(session, plane.clock, row.region_id)
            # Let go of meanwhile, as far as the books know.
            await session.execute(delete(Holding).where(Holding.acceleration_id == row.id))
            await mounting.used(session, plane.clock, row, Names("qwen", "zj-1"), there)

    asyncio.run_coroutine_threadsafe(use(), place.control.loop).result(30)
    assert _state(place) == ("syncing", "", True)
    item = one.items()["qwen"]
    assert (item["list"], item["hold"]) == (None, 1)
    one.hold("qwen")
    assert _state(place) == ("active", "", True)
    assert place.admin.acceleration("qwen", "zj-1")["expires_in_seconds"] > 86_000
    assert len(place.admin.versions("qwen", "zj-1")) == 1


def test_a_first_listing_that_fails_leaves_it_idle_with_the_reason(place: Place, one: SimulatedNode) -> None:
    _start(place)
    item = one.items()["qwen"]
    one.client.listing_failed(item["id"], item["list"], "access denied")
    shown = place.admin.acceleration("qwen", "zj-1")
    assert (shown["state"], shown["condition"], shown["mountable"], shown["reason"]["en"]) == ("idle", "failed", False, "access denied")
    _start(place)
    assert _state(place) == ("syncing", "", False)


def test_a_refresh_that_fails_leaves_the_old_version(place: Place, one: SimulatedNode) -> None:
    _active(place, one)
    place.admin.refresh("qwen", "zj-1")
    item = one.items()["qwen"]
    one.client.listing_failed(item["id"], item["list"], "unreachable")
    assert _state(place) == ("active", "refresh failed", True)
    place.admin.refresh("qwen", "zj-1")
    one.publish("qwen", b"list 2")
    one.hold("qwen", done=10, error="no space")
    _sweep(place, minutes=11)
    shown = place.admin.acceleration("qwen", "zj-1")
    assert (shown["state"], shown["condition"], shown["current"]) == ("active", "refresh failed", 1)
    assert "no space" in shown["reason"]["en"]
    assert len(place.admin.versions("qwen", "zj-1")) == 1


def test_a_pull_without_progress_fails_by_itself(place: Place, one: SimulatedNode) -> None:
    _start(place)
    one.publish("qwen", b"list 1")
    one.hold("qwen", done=10)
    _sweep(place, minutes=11)
    assert _state(place) == ("idle", "failed", False)


def test_a_lister_that_dies_is_replaced_and_its_late_answer_refused(place: Place, one: SimulatedNode) -> None:
    other = SimulatedNode.join(place.admin, "zj-1", "gpu-2")
    with other.client:
        _start(place)
        nodes = {"gpu-1": one, "gpu-2": other}
        first = next(node for node in nodes.values() if node.items()["qwen"]["list"])
        second = next(node for node in nodes.values() if node is not first)
        late = first.items()["qwen"]
        place.control.clock.advance(timedelta(seconds=90))
        second.client.heartbeat({"version": "1"})
        _sweep(place)
        assert second.items()["qwen"]["list"] == late["list"] + 1
        with pytest.raises(ControlFailure) as caught:
            first.client.send_snapshot_part(late["id"], late["list"], "0" * 64, 0, b"old")
        assert caught.value.code == "stale-listing"
        second.publish("qwen", b"list 1")
        second.hold("qwen")
        # The lost node is not waited for, and holds its share when it is back.
        assert _state(place) == ("active", "", True)


def test_placement_by_number_and_by_labels(place: Place, one: SimulatedNode) -> None:
    others = [SimulatedNode.join(place.admin, "zj-1", f"gpu-{number}") for number in range(2, 6)]
    nodes = [one, *others]
    _start(place, placement={"kind": "number", "number": 2})
    lister = next(node for node in nodes if node.items()["qwen"]["list"])
    lister.publish("qwen", b"list 1")
    holding = [node for node in nodes if node.items()["qwen"]["hold"]]
    assert len(holding) == 2
    for node in holding:
        node.hold("qwen")
    assert _state(place)[0] == "active"
    place.admin.release("qwen", "zj-1")
    _start(place, placement={"kind": "labels", "labels": {"gpu": "H800"}})
    next(node for node in nodes if node.items()["qwen"]["list"]).publish("qwen", b"list 1")
    assert [node.name for node in nodes if node.items()["qwen"]["hold"]] == ["gpu-1"]
    for node in others:
        node.client.close()


def test_what_the_state_does_not_allow_is_refused(place: Place, one: SimulatedNode) -> None:
    _start(place)
    said = _refused(lambda: _start(place))
    assert "syncing" in said
    for call in (
        lambda: place.admin.release("qwen", "zj-1"),
        lambda: place.admin.refresh("qwen", "zj-1"),
        lambda: place.admin.roll_back("qwen", "zj-1", 1),
        lambda: place.admin.delete_volume("qwen"),
        lambda: place.admin.edit_volume("qwen", {"requests": 1}, "*"),
    ):
        _refused(call)
    place.admin.cancel_pull("qwen", "zj-1")
    assert _state(place) == ("idle", "failed", False)
    _refused(lambda: place.admin.release("qwen", "zj-1"))
    place.admin.delete_volume("qwen")
    assert list(place.admin.accelerations()) == []


def test_users_have_their_own_and_no_operators_way_out(place: Place, origins: Origins, one: SimulatedNode) -> None:
    with place.user("alice") as alice, place.user("bob") as bob:
        alice.create_volume(origins.volume("hers"))
        alice.start_acceleration("hers", {"region": "zj-1"})
        _refused(lambda: alice.cancel_pull("hers", "zj-1"))
        _refused(lambda: bob.acceleration("hers", "zj-1"), "not-found")
        _refused(lambda: bob.release("hers", "zj-1"), "not-found")
        assert list(bob.accelerations()) == []
        assert [found["owner"] for found in alice.accelerations()] == ["alice"]


def test_keys_go_to_nodes_of_the_region_and_only_while_they_are_needed(place: Place, origins: Origins, one: SimulatedNode) -> None:
    identifier = place.admin.volume("qwen")["id"]
    _refused(lambda: one.client.origin_credentials(identifier), "not-found")
    _start(place)
    assert one.client.origin_credentials(identifier)["secret_key"] == origins.access.secret_key
    place.admin.create_region({"name": "bj-1"})
    elsewhere = SimulatedNode.join(place.admin, "bj-1", "gpu-1")
    with elsewhere.client:
        _refused(lambda: elsewhere.client.origin_credentials(identifier), "not-found")
        assert elsewhere.items() == {}
        acceleration = one.items()["qwen"]
        _refused(lambda: elsewhere.client.send_snapshot_part(acceleration["id"], acceleration["list"], "0" * 64, 0, b""), "stale-listing")


def test_a_region_without_nodes_is_told(place: Place, origins: Origins) -> None:
    place.admin.create_region({"name": "zj-1"})
    place.admin.create_volume(origins.volume("qwen"))
    _refused(lambda: _start(place), "no-nodes")
    _refused(lambda: place.admin.start_acceleration("qwen", {"region": "nowhere"}), "not-found")
    assert list(place.admin.accelerations()) == []


def test_long_expiries_are_counted_whole(place: Place, one: SimulatedNode) -> None:
    """A month in milliseconds is more than an integer of 32 bits holds."""
    _start(place, expire_seconds=40 * 86_400, release_seconds=10 * 366 * 86_400)
    one.publish("qwen", b"list 1")
    one.hold("qwen")
    _sweep(place, days=39)
    assert _state(place)[0] == "active"
    _sweep(place, days=2)
    assert _state(place)[0] == "expiring"


def test_one_that_cannot_be_swept_keeps_no_other_from_it(
    place: Place, origins: Origins, one: SimulatedNode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _active(place, one)
    place.admin.create_volume(origins.volume("other"))
    place.admin.start_acceleration("other", {"region": "zj-1"})
    one.publish("other", b"list 1")
    one.hold("other")
    swept = pulls.sweep

    async def fails(session, clock, row, names, nodes):  # type: ignore[no-untyped-def]
        if names.volume == "qwen":
            raise LookupError("a fault of ours")
        await swept(session, clock, row, names, nodes)

    monkeypatch.setattr(pulls, "sweep", fails)
    _sweep(place, days=2)
    assert place.admin.acceleration("other", "zj-1")["state"] == "expiring"
    assert "a fault of ours" in caplog.text


def test_a_region_goes_only_when_nothing_is_accelerated_there(place: Place, one: SimulatedNode) -> None:
    _active(place, one)
    place.admin.remove_node(next(place.admin.nodes())["id"])
    _refused(lambda: place.admin.delete_region("zj-1"))
    assert place.admin.acceleration("qwen", "zj-1")["bytes_held"] == 0  # it went with its node
    place.admin.release("qwen", "zj-1")
    place.admin.delete_region("zj-1")
    assert list(place.admin.accelerations()) == []


def test_lists_that_nobody_publishes_take_no_room_for_ever(place: Place, one: SimulatedNode) -> None:
    _start(place)
    item = one.items()["qwen"]
    for letter in "abc":
        one.client.send_snapshot_part(item["id"], item["list"], letter * 64, 0, b"part")
    for gone in "ab":
        _refused(lambda gone=gone: one.client.snapshot_part(gone * 64, 0), "not-found")
    assert one.client.snapshot_part("c" * 64, 0) == b"part"
    one.publish("qwen", b"list 1")
    place.control.clock.advance(timedelta(hours=7))
    asyncio.run_coroutine_threadsafe(forget_what_is_over(place.control.plane), place.control.loop).result(30)
    _refused(lambda: one.client.snapshot_part("c" * 64, 0), "not-found")
    assert one.client.snapshot_part(hashlib.sha256(b"list 1").hexdigest(), 0) == b"list 1"


def test_a_list_that_is_not_what_its_digest_says_is_not_published(place: Place, one: SimulatedNode) -> None:
    """Whoever sends other bytes under the digest of a list that others will make must not spoil theirs."""
    _start(place)
    item = one.items()["qwen"]
    digest = hashlib.sha256(b"list 1").hexdigest()
    one.client.send_snapshot_part(item["id"], item["list"], digest, 0, b"something else")
    _refused(lambda: one.publish("qwen", b"list 1"), "snapshot-damaged")
    assert one.publish("qwen", b"list 1") == 1
    assert one.client.snapshot_part(digest, 0) == b"list 1"


def test_reasons_of_nodes_are_kept_whatever_is_in_them(place: Place, one: SimulatedNode) -> None:
    _start(place)
    one.publish("qwen", b"list 1")
    one.hold("qwen", done=10, error="\x00\x1b[31m\n" * 2000)
    (held,) = place.admin.acceleration("qwen", "zj-1")["nodes"]
    assert (held["error"].isprintable(), len(held["error"]) <= 1024) == (True, True)
    place.admin.cancel_pull("qwen", "zj-1")
    _start(place)
    item = one.items()["qwen"]
    one.client.listing_failed(item["id"], item["list"], "line 1\nline 2\x1b" * 100)
    assert place.admin.acceleration("qwen", "zj-1")["reason"]["en"].startswith("line 1\\nline 2\\x1b")


def test_a_schedule_refreshes_by_itself_and_is_an_action_of_somebody(place: Place, one: SimulatedNode) -> None:
    _active(place, one)
    shown = place.admin.acceleration("qwen", "zj-1")
    assert shown["refresh_every_seconds"] == 0
    edited = place.admin.edit_acceleration("qwen", "zj-1", {"refresh_every_seconds": 3600}, shown["etag"])
    assert edited["refresh_every_seconds"] == 3600
    _sweep(place, minutes=50)
    assert _state(place)[0] == "active"
    one.client.heartbeat({"version": "1"})
    _sweep(place, minutes=11)
    assert _state(place)[0] == "active"  # its node is not heard: nobody could hold it
    one.client.heartbeat({"version": "1"})
    _sweep(place)
    assert _state(place)[0] == "syncing"
    events = list(place.admin.events(noun="acceleration"))
    assert (events[0]["kind"], events[0]["who"], events[0]["why"]) == ("refresh from origin", "headrace", "every 3600 s, as scheduled")
    assert (events[1]["kind"], events[1]["detail"]) == ("acceleration-edited", {"refresh_every_seconds": 3600})


def test_an_edit_says_what_it_edits(place: Place, one: SimulatedNode) -> None:
    _active(place, one)
    etag = place.admin.acceleration("qwen", "zj-1")["etag"]
    place.admin.edit_acceleration("qwen", "zj-1", {"expire_seconds": 60, "release_seconds": 120, "keep_versions": 2}, etag)
    _refused(lambda: place.admin.edit_acceleration("qwen", "zj-1", {"keep_versions": 3}, etag), "revision-changed")
    for wrong in ({"release_seconds": 30}, {"refresh_every_seconds": 5}, {"keep_versions": 0}, {"state": "idle"}):
        etag = place.admin.acceleration("qwen", "zj-1")["etag"]
        _refused(lambda wrong=wrong, etag=etag: place.admin.edit_acceleration("qwen", "zj-1", wrong, etag), "invalid")  # type: ignore[misc]
    shown = place.admin.acceleration("qwen", "zj-1")
    assert (shown["expire_seconds"], shown["release_seconds"], shown["keep_versions"]) == (60, 120, 2)


def test_kept_versions_say_whether_they_can_still_be_read(place: Place, one: SimulatedNode) -> None:
    _active(place, one)
    for number in (2, 3):
        place.admin.refresh("qwen", "zj-1")
        one.publish("qwen", f"list {number}".encode())
        one.hold("qwen")

    def wholes() -> list[str]:
        return [version["whole"] for version in place.admin.versions("qwen", "zj-1")]

    assert wholes() == ["unknown", "unknown", "complete"]
    item = one.items()["qwen"]["id"]
    kept = [
        {"acceleration": item, "version": 1, "bytes": 60, "bytes_total": 100, "lost_files": 2},
        {"acceleration": item, "version": 2, "bytes": 60, "bytes_total": 100, "lost_files": 0},
        {"acceleration": item, "version": 7, "bytes": 1, "bytes_total": 1},
    ]
    one.client.progress([], [], kept)
    assert wholes() == ["not retrievable", "partly held", "complete"]
    assert "overwritten" in _refused(lambda: place.admin.roll_back("qwen", "zj-1", 1))
    assert place.admin.roll_back("qwen", "zj-1", 2)["current"] == 2
    with SimulatedNode.join(place.admin, "zj-1", "gpu-2").client as other:
        other.progress([], [], [{**kept[0], "bytes": 100, "lost_files": 0}])
        assert wholes()[0] == "complete"
        assert place.admin.roll_back("qwen", "zj-1", 1)["current"] == 1
        place.admin.remove_node(next(shown["id"] for shown in place.admin.nodes() if shown["name"] == "gpu-2"))
    assert wholes()[0] == "not retrievable"


def test_what_was_used_last_comes_first(place: Place, one: SimulatedNode, origins: Origins) -> None:
    """A node that joins pulls in this order, as far as its room goes."""
    for name in ("a", "b", "c"):
        place.admin.create_volume(origins.volume(name))
        place.admin.start_acceleration(name, {"region": "zj-1"})
        one.publish(name, name.encode())
        place.control.clock.advance(timedelta(seconds=1))
    place.admin.create_task({"region": "zj-1", "mounts": [{"volume": "a", "path": "/mnt/a"}]})
    assert list(one.items()) == ["a", "c", "b"]

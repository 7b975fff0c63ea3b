"""The control plane's clock jumps, forward and back: nothing is lost, nobody is locked out, and what is shown is true again soon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control.accelerations.sweeping import sweep_once
from headrace.control.background import forget_what_is_over
from headrace.control.tasks.sweeping import sweep_leases
from headrace.testing.nodes import TOLD, SimulatedNode

DAY = timedelta(days=1)
JUMPS = pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forward", "back"])


@pytest.fixture
def node(place: Place, origins: Origins) -> Iterator[SimulatedNode]:
    place.admin.create_region({"name": "zj-1"})
    place.admin.create_volume(origins.volume("qwen", read_only=True))
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1")
    with node.client:
        yield node


def _jump(place: Place, by: timedelta) -> None:
    """And what a replica does of itself afterwards."""
    place.control.clock.advance(by)
    plane = place.control.plane
    for work in (sweep_once(plane.database, plane.clock), forget_what_is_over(plane)):
        asyncio.run_coroutine_threadsafe(work, place.control.loop).result(30)


@JUMPS
def test_tokens_and_nodes_are_still_known(place: Place, node: SimulatedNode, jump: timedelta) -> None:
    _jump(place, jump)
    assert [one["name"] for one in place.admin.regions()] == ["zj-1"]
    assert next(place.admin.nodes())["state"] == "lost"  # until it is heard again, in ten seconds
    node.client.heartbeat(TOLD)
    assert next(place.admin.nodes())["state"] == "ready"


def test_a_node_that_is_gone_is_not_there_until_a_clock_that_was_set_back_has_caught_up(place: Place, node: SimulatedNode) -> None:
    _jump(place, -DAY)
    assert next(place.admin.nodes())["state"] == "lost"
    with pytest.raises(ControlFailure) as caught:
        place.admin.start_acceleration("qwen", {"region": "zj-1"})
    assert caught.value.code == "no-nodes"


@JUMPS
def test_a_pull_goes_on(place: Place, node: SimulatedNode, jump: timedelta) -> None:
    place.admin.start_acceleration("qwen", {"region": "zj-1"})
    node.publish("qwen", b"list")
    node.hold("qwen", done=40)
    place.control.clock.advance(jump)
    node.client.heartbeat(TOLD)
    node.hold("qwen", done=60)
    _jump(place, timedelta())
    node.hold("qwen")
    assert place.admin.acceleration("qwen", "zj-1")["state"] == "active"
    place.admin.refresh("qwen", "zj-1")
    assert node.publish("qwen", b"another list") == 2
    node.hold("qwen")
    assert place.admin.acceleration("qwen", "zj-1")["current"] == 2


@JUMPS
def test_a_creation_that_is_sent_again_after_a_jump_is_done_once_or_told(place: Place, jump: timedelta) -> None:
    made = place.admin.create_region({"name": "zj-2"}, "a-key")
    _jump(place, jump / 2)
    assert place.admin.create_region({"name": "zj-2"}, "a-key") == made


def test_events_of_before_and_after_are_all_listed_once(place: Place) -> None:
    names = [f"r{number}" for number in range(12)]
    for number, name in enumerate(names):
        place.control.clock.advance(-timedelta(hours=1) if number % 3 else timedelta(hours=2))
        place.admin.create_region({"name": name})
    found: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = place.admin._document("GET", "/v1/events", params={"noun": "region", "limit": "5", **after})
        found += [event["object_name"] for event in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert sorted(found) == sorted(names)


@JUMPS
def test_a_join_token_and_a_new_token_last_as_long_as_they_say(place: Place, node: SimulatedNode, jump: timedelta) -> None:
    _jump(place, jump)
    join, made = place.admin.create_join_token("zj-1", 60)["token"], place.admin.create_token({"name": "x", "subject": "x", "lasts_seconds": 60})
    with place.control.client(join) as joining, place.control.client(made["token"]) as client:
        assert list(client.volumes()) == []
        _jump(place, timedelta(seconds=61))
        for refused in (lambda: joining.enrol("late", {}, TOLD), lambda: list(client.volumes())):
            with pytest.raises(ControlFailure) as caught:
                refused()
            assert caught.value.code == "unauthenticated"


def test_a_lease_lasts_no_longer_for_a_clock_that_was_set_back(place: Place, node: SimulatedNode) -> None:
    """Neither one that is renewed afterwards, nor one whose holder has died meanwhile."""
    place.admin.start_acceleration("qwen", {"region": "zj-1"})
    node.publish("qwen", b"list")
    node.hold("qwen")
    renewed, dead = (place.admin.create_task({"region": "zj-1", "mounts": [{"volume": "qwen", "path": "/mnt/a"}]})["id"] for _ in range(2))
    _jump(place, -DAY)
    place.admin.renew_task(renewed, 1)
    plane = place.control.plane

    def states() -> list[str]:
        asyncio.run_coroutine_threadsafe(sweep_leases(plane.database, plane.clock), place.control.loop).result(30)
        return [place.admin.task(task)["state"] for task in (renewed, dead)]

    assert states() == ["running", "running"]
    place.control.clock.advance(timedelta(seconds=119))
    place.admin.renew_task(renewed, 1)
    place.control.clock.advance(timedelta(seconds=2))
    assert states() == ["running", "ended"]
    place.control.clock.advance(timedelta(seconds=120))
    assert states() == ["ended", "ended"]

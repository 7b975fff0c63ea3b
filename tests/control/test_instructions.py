"""What nodes should do is kept ready, and what they tell again is noted for all at once: neither may differ from doing it for each."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import pytest

from control.conftest import Origins, Place
from headrace.control import settings
from headrace.control.accelerations import changes, queries
from headrace.control.accelerations.node_documents import Item, OriginDocument, comparison, shared_item, warmup
from headrace.control.accelerations.placement import Candidate
from headrace.control.accelerations.sweeping import candidates
from headrace.control.comparisons import service as comparisons
from headrace.control.nodes import service as nodes
from headrace.control.server import _listen
from headrace.control.volumes import service as volumes
from headrace.control.warmups import service as warmups
from headrace.testing.nodes import SimulatedNode
from headrace.testing.waiting import wait_until

T = TypeVar("T")


@pytest.fixture
def two(place: Place, origins: Origins) -> Iterator[list[SimulatedNode]]:
    """A region with two nodes, and two volumes, one of them active."""
    place.admin.create_region({"name": "zj-1"})
    for name in ("qwen", "llama"):
        place.admin.create_volume(origins.volume(name))
    both = [SimulatedNode.join(place.admin, "zj-1", f"gpu-{number}", gpu="H800") for number in (1, 2)]
    place.admin.start_acceleration("qwen", {"region": "zj-1"})
    _lister(both, "qwen").publish("qwen", b"list 1")
    for node in both:
        node.hold("qwen")
    yield both
    for node in both:
        node.client.close()


def _lister(both: list[SimulatedNode], volume: str) -> SimulatedNode:
    return next(node for node in both if node.items()[volume]["list"] is not None)


def _do(place: Place, work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, place.control.loop).result(30)


async def _plainly(place: Place, node_id: str, region_id: str) -> list[dict[str, Any]]:
    """What a node should do, asked for each acceleration."""
    plane = place.control.plane
    async with plane.database.reading() as session:
        compared, warmed = await comparisons.asked_of(session, node_id), await warmups.asked_of(session, node_id)
        there: list[Candidate] = await candidates(session, plane.clock, region_id)
        found = []
        for row in await queries.in_region(session, region_id):
            origin = OriginDocument(**volumes.for_nodes(await volumes.by_id(session, row.volume_id)))
            version = row.pulling if row.pulling is not None else row.current
            holds = version is not None and node_id in changes.holding_nodes(row, there)
            shared = shared_item(row, origin, await queries.versions_of(session, row.id))
            listing = row.listing if row.lister == node_id else None
            warm, compare = [warmup(one) for one in warmed.get(row.id, ())], compared.get(row.id)
            own = {"list": listing, "hold": version if holds else None, "warm": warm, "compare": comparison(compare) if compare else None}
            found.append(Item(**shared.model_dump(), **own).model_dump())
    return found


def _same(place: Place, both: list[SimulatedNode]) -> list[dict[str, Any]]:
    """What the nodes are told, which is what they should be."""
    shown = {one["name"]: one["id"] for one in place.admin.nodes()}
    told: list[dict[str, Any]] = []
    for node in both:
        said = node.client.desired()["accelerations"]

        async def plainly(node: SimulatedNode = node) -> list[dict[str, Any]]:
            async with place.control.plane.database.reading() as session:
                region_id = (await nodes.find(session, shown[node.name])).region_id
            return await _plainly(place, shown[node.name], region_id)

        assert sorted(said, key=lambda one: one["id"]) == sorted(_do(place, plainly()), key=lambda one: one["id"])
        told += said
    return told


def test_every_change_is_told_as_if_nothing_were_kept(place: Place, two: list[SimulatedNode]) -> None:
    shown = list(place.admin.nodes())
    steps: list[Callable[[], object]] = [
        lambda: place.admin.start_acceleration("llama", {"region": "zj-1", "placement": {"kind": "number", "number": 1}}),
        lambda: _lister(two, "llama").publish("llama", b"another list"),
        lambda: place.admin.label_version("qwen", "zj-1", 1, "stable"),
        lambda: place.admin.compare("qwen", "zj-1"),
        lambda: place.admin.start_warmup("qwen", "zj-1", {"selection": {"kind": "patterns", "include": ["*.json"]}}),
        lambda: place.admin.refresh("qwen", "zj-1", at_once=True),
        lambda: _lister(two, "qwen").publish("qwen", b"list 2"),
        lambda: [node.hold("qwen") for node in two],
        lambda: place.admin.roll_back("qwen", "zj-1", 1),
        lambda: place.admin.drain_node(shown[0]["id"]),
        lambda: place.admin.release("qwen", "zj-1"),
        lambda: place.admin.cancel_pull("llama", "zj-1"),
    ]
    before = _same(place, two)
    for step in steps:
        step()
        after = _same(place, two)
        assert after != before
        before = after


def test_a_node_that_is_lost_holds_nothing_new(place: Place, two: list[SimulatedNode]) -> None:
    place.control.clock.advance(timedelta(seconds=30))
    two[0].client.heartbeat({"version": "1"})
    assert [node.items()["qwen"]["hold"] for node in two] == [1, 1]
    place.control.clock.advance(timedelta(seconds=31))
    assert [node.items()["qwen"]["hold"] for node in two] == [1, None]
    _same(place, two)


def test_new_keys_wake_those_who_wait(place: Place, origins: Origins, two: list[SimulatedNode]) -> None:
    before = two[0].client.desired()["version"]
    keys = {"access_key": origins.access.access_key, "secret_key": origins.access.secret_key}
    place.admin.rotate_credentials("qwen", keys)
    said = two[0].client.desired(before, 20)
    assert (said["version"] > before, said["accelerations"][0]["origin"]["revision"]) == (True, 2)


def test_what_is_told_again_changes_nothing_but_when(place: Place, two: list[SimulatedNode]) -> None:
    before = place.admin.acceleration("qwen", "zj-1")
    place.control.clock.advance(timedelta(seconds=5))
    two[0].hold("qwen")
    after = place.admin.acceleration("qwen", "zj-1")
    assert [one["told"] for one in before["nodes"]] != [one["told"] for one in after["nodes"]]
    for shown in (before, after):
        for part in ("nodes", "expires_in_seconds", "released_in_seconds"):
            del shown[part]
    assert before == after


def test_what_is_news_is_taken_although_the_rest_is_told_again(place: Place, two: list[SimulatedNode]) -> None:
    two[1].hold("qwen", done=60)  # a scrubber has dropped some
    assert place.admin.acceleration("qwen", "zj-1")["bytes_held"] == 160
    two[1].hold("qwen", done=60, error="the disk is full")
    assert [one["error"] for one in place.admin.acceleration("qwen", "zj-1")["nodes"] if one["error"]] == ["the disk is full"]
    two[1].hold("qwen")
    assert place.admin.acceleration("qwen", "zj-1")["bytes_held"] == 200


def test_what_a_node_of_another_region_tells_is_nothing(place: Place, two: list[SimulatedNode]) -> None:
    item = two[0].items()["qwen"]
    place.admin.create_region({"name": "bj-1"})
    with SimulatedNode.join(place.admin, "bj-1", "far").client as far:
        said = {"acceleration": item["id"], "version": 1, "files": 2, "files_total": 2, "bytes": 100, "bytes_total": 100, "complete": True}
        for _ in range(2):
            far.progress([said])
    wait_until(lambda: len(place.admin.acceleration("qwen", "zj-1")["nodes"]) == 2, "two nodes hold it")


def test_answers_leave_at_once() -> None:
    with _listen(settings.load({"control_listen": "127.0.0.1:0"}, {})) as listening:
        listening.settimeout(20)
        with socket.create_connection(listening.getsockname()[:2]):
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

"""Warm-ups: chosen data of a version goes to chosen nodes, once; what nobody gets further with ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control.warmups.sweeping import sweep_warmups
from headrace.testing.nodes import SimulatedNode


@pytest.fixture
def one(place: Place, origins: Origins) -> Iterator[SimulatedNode]:
    """A region with a node, and a volume whose files are listed there and not pulled."""
    place.admin.create_region({"name": "zj-1"})
    place.admin.create_volume(origins.volume("qwen"))
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1", gpu="H800")
    with node.client:
        place.admin.start_acceleration("qwen", {"region": "zj-1", "selection": {"kind": "metadata"}})
        node.publish("qwen", b"list 1")
        node.hold("qwen", done=0, total=0)
        yield node


def _warm(place: Place, **said: object) -> dict[str, Any]:
    return place.admin.start_warmup("qwen", "zj-1", said)


def _asked(node: SimulatedNode) -> list[dict[str, Any]]:
    return list(node.items()["qwen"]["warm"])


def _tell(node: SimulatedNode, warmup: str, *, done: int, version: int = 1, error: str = "") -> None:
    said = {"acceleration": warmup, "version": version, "files": 1, "files_total": 2, "bytes": done, "bytes_total": 100}
    node.client.progress([{**said, "complete": done == 100, "error": error}])


def _sweep(place: Place, **after: float) -> None:
    place.control.clock.advance(timedelta(**after))
    plane = place.control.plane
    asyncio.run_coroutine_threadsafe(sweep_warmups(plane.database, plane.clock), place.control.loop).result(30)


def _refused(call: object, code: str) -> None:
    with pytest.raises(ControlFailure) as caught:
        call()  # type: ignore[operator]
    assert caught.value.code == code


def test_the_whole_way(place: Place, one: SimulatedNode) -> None:
    begun = _warm(place, selection={"kind": "patterns", "include": ["*.safetensors"]})
    assert (begun["state"], begun["version"], len(begun["nodes"])) == ("running", 1, 1)
    asked = _asked(one)
    assert [(item["id"], item["version"], item["selection"]["include"]) for item in asked] == [(begun["id"], 1, ["*.safetensors"])]
    _tell(one, begun["id"], done=40)
    shown = place.admin.warmup(begun["id"])
    assert (shown["bytes"], shown["bytes_total"], shown["state"], shown["seconds_left"] > 0) == (40, 100, "running", True)
    _tell(one, begun["id"], done=100)
    assert (place.admin.warmup(begun["id"])["state"], place.admin.warmup(begun["id"])["end"]) == ("ended", "done")
    assert _asked(one) == []
    assert place.admin.acceleration("qwen", "zj-1")["bytes_held"] == 0
    assert [event["kind"] for event in place.admin.events(noun="warm-up")] == ["warmup-done", "warmup-started"]


def test_nodes_are_chosen_by_id_or_label(place: Place, one: SimulatedNode) -> None:
    with SimulatedNode.join(place.admin, "zj-1", "gpu-2", gpu="A100").client as client:
        other = SimulatedNode(client, "gpu-2")
        ids = {shown["name"]: shown["id"] for shown in place.admin.nodes()}
        assert {node["node_id"] for node in _warm(place)["nodes"]} == set(ids.values())
        by_label = _warm(place, labels={"gpu": "A100"})
        assert [node["node_id"] for node in by_label["nodes"]] == [ids["gpu-2"]]
        by_id = _warm(place, nodes=[ids["gpu-1"]])
        assert [node["node_id"] for node in by_id["nodes"]] == [ids["gpu-1"]]
        assert by_id["id"] not in [item["id"] for item in _asked(other)]
        _refused(lambda: _warm(place, labels={"gpu": "none"}), "no-nodes")
        _refused(lambda: _warm(place, nodes=["nobody"]), "not-found")
        place.admin.drain_node(ids["gpu-1"])
        _refused(lambda: _warm(place, nodes=[ids["gpu-1"]]), "not-found")


def test_a_version_that_is_not_kept_or_not_published_is_refused(place: Place, one: SimulatedNode, origins: Origins) -> None:
    assert _warm(place, version="v1")["version"] == 1
    _refused(lambda: _warm(place, version="v9"), "not-found")
    place.admin.create_volume(origins.volume("idle"))
    _refused(lambda: place.admin.start_warmup("idle", "zj-1", {}), "state-forbids")
    place.admin.start_acceleration("idle", {"region": "zj-1"})
    _refused(lambda: place.admin.start_warmup("idle", "zj-1", {}), "not-found")


def test_what_stalls_or_loses_its_version_ends(place: Place, one: SimulatedNode) -> None:
    stalled = _warm(place)
    _tell(one, stalled["id"], done=10, error="the disk is full")
    _sweep(place, minutes=9)
    assert place.admin.warmup(stalled["id"])["state"] == "running"
    _sweep(place, minutes=2)
    shown = place.admin.warmup(stalled["id"])
    assert (shown["end"], shown["nodes"][0]["error"]) == ("stalled", "the disk is full")
    one.client.heartbeat({"version": "1"})
    gone = _warm(place)
    place.admin.release("qwen", "zj-1")
    _sweep(place)
    assert place.admin.warmup(gone["id"])["end"] == "gone"


def test_cancelled_is_over_and_what_a_node_tells_late_changes_nothing(place: Place, one: SimulatedNode) -> None:
    begun = _warm(place)
    assert place.admin.cancel_warmup(begun["id"])["end"] == "cancelled"
    _tell(one, begun["id"], done=100)
    assert place.admin.warmup(begun["id"])["end"] == "cancelled"
    assert _asked(one) == []


def test_users_see_those_of_own_volumes(place: Place, one: SimulatedNode) -> None:
    begun = _warm(place)
    with place.user("ann") as ann:
        assert list(ann.warmups()) == []
        for call in (ann.warmup, ann.cancel_warmup):
            _refused(lambda call=call: call(begun["id"]), "not-found")  # type: ignore[misc]
        _refused(lambda: ann.start_warmup("qwen", "zj-1", {}), "not-found")
    assert [shown["id"] for shown in place.admin.warmups(region="zj-1", ended="false")] == [begun["id"]]


def test_the_same_creation_again_makes_one(place: Place, one: SimulatedNode) -> None:
    assert place.admin.start_warmup("qwen", "zj-1", {}, "k")["id"] == place.admin.start_warmup("qwen", "zj-1", {}, "k")["id"]


def test_a_node_that_is_removed_is_waited_for_no_longer(place: Place, one: SimulatedNode) -> None:
    begun = _warm(place)
    place.admin.remove_node(begun["nodes"][0]["node_id"])
    assert place.admin.warmup(begun["id"])["nodes"] == []
    _sweep(place)
    assert place.admin.warmup(begun["id"])["end"] == "gone"

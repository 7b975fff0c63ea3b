"""What a refresh would bring: a node compares and nothing is published; an answer of a node that is not asked any more is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control.comparisons.sweeping import sweep_comparisons
from headrace.testing.nodes import SimulatedNode

FOUND = {"new": 2, "changed": 0, "gone": 1, "files": 3, "bytes": 300, "new_paths": ["a", "b\n\x1b"], "gone_paths": ["c"]}


@pytest.fixture
def one(place: Place, origins: Origins) -> Iterator[SimulatedNode]:
    """A region with a node, and a volume that is active there."""
    place.admin.create_region({"name": "zj-1"})
    place.admin.create_volume(origins.volume("qwen"))
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1")
    with node.client:
        place.admin.start_acceleration("qwen", {"region": "zj-1"})
        node.publish("qwen", b"list 1")
        node.hold("qwen")
        yield node


def _asked(node: SimulatedNode) -> dict[str, Any]:
    asked: dict[str, Any] = node.items()["qwen"]["compare"]
    return asked


def _sweep(place: Place, **after: float) -> None:
    place.control.clock.advance(timedelta(**after))
    plane = place.control.plane
    asyncio.run_coroutine_threadsafe(sweep_comparisons(plane.database, plane.clock), place.control.loop).result(30)


def _stale(call: object) -> None:
    with pytest.raises(ControlFailure) as refused:
        call()  # type: ignore[operator]
    assert refused.value.code == "stale-listing"


def test_a_node_compares_and_nothing_changes(place: Place, one: SimulatedNode) -> None:
    before = place.admin.acceleration("qwen", "zj-1")["revision"]
    begun = place.admin.compare("qwen", "zj-1")
    assert (begun["state"], begun["version"]) == ("running", 1)
    assert place.admin.compare("qwen", "zj-1")["id"] == begun["id"]
    asked = _asked(one)
    one.client.answer_comparison(asked["id"], {"lease": asked["lease"], "found": FOUND})
    done = place.admin.comparison("qwen", "zj-1", begun["id"])
    assert (done["state"], done["found"]["new"], done["found"]["gone_paths"]) == ("done", 2, ["c"])
    assert "\n" not in done["found"]["new_paths"][1]
    assert _asked(one) is None
    assert place.admin.acceleration("qwen", "zj-1")["revision"] == before
    assert len(place.admin.versions("qwen", "zj-1")) == 1
    _stale(lambda: one.client.answer_comparison(asked["id"], {"lease": asked["lease"], "found": FOUND}))


def test_a_node_that_can_not_list_says_why(place: Place, one: SimulatedNode) -> None:
    begun = place.admin.compare("qwen", "zj-1")
    asked = _asked(one)
    for wrong in ({}, {"found": FOUND, "error": "both"}):
        with pytest.raises(ControlFailure) as refused:
            one.client.answer_comparison(asked["id"], {"lease": asked["lease"], **wrong})
        assert refused.value.code == "invalid"
    one.client.answer_comparison(asked["id"], {"lease": asked["lease"], "error": "the bucket is gone"})
    failed = place.admin.comparison("qwen", "zj-1", begun["id"])
    assert (failed["state"], failed["error"]) == ("failed", "the bucket is gone")


def test_another_node_is_asked_when_the_first_is_gone(place: Place, one: SimulatedNode) -> None:
    place.admin.compare("qwen", "zj-1")
    before = _asked(one)
    with SimulatedNode.join(place.admin, "zj-1", "gpu-2").client as client:
        other = SimulatedNode(client, "gpu-2")
        place.control.clock.advance(timedelta(minutes=5))
        client.heartbeat({"version": "1"})
        _sweep(place)
        asked = _asked(other)
        assert (asked["id"], asked["lease"]) == (before["id"], 2)
        _stale(lambda: one.client.answer_comparison(before["id"], {"lease": 1, "found": FOUND}))
        client.answer_comparison(asked["id"], {"lease": 2, "found": FOUND})


def test_one_that_nobody_answers_fails_by_itself(place: Place, one: SimulatedNode) -> None:
    begun = place.admin.compare("qwen", "zj-1")
    _sweep(place, minutes=11)
    assert place.admin.comparison("qwen", "zj-1", begun["id"])["state"] == "failed"


def test_it_is_possible_where_a_refresh_is(place: Place, one: SimulatedNode) -> None:
    place.admin.refresh("qwen", "zj-1")
    with pytest.raises(ControlFailure) as refused:
        place.admin.compare("qwen", "zj-1")
    assert refused.value.code == "state-forbids"
    with place.user("ann") as ann, pytest.raises(ControlFailure) as hidden:
        ann.compare("qwen", "zj-1")
    assert hidden.value.code == "not-found"

"""Long operations tell of themselves as server-sent events, until they are over; a stream is bounded, and refused as any other question."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control import streams
from headrace.testing.nodes import SimulatedNode


@pytest.fixture
def database() -> None:
    """SQLite: a stream reads as any other question does."""
    return


@pytest.fixture
def one(place: Place, origins: Origins) -> Iterator[SimulatedNode]:
    """A region with a node, and a volume that it lists."""
    place.admin.create_region({"name": "zj-1"})
    place.admin.create_volume(origins.volume("qwen"))
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1")
    with node.client:
        place.admin.start_acceleration("qwen", {"region": "zj-1"})
        yield node


def test_a_pull_is_followed_to_its_end(place: Place, one: SimulatedNode) -> None:
    seen: list[dict[str, Any]] = []
    began = threading.Event()

    def follow() -> None:
        with place.control.client(place.admin._http.headers["authorization"].removeprefix("Bearer ")) as client:
            for shown in client.follow("volumes", "qwen", "accelerations", "zj-1"):
                seen.append(shown)
                began.set()

    following = threading.Thread(target=follow)
    following.start()
    assert began.wait(20)
    one.publish("qwen", b"list 1")
    one.hold("qwen")
    following.join(20)
    assert not following.is_alive()
    assert (seen[0]["state"], seen[-1]["state"], seen[-1]["bytes_held"]) == ("syncing", "active", 100)


def test_what_is_over_ends_at_once(place: Place, one: SimulatedNode) -> None:
    one.publish("qwen", b"list 1")
    one.hold("qwen")
    assert [shown["state"] for shown in place.admin.follow("volumes", "qwen", "accelerations", "zj-1")] == ["active"]
    task = place.admin.create_task({"region": "zj-1", "mounts": [{"volume": "qwen", "path": "/mnt/a"}]})
    assert [shown["state"] for shown in place.admin.follow("tasks", task["id"])] == ["running"]
    warmup = place.admin.start_warmup("qwen", "zj-1", {})
    place.admin.cancel_warmup(warmup["id"])
    assert [shown["end"] for shown in place.admin.follow("warmups", warmup["id"])] == ["cancelled"]


def test_a_comparison_is_followed(place: Place, one: SimulatedNode) -> None:
    one.publish("qwen", b"list 1")
    one.hold("qwen")
    begun = place.admin.compare("qwen", "zj-1")
    shown = place.admin.follow("volumes", "qwen", "accelerations", "zj-1", "comparisons", begun["id"])
    assert next(shown)["state"] == "running"
    asked = one.items()["qwen"]["compare"]
    one.client.answer_comparison(asked["id"], {"lease": asked["lease"], "error": "no"})
    assert [one["state"] for one in shown][-1] == "failed"


def test_a_pull_that_is_cancelled_ends_its_stream(place: Place, one: SimulatedNode) -> None:
    shown = place.admin.follow("volumes", "qwen", "accelerations", "zj-1")
    assert next(shown)["state"] == "syncing"
    place.admin.cancel_pull("qwen", "zj-1")
    assert [(one["state"], one["condition"]) for one in shown][-1] == ("idle", "failed")


def test_a_stream_has_an_end_and_goes_on_with_another(place: Place, one: SimulatedNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_LONGEST_SECONDS", 0.0)
    shown = place.admin.follow("volumes", "qwen", "accelerations", "zj-1")
    assert [next(shown)["state"] for _ in range(3)] == ["syncing"] * 3


def test_streams_are_refused_as_other_questions_are(place: Place, one: SimulatedNode) -> None:
    with place.user("ann") as ann, pytest.raises(ControlFailure) as hidden:
        next(ann.follow("volumes", "qwen", "accelerations", "zj-1"))
    assert hidden.value.code == "not-found"
    with place.control.client("nobody") as stranger, pytest.raises(ControlFailure) as unknown:
        next(stranger.follow("volumes", "qwen", "accelerations", "zj-1"))
    assert unknown.value.code == "unauthenticated"
    place.control.plane.streams._value = 0
    with pytest.raises(ControlFailure) as many:
        next(place.admin.follow("volumes", "qwen", "accelerations", "zj-1"))
    assert many.value.code == "too-many-streams"

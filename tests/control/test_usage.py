"""加速用量 over time: counted once by whoever comes first, kept after release, and nobody's who may not see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control.background import count_usage
from headrace.testing.nodes import SimulatedNode

GIB = 1 << 30


@pytest.fixture
def one(place: Place, origins: Origins) -> Iterator[SimulatedNode]:
    """A region whose node holds a GiB of a volume."""
    place.admin.create_region({"name": "zj-1"})
    place.admin.create_volume(origins.volume("qwen"))
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1")
    with node.client:
        place.admin.start_acceleration("qwen", {"region": "zj-1"})
        node.publish("qwen", b"list 1")
        node.hold("qwen", done=GIB, total=GIB)
        _count(place)
        yield node


def _count(place: Place, **after: float) -> None:
    place.control.clock.advance(timedelta(**after))
    asyncio.run_coroutine_threadsafe(count_usage(place.control.plane), place.control.loop).result(30)


def _hour(place: Place) -> None:
    """To a whole hour, so that what follows lies in one."""
    now = place.control.clock.now()
    _count(place, seconds=(datetime.max.replace(tzinfo=now.tzinfo) - now).total_seconds() % 3600 + 1)


def test_what_is_held_is_counted_by_the_hour(place: Place, one: SimulatedNode) -> None:
    _hour(place)
    before = sum(hour["byte_hours"] for hour in place.admin.usage())
    for _ in range(20):
        _count(place, minutes=3)
    _count(place)  # another replica, at the same moment
    found = list(place.admin.usage())
    assert (found[-1]["volume"], found[-1]["region"], found[-1]["bytes_max"]) == ("qwen", "zj-1", GIB)
    assert sum(hour["byte_hours"] for hour in found) - before == pytest.approx(GIB, rel=1e-3)
    assert [hour["hour"] for hour in found] == sorted(hour["hour"] for hour in found)


def test_what_was_released_and_deleted_stays(place: Place, one: SimulatedNode) -> None:
    _count(place, minutes=2)
    place.admin.release("qwen", "zj-1")
    place.admin.delete_volume("qwen")
    before = list(place.admin.usage())
    assert before[0]["volume"] == "qwen"
    _count(place, minutes=4)
    assert list(place.admin.usage()) == before


def test_a_time_that_nobody_looked_is_not_counted(place: Place, one: SimulatedNode) -> None:
    _count(place, hours=5)
    assert sum(hour["byte_hours"] for hour in place.admin.usage()) <= GIB * 6 / 60


def test_a_clock_that_is_set_back_counts_nothing_twice(place: Place, one: SimulatedNode) -> None:
    _count(place, minutes=2)
    before = sum(hour["byte_hours"] for hour in place.admin.usage())
    _count(place, hours=-3)
    assert sum(hour["byte_hours"] for hour in place.admin.usage()) == before
    _count(place, minutes=2)
    assert sum(hour["byte_hours"] for hour in place.admin.usage()) == pytest.approx(before + GIB * 2 / 60, rel=1e-3)


def test_filters_and_who_may(place: Place, one: SimulatedNode) -> None:
    _count(place, minutes=2)
    assert list(place.admin.usage(volume="other")) == []
    assert list(place.admin.usage(region="bj-1")) == []
    assert list(place.admin.usage(until="2026-01-01T00:00:00Z")) == []
    assert len(list(place.admin.usage(since="2026-01-01T00:00:00", volume="qwen", region="zj-1"))) >= 1
    with place.user("ann") as ann, place.user("bob", "volumes:read") as bob:
        assert list(ann.usage()) == []
        with pytest.raises(ControlFailure, match="usage:read"):
            list(bob.usage())
    for wrong in ("yesterday", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"):
        with pytest.raises(ControlFailure) as refused:
            list(place.admin.usage(since=wrong))
        assert refused.value.code == "invalid"

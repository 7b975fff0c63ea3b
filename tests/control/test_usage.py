"""加速用量 over time: counted once by whoever comes first, kept after release, and nobody's who may not see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control.background import count_usage
from headrace.testing.nodes import SimulatedNode
from support.standing import stand

GIB = 1 << 30


@pytest.fixture
def begin() -> float:
    """How many seconds of an hour are over when a test begins."""
    return 3570.5


@pytest.fixture
def one(place: Place, origins: Origins, begin: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedNode]:
    """A region whose node holds a GiB of a volume, of which nothing is counted yet."""
    # More than an hour ahead: whatever was counted at the start is too long ago to be left as it is.
    hour = place.control.clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
    stand(monkeypatch, place.control.clock, hour + timedelta(seconds=begin))
    _count(place)  # what follows is counted from here on
    place.admin.create_region({"name": "zj-1"})
    place.admin.create_volume(origins.volume("qwen"))
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1")
    with node.client:
        place.admin.start_acceleration("qwen", {"region": "zj-1"})
        node.publish("qwen", b"list 1")
        node.hold("qwen", done=GIB, total=GIB)
        yield node


def _count(place: Place, **after: float) -> None:
    place.control.clock.advance(timedelta(**after))
    asyncio.run_coroutine_threadsafe(count_usage(place.control.plane), place.control.loop).result(30)


@pytest.mark.parametrize("begin", [0.0, 0.001, 1800.0, 3540.0, 3570.5, 3599.999])
def test_what_is_held_is_counted_by_the_hour(place: Place, one: SimulatedNode, begin: float) -> None:
    for _ in range(20):
        _count(place, minutes=3)
    _count(place)  # another replica, at the same moment
    found = list(place.admin.usage())
    assert (found[-1]["volume"], found[-1]["region"], found[-1]["bytes_max"]) == ("qwen", "zj-1", GIB)
    counted = [hour["byte_hours"] for hour in found]
    # An hour, from where it began: a part in its own hour, and what is left in the next.
    expected = [part * GIB / 3600 for part in (3600 - begin, begin) if part]
    assert counted == pytest.approx(expected, abs=20 * 1024 / 3600)  # each count to the KiB times second
    assert sum(counted) == pytest.approx(GIB, rel=1e-6)
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
    assert sum(hour["byte_hours"] for hour in place.admin.usage()) == pytest.approx(GIB * 5 / 60, rel=1e-3)


def test_a_clock_that_is_set_back_counts_nothing_twice(place: Place, one: SimulatedNode) -> None:
    _count(place, minutes=2)
    before = sum(hour["byte_hours"] for hour in place.admin.usage())
    _count(place, hours=-3)
    assert sum(hour["byte_hours"] for hour in place.admin.usage()) == before > 0
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

"""加速用量 over time: counted once by whoever comes first, kept after release, and nobody's who may not see it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control.background import Work, count_usage, forget_what_is_over
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
    _run(place, count_usage)


def _run(place: Place, work: Work) -> None:
    asyncio.run_coroutine_threadsafe(_once(place, work), place.control.loop).result(30)


async def _once(place: Place, work: Work) -> None:
    await work(place.control.plane)


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


# What nodes moved


def _moved(place: Place, **filters: str) -> tuple[int, int, int]:
    """Over all hours: received, served, opened."""
    found = list(place.admin.usage(**filters))
    return tuple(sum(hour[name] for hour in found) for name in ("origin_bytes", "served_bytes", "opened_bytes"))  # type: ignore[return-value]


def _volume_id(node: SimulatedNode) -> str:
    return str(node.items()["qwen"]["origin"]["volume_id"])


def test_what_was_moved_is_counted_by_the_hour(place: Place, one: SimulatedNode) -> None:
    one.move("qwen", 1000, 100, 10)
    (hour,) = place.admin.usage()
    assert (hour["volume"], hour["region"], hour["owner"], hour["byte_hours"], hour["bytes_max"]) == ("qwen", "zj-1", "admin", 0, 0)
    assert (hour["origin_bytes"], hour["served_bytes"], hour["opened_bytes"]) == (1000, 100, 10)
    _count(place, minutes=4)  # in the next hour, and what was held in both
    one.move("qwen", 1500, 100, 30)
    first, second = place.admin.usage()
    assert [first["byte_hours"] > 0, second["byte_hours"] > 0] == [True, True]
    assert (first["origin_bytes"], first["served_bytes"], first["opened_bytes"]) == (1000, 100, 10)
    assert (second["origin_bytes"], second["served_bytes"], second["opened_bytes"]) == (500, 0, 20)


def test_reports_that_are_lost_repeated_or_late_lose_and_double_nothing(place: Place, one: SimulatedNode) -> None:
    one.move("qwen", 1000, 100, 10)
    for _ in range(2):
        one.move("qwen", 5000, 500, 50)  # one in between was lost
    one.move("qwen", 3000, 300, 30)
    one.move("qwen", 4000, 600, 40)  # of one that is late, what is not known yet
    assert _moved(place) == (5000, 600, 50)
    # The same volume twice in one report.
    said = {"volume": _volume_id(one), "origin_bytes": 6000}
    one.client.tell_traffic(one.epoch, [said, {**said, "origin_bytes": 5500}, said])
    assert _moved(place) == (6000, 600, 50)


def test_a_node_that_restarted_begins_anew_and_what_it_told_before_may_come_late(place: Place, one: SimulatedNode) -> None:
    one.move("qwen", 1000)
    first = one.epoch
    for number in range(1, 4):
        one.epoch = f"{number:032x}"
        one.move("qwen", 10)
    assert _moved(place)[0] == 1030
    one.epoch = first
    one.move("qwen", 1000)
    one.move("qwen", 1001)
    assert _moved(place)[0] == 1031


def test_a_node_that_restarts_for_ever_leaves_little_behind(place: Place, one: SimulatedNode) -> None:
    for number in range(10):
        one.epoch = f"{number:032x}"
        one.move("qwen", 10)
    assert _moved(place)[0] == 100
    assert _rows(place) == 4


def _rows(place: Place) -> int:
    """Rows of what nodes told."""

    async def count() -> int:
        async with place.control.plane.database.reading() as session:
            return len((await session.execute(text("SELECT node_id FROM usage_told"))).all())

    return asyncio.run_coroutine_threadsafe(count(), place.control.loop).result(30)


def test_nodes_are_counted_each(place: Place, one: SimulatedNode) -> None:
    with SimulatedNode.join(place.admin, "zj-1", "gpu-2").client as client:
        other = SimulatedNode(client, "gpu-2", epoch=one.epoch)  # an epoch is a node's own, whatever it is called
        one.move("qwen", 1000)
        other.move("qwen", 200)
        one.move("qwen", 1001)
    assert _moved(place)[0] == 1201


def test_only_what_is_accelerated_in_the_nodes_region_is_counted(place: Place, one: SimulatedNode) -> None:
    place.admin.create_region({"name": "bj-1"})
    with SimulatedNode.join(place.admin, "bj-1", "gpu-9").client as elsewhere:
        for volume in (_volume_id(one), "no-such-volume"):
            elsewhere.tell_traffic(one.epoch, [{"volume": volume, "origin_bytes": 1000}])
        elsewhere.tell_traffic(one.epoch, [])
    assert list(place.admin.usage()) == []
    assert _rows(place) == 0


def test_a_removed_node_and_a_deleted_volume_leave_what_was_counted_and_nothing_else(place: Place, one: SimulatedNode) -> None:
    with SimulatedNode.join(place.admin, "zj-1", "gpu-2").client as client:
        SimulatedNode(client, "gpu-2").move("qwen", 200)
        one.move("qwen", 1000)
        node = next(node for node in place.admin.nodes() if node["name"] == "gpu-2")
        place.admin.remove_node(node["id"])
        with pytest.raises(ControlFailure) as refused:
            client.tell_traffic(one.epoch, [])
        assert refused.value.code == "unauthenticated"
    assert _rows(place) == 1
    volume = _volume_id(one)
    place.admin.release("qwen", "zj-1")
    # What was released may have been read until then.
    one.client.tell_traffic(one.epoch, [{"volume": volume, "origin_bytes": 1001}])
    place.admin.delete_volume("qwen")
    one.client.tell_traffic(one.epoch, [{"volume": volume, "origin_bytes": 1002}])
    _run(place, forget_what_is_over)
    assert _rows(place) == 0
    assert _moved(place)[0] == 1201


WRONG: list[tuple[dict[str, object], str]] = [
    ({"volumes": [{"volume": "v", "origin_bytes": -1}]}, "volumes.0.origin_bytes"),
    ({"volumes": [{"volume": "v", "served_bytes": 2**62 + 1}]}, "volumes.0.served_bytes"),
    ({"volumes": [{"volume": "v", "opened_bytes": 10**400}]}, "volumes.0.opened_bytes"),
    ({"volumes": [{"volume": "v", "opened_bytes": 1.5}]}, "volumes.0.opened_bytes"),
    ({"volumes": [{"volume": "v\0"}]}, "volumes.0.volume"),
    ({"volumes": [{"volume": "v", "region": "bj-1"}]}, "volumes.0.region"),
    ({"volumes": [{"volume": "v"}] * 501}, "volumes"),
    ({"epoch": "1"}, "epoch"),
    ({"epoch": "g" * 32}, "epoch"),
    ({"epoch": "0" * 32 + "\n"}, "epoch"),
]


def test_what_no_node_counts_is_refused(place: Place) -> None:
    place.admin.create_region({"name": "zj-1"})
    with SimulatedNode.join(place.admin, "zj-1", "gpu-1").client as client:
        for changes, field in WRONG:
            with pytest.raises(ControlFailure) as refused:
                client._answer("POST", "/v1/node/traffic", json={"epoch": "0" * 32, "volumes": [], **changes})
            findings = refused.value.problem["fields"]
            assert (refused.value.code, [finding["field"] for finding in findings]) == ("invalid", [field])
            assert findings[0]["remedy"]["zh"]


def test_sums_stay_within_what_a_database_holds(place: Place, one: SimulatedNode) -> None:
    most = 2**62
    for number in range(3):
        one.epoch = f"{number:032x}"
        one.move("qwen", most, most, number)
    assert _moved(place) == (most, most, 3)


def test_many_nodes_tell_at_once_while_others_count(place: Place, one: SimulatedNode) -> None:
    """Rows of an hour are made by whoever comes first."""
    nodes = [SimulatedNode.join(place.admin, "zj-1", f"n{number}") for number in range(8)]

    def tell(node: SimulatedNode) -> None:
        for told in (10, 20, 30):
            node.move("qwen", told)

    with ThreadPoolExecutor() as pool:
        telling = [pool.submit(tell, node) for node in [*nodes, *nodes]]  # each at two replicas
        for _ in range(5):
            _count(place, minutes=1)
        for done in telling:
            done.result(30)
    for node in nodes:
        node.client.close()
    assert _moved(place)[0] == 8 * 30
    assert sum(hour["byte_hours"] for hour in place.admin.usage()) == pytest.approx(GIB * 5 / 60, rel=1e-3)

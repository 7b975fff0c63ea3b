"""Tasks, and who comes at the same moment: a request is stopped between two of its questions, and another one goes through meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control.accelerations import mounting, uses
from headrace.control.accelerations.sweeping import sweep_once
from headrace.control.regions import service as regions
from headrace.control.tasks import service
from headrace.control.tasks.sweeping import sweep_leases
from headrace.testing.nodes import SimulatedNode
from headrace.testing.postgres import Postgres

# How long the first stands when a lock of its own keeps the other out; a request takes less.
STANDS_SECONDS = 1.0

Stop = Callable[..., Callable[[], Any]]


@pytest.fixture
def database(database_server: Postgres) -> str:
    """PostgreSQL: what writes to SQLite comes one after another."""
    return database_server.create_database(f"races{secrets.token_hex(6)}")


@pytest.fixture
def node(place: Place, origins: Origins) -> Iterator[SimulatedNode]:
    """A region with a node that holds two volumes."""
    place.admin.create_region({"name": "zj-1"})
    one = SimulatedNode.join(place.admin, "zj-1", "gpu-1")
    with one.client:
        for name in ("qwen", "other"):
            place.admin.create_volume(origins.volume(name))
            place.admin.start_acceleration(name, {"region": "zj-1"})
            one.publish(name, name.encode())
            one.hold(name)
        yield one


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stop]:
    """`stop(owner, name, meanwhile)`: the first call of a function waits, when it has its answer, for `meanwhile`; gives how to get its result."""
    with ThreadPoolExecutor(4) as beside:

        def prepare(owner: Any, name: str, meanwhile: Callable[[], Any], *, before: bool = False, of: str = "") -> Callable[[], Any]:
            real, others = getattr(owner, name), list[Future[Any]]()

            async def stand() -> None:
                others.append(beside.submit(meanwhile))
                with contextlib.suppress(TimeoutError, ControlFailure):
                    await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(others[0])), STANDS_SECONDS)

            async def stopped(*arguments: Any, **named: Any) -> Any:
                first = not others and of in " ".join(map(str, arguments))
                if first and before:
                    await stand()
                found = await real(*arguments, **named)
                if first and not before:
                    await stand()
                return found

            monkeypatch.setattr(owner, name, stopped)
            return lambda: others[0].result(30)

        yield prepare


def _task(place: Place, *volumes: str, **more: object) -> dict[str, Any]:
    node = next(iter(place.admin.nodes()))["id"]
    mounts = [{"volume": name, "path": f"/mnt/{name}"} for name in volumes]
    return place.admin.create_task({"region": "zj-1", "node": node, "mounts": mounts, **more})


def _advance(place: Place, node: SimulatedNode, **by: float) -> None:
    place.control.clock.advance(timedelta(**by))
    node.client.heartbeat({"version": "1"})


def _do(place: Place, work: Any) -> None:
    asyncio.run_coroutine_threadsafe(work, place.control.loop).result(30)


def test_one_that_wakes_what_expires_and_one_that_ends(place: Place, node: SimulatedNode, stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first holds the region's row when it comes to its second volume, which the other holds while it comes to the region's row."""
    by_id = {place.admin.acceleration(name, "zj-1")["id"]: name for name in ("qwen", "other")}
    first, second = (by_id[identifier] for identifier in sorted(by_id))
    lives = _task(place, second, lasts_seconds=3600)
    for _ in range(30):
        _advance(place, node, minutes=55)
        place.admin.renew_task(lives["id"], 1)
    _do(place, sweep_once(place.control.plane.database, place.control.plane.clock))
    assert place.admin.acceleration(first, "zj-1")["state"] == "expiring"
    real = regions.tell

    async def slowly(session: Any, identifier: str) -> bool:
        await asyncio.sleep(STANDS_SECONDS / 2)
        return await real(session, identifier)

    monkeypatch.setattr(regions, "tell", slowly)
    ended = stop(mounting, "mount", lambda: place.admin.end_task(lives["id"]))
    assert _task(place, first, second)["state"] == "running"
    assert ended()["state"] == "ended"


def test_a_lease_that_is_taken_over_while_its_node_renews_it(place: Place, node: SimulatedNode, stop: Stop) -> None:
    made = _task(place, "qwen", lasts_seconds=30)
    taken = stop(AsyncSession, "scalars", lambda: place.admin.attach_task(made["id"], 3600), of="FROM tasks")
    node.client.tell_tasks([{"id": made["id"], "lease": 1}])
    shown = place.admin.task(made["id"])
    assert (shown["lease"], shown["lease_until"]) == (2, taken()["lease_until"])
    assert node.client.tell_tasks([{"id": made["id"], "lease": 1}]) == {"gone": [made["id"]]}


def test_a_task_that_ends_while_its_node_asks_what_it_mounts(place: Place, node: SimulatedNode, stop: Stop) -> None:
    made = _task(place, "qwen")
    stop(uses, "of_tasks", lambda: place.admin.end_task(made["id"]), before=True)
    with pytest.raises(ControlFailure) as caught:
        node.client.node_task(made["id"])
    assert caught.value.code == "not-found"


def test_a_task_that_revives_when_it_is_to_be_forgotten(place: Place, node: SimulatedNode, stop: Stop) -> None:
    made, plane = _task(place, "qwen"), place.control.plane
    _advance(place, node, seconds=130)
    _do(place, sweep_leases(plane.database, plane.clock))
    assert place.admin.task(made["id"])["end"] == "lease"
    _advance(place, node, days=7, seconds=5)

    async def forget() -> None:
        async with plane.database.writing() as session:
            await service.drop_old(session, plane.clock.now())

    told = stop(AsyncSession, "scalars", lambda: node.client.tell_tasks([{"id": made["id"], "lease": 1}]), of="FROM tasks")
    _do(place, forget())
    # It is either there, with what it uses, or gone.
    assert told() == {"gone": [made["id"]]}
    assert place.admin.acceleration("qwen", "zj-1")["tasks"] == 0

"""Every row of the two tables in docs/concepts/states.md, as the API answers: what each state allows, what it refuses, and what changes it.

Nodes only say that they hold things.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from control.conftest import DATABASES, Origins, Place, new_origins, open_place
from headrace.client import ControlClient, ControlFailure
from headrace.control.accelerations.sweeping import sweep_once
from headrace.testing.access import Access
from headrace.testing.nodes import SimulatedNode
from support.states import table

REGION = "zj-1"
EXPIRES_SECONDS = 5


@dataclass
class Service:
    """A region with a node, and whoever registers volumes there."""

    place: Place
    origins: Origins
    ann: ControlClient
    node: SimulatedNode
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def volume(self) -> str:
        name = f"v{next(self._numbers)}"
        self.ann.create_volume(self.origins.volume(name, read_only=True))
        return name

    def state(self, volume: str) -> tuple[str, str, int | None]:
        """State, condition, and what is current; a volume that was never accelerated is idle."""
        for shown in self.ann.accelerations(volume=volume):
            return shown["state"], shown["condition"], shown["current"]
        return "idle", "", None

    def start(self, volume: str) -> None:
        self.ann.start_acceleration(volume, {"region": REGION, "expire_seconds": EXPIRES_SECONDS, "release_seconds": 2 * EXPIRES_SECONDS})

    def publish(self, volume: str) -> None:
        """A list of which no two are the same."""
        self.node.publish(volume, f"list {next(self._numbers)} of {volume}".encode())

    def fail(self, volume: str) -> None:
        item = self.node.items()[volume]
        self.node.client.listing_failed(item["id"], item["list"], "access denied")

    def wait(self, seconds: float) -> None:
        self.place.control.clock.advance(timedelta(seconds=seconds))
        plane = self.place.control.plane
        asyncio.run_coroutine_threadsafe(sweep_once(plane.database, plane.clock), self.place.control.loop).result(30)
        self.node.client.heartbeat({"version": "1"})

    def mount(self, volume: str) -> dict[str, Any]:
        made = self.ann.create_task({"region": REGION, "mounts": [{"volume": volume, "path": "/mnt/models"}]})
        return dict(made)


@pytest.fixture(scope="module", params=DATABASES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: Access) -> Iterator[Service]:
    """One for all rows: each has volumes of its own."""
    database = request.getfixturevalue("database_server").create_database("rows") if request.param == "postgresql" else None
    with open_place(tmp_path_factory.mktemp("rows") / "state", database) as place:
        place.admin.create_region({"name": REGION})
        node = SimulatedNode.join(place.admin, REGION, "gpu-1")
        with node.client, place.user("ann") as ann:
            yield Service(place, new_origins(server), ann, node)


def _idle(service: Service) -> str:
    return service.volume()


def _failed(service: Service) -> str:
    service.fail(name := _listing(service))
    return name


def _listing(service: Service) -> str:
    service.start(name := service.volume())
    return name


def _syncing(service: Service) -> str:
    service.publish(name := _listing(service))
    return name


def _active(service: Service) -> str:
    service.node.hold(name := _syncing(service))
    return name


def _refresh_failed(service: Service) -> str:
    service.ann.refresh(name := _active(service), REGION)
    service.fail(name)
    return name


def _expiring(service: Service) -> str:
    name = _active(service)
    service.wait(EXPIRES_SECONDS + 1)
    return name


SITUATIONS: dict[str, Callable[[Service], str]] = {
    "idle": _idle,
    "idle, failed": _failed,
    "syncing, no snapshot yet": _listing,
    "syncing": _syncing,
    "active": _active,
    "active, refresh failed": _refresh_failed,
    "expiring": _expiring,
}
OPERATIONS: dict[str, Callable[[ControlClient, str], object]] = {
    "edit": lambda client, name: client.edit_volume(name, {"requests": 1}, client.volume(name)["etag"]),
    "check": lambda client, name: client.check_volume(name),
    "start": lambda client, name: client.start_acceleration(name, {"region": REGION}),
    "delete": lambda client, name: client.delete_volume(name),
    "release": lambda client, name: client.release(name, REGION),
    "refresh": lambda client, name: client.refresh(name, REGION),
    "roll back": lambda client, name: client.roll_back(name, REGION, 1),
    "cancel": lambda client, name: client.cancel_pull(name, REGION),
}
ROWS = table("What may be done")


def _allowed(operations: str) -> tuple[set[str], set[str]]:
    """What anybody may, and what an operator may beside that."""
    if operations.startswith("none"):
        return set(), {operations.removeprefix("none (operator: ").removesuffix(")")}
    return set(operations.split(", ")), set()


def test_every_row_is_brought_about() -> None:
    assert [state for state, _, _ in ROWS] == list(SITUATIONS)
    assert {one for _, operations, _ in ROWS for them in _allowed(operations) for one in them} == set(OPERATIONS)


@pytest.mark.parametrize(("state", "operations"), [row[:2] for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_may_be_done_and_nothing_else(service: Service, state: str, operations: str) -> None:
    allowed, by_operator = _allowed(operations)
    name = SITUATIONS[state](service)
    before = service.state(name)
    # No operation on what was never accelerated says so; the others name the state, and what it allows.
    codes = {"state-forbids", "not-found"} if state == "idle" else {"state-forbids"}
    for operation in OPERATIONS.keys() - allowed:
        for client in (service.ann, service.place.admin) if operation not in by_operator else (service.ann,):
            with pytest.raises(ControlFailure) as caught:
                OPERATIONS[operation](client, name)
            assert caught.value.code in codes, operation
            problem = caught.value.problem
            assert all(problem[part][tongue] for part in ("cause", "remedy") for tongue in ("en", "zh"))
            assert service.state(name) == before, f"{operation} was refused, and did something"
    for operation in allowed:
        OPERATIONS[operation](service.ann, SITUATIONS[state](service))
    for operation in by_operator:
        OPERATIONS[operation](service.place.admin, name)
        assert service.state(name)[1] == "failed"


@pytest.mark.parametrize(("state", "mount"), [(row[0], row[2]) for row in ROWS], ids=[row[0] for row in ROWS])
def test_what_a_mount_is_told(service: Service, state: str, mount: str) -> None:
    name = SITUATIONS[state](service)
    if mount.startswith("refused"):
        with pytest.raises(ControlFailure) as caught:
            service.mount(name)
        assert caught.value.code == "state-forbids"
        assert f"headrace accelerate {name} --region {REGION}" in caught.value.problem["remedy"]["en"]
        assert "开始加速" in caught.value.problem["remedy"]["zh"]
        assert ("access denied" in caught.value.problem["cause"]["en"]) == (mount == "refused with the reason")
        assert list(service.ann.tasks(volume=name)) == []
        return
    made = service.mount(name)
    if mount == "waits with progress up to a bound":
        assert (made["state"], made["mounts"][0]["mountable"]) == ("waiting", False)
        service.publish(name)
        made = service.ann.task(made["id"])
    assert mount in ("yes", "yes, on the old version", "waits with progress up to a bound")
    assert (made["state"], made["mounts"][0]["version"], made["mounts"][0]["mountable"]) == ("running", 1, True)


def _mount_again(service: Service, name: str) -> None:
    """After the node had to make room for something else."""
    service.node.hold(name, done=50)
    service.mount(name)


HAPPENINGS: dict[str, Callable[[Service, str], object]] = {
    "start acceleration": lambda service, name: service.start(name),
    "pull complete": lambda service, name: service.node.hold(name),
    "manual release": lambda service, name: service.ann.release(name, REGION),
    "unused for the threshold": lambda service, name: service.wait(EXPIRES_SECONDS + 1),
    "unused for 15 days": lambda service, name: service.wait(EXPIRES_SECONDS + 1),
    "mounted again": _mount_again,
    "refresh from origin": lambda service, name: service.ann.refresh(name, REGION),
    "first pull fails": lambda service, name: service.fail(name),
    "refresh fails": lambda service, name: service.fail(name),
}


def _refreshing(service: Service) -> str:
    service.ann.refresh(name := _active(service), REGION)
    return name


# From what it happens, where the state alone does not say it.
FROM = {"first pull fails": _listing, "refresh fails": _refreshing}


@pytest.mark.parametrize("row", table("What changes a state"), ids=lambda row: f"{row[0]}, {row[1]}")
def test_every_change(service: Service, row: tuple[str, ...]) -> None:
    happens, before, then, condition = row
    name = FROM.get(happens, SITUATIONS[before])(service)
    assert service.state(name)[0] == before
    HAPPENINGS[happens](service, name)
    assert service.state(name)[:2] == (then, condition)
    event = next(event for event in service.ann.events(noun="acceleration") if event["object_name"] == f"{name}@{REGION}")
    assert (event["kind"], event["detail"]["before"], event["detail"]["now"]) == (happens, before, then)
    assert event["who"]

"""Checks by real nodes: what only the region reaches, addresses that are denied here and there, a node that dies over it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from control.conftest import MASTER_KEY, Origins, Place
from headrace.checking.check import CHECK_NAME
from headrace.client import ControlFailure
from headrace.control.checks import service
from headrace.testing.control import control_plane
from headrace.testing.origin import Origin, failing_origin
from headrace.testing.seaweed import Seaweed
from support.fleet import Fleet, until


@pytest.fixture
def database() -> None:
    """SQLite: what nodes see of the control plane does not depend on the database."""
    return


@pytest.fixture
def fleet(place: Place, tmp_path: Path, server: Seaweed) -> Iterator[Fleet]:
    place.admin.create_region({"name": "zj-1"})
    with ExitStack() as stack:
        yield Fleet(place, tmp_path, stack, server)


@pytest.fixture
def inside(origins: Origins, monkeypatch: pytest.MonkeyPatch) -> str:
    """An endpoint by a name that the control plane does not know."""
    resolve = socket.getaddrinfo

    def without(host: Any, *arguments: Any, **more: Any) -> Any:
        if host == "localhost":
            raise socket.gaierror("no such name here")
        return resolve(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", without)
    return origins.access.endpoint.replace("127.0.0.1", "localhost")


def _volume(origin: Origin) -> dict[str, object]:
    """One of that server, to be checked by the region."""
    origin.bucket("models").put("qwen/config.json", b"{}")
    keys = {"access_key": origin.access.access_key, "secret_key": origin.access.secret_key}
    said = {"name": "qwen", "endpoint": origin.access.endpoint, "bucket": "models", "directory": "qwen", "credentials": keys}
    return {**said, "read_only": True, "check_region": "zj-1"}


def _kinds(failure: ControlFailure) -> list[tuple[str, str]]:
    return [(finding["field"], finding["code"]) for finding in failure.problem["fields"]]


def test_an_endpoint_that_only_the_region_reaches(fleet: Fleet, origins: Origins, inside: str) -> None:
    own = fleet.node("gpu-1")
    said = origins.volume("qwen", endpoint=inside)
    with pytest.raises(ControlFailure) as caught:
        fleet.place.admin.create_volume(said)
    assert _kinds(caught.value) == [("endpoint", "unknown-host")]
    made = fleet.place.admin.create_volume({**said, "check_region": "zj-1"})
    assert (made["checked_from"], [finding for finding in made["findings"] if finding["level"] == "error"]) == ("zj-1/gpu-1", [])
    keys = [entry["Key"] for entry in origins.access.client().list_objects_v2(Bucket=origins.bucket)["Contents"]]
    assert not [key for key in keys if CHECK_NAME in key]
    # What is wrong is found there as it is here.
    wrong = {"access_key": "nobody", "secret_key": "plantedsecretplantedsecret", "check_region": "zj-1"}
    with pytest.raises(ControlFailure) as refused:
        fleet.place.admin.rotate_credentials("qwen", wrong)
    assert (refused.value.code, _kinds(refused.value)) == ("check-failed", [("access_key", "invalid-access-key-id")])
    assert "zj-1/gpu-1" in refused.value.message
    secrets = (b"plantedsecretplantedsecret", origins.access.secret_key.encode())
    for path in own.base.rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret in path.read_bytes()], path


@pytest.mark.parametrize("endpoint", ["", "http://169.254.169.254", "http://[::ffff:169.254.169.254]"])
def test_addresses_that_are_denied_here_are_denied_there(origins: Origins, server: Seaweed, tmp_path: Path, endpoint: str) -> None:
    with control_plane(tmp_path / "state", master_key=MASTER_KEY, origins_allow="") as control, ExitStack() as stack:
        assert control.first_token
        with control.client(control.first_token) as first:
            admin = stack.enter_context(control.client(first.login()["token"]))
        admin.create_region({"name": "zj-1"})
        Fleet(Place(control, admin), tmp_path, stack, server).node("gpu-1")
        with pytest.raises(ControlFailure) as caught:
            admin.create_volume(origins.volume("qwen", check_region="zj-1", endpoint=endpoint or origins.access.endpoint))
        assert _kinds(caught.value) == [("endpoint", "address-denied")]
        assert "zj-1/gpu-1" in caught.value.message
        assert list(admin.volumes()) == []


def test_a_node_that_is_killed_over_it_is_replaced(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LEASE", timedelta(seconds=3))
    owns = {name: fleet.node(name) for name in ("gpu-1", "gpu-2")}
    identifiers = {node["id"]: node["name"] for node in fleet.place.admin.nodes()}
    with failing_origin("models") as origin, ThreadPoolExecutor(1) as pool:
        said = _volume(origin)
        with origin.holding():
            call = pool.submit(fleet.place.admin.create_volume, said)
            until("it reads", lambda: origin.counters.requests["range"])
            first = identifiers[_asked_node(fleet)]
            for pid in owns[first].processes():
                os.kill(pid, signal.SIGKILL)
        made = call.result(40)
    assert made["checked_from"] == f"zj-1/{next(name for name in owns if name != first)}"


def test_a_node_that_is_killed_and_begun_again_is_asked_again(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LEASE", timedelta(seconds=3))
    own = fleet.node("gpu-1")
    with failing_origin("models") as origin, ThreadPoolExecutor(1) as pool:
        said = _volume(origin)
        with origin.holding():
            call = pool.submit(fleet.place.admin.create_volume, said)
            until("it reads", lambda: origin.counters.requests["range"])
            os.kill(own.node_pid(), signal.SIGKILL)
        assert call.result(40)["checked_from"] == "zj-1/gpu-1"


def test_a_check_that_nobody_waits_for_ends_on_the_node(fleet: Fleet) -> None:
    own = fleet.node("gpu-1")
    with failing_origin("models") as origin, ThreadPoolExecutor(1) as pool:
        said = _volume(origin)
        with origin.holding():
            call = pool.submit(fleet.place.admin.create_volume, said)
            until("it reads", lambda: origin.counters.requests["range"])
            node = own.node_pid()
            assert _checkers(node)
            fleet.place.control.clock.advance(service.LASTS)
            failure = call.exception(30)
            assert isinstance(failure, ControlFailure)
            assert failure.code == "check-not-run"
            # Sooner than the server would be given up.
            until("it has ended", lambda: not _checkers(node), 4)
    assert list(fleet.place.admin.volumes()) == []


def _asked_node(fleet: Fleet) -> str:
    """The id of the node that is asked."""
    plane = fleet.place.control.plane

    async def ask() -> str:
        async with plane.database.reading() as session:
            return str((await session.execute(text("SELECT node_id FROM checks"))).scalar_one())

    return asyncio.run_coroutine_threadsafe(ask(), fleet.place.control.loop).result(30)


def _checkers(node: int) -> list[int]:
    """Processes of checks that a node has begun."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == node and b"headrace.checking" in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found

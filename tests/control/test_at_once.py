"""What several do at the same moment, to several replicas: each is done once, and everybody is told the truth."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from control.conftest import MASTER_KEY, Origins, Place
from headrace.client import ControlClient, ControlFailure
from headrace.control.idempotency import Replayable
from headrace.control.requests import CHECKS_MAX
from headrace.control.volumes import checking
from headrace.testing.control import control_plane
from headrace.testing.nodes import TOLD


@pytest.fixture
def replicas(place: Place, database: str | None, tmp_path: Path) -> Iterator[list[ControlClient]]:
    """Clients of two replicas of one database; of SQLite there is one."""
    token = place.admin._http.headers["authorization"].removeprefix("Bearer ")
    if database is None:
        yield [place.admin, place.admin]
        return
    with control_plane(tmp_path / "other", database, master_key=MASTER_KEY) as other, other.client(token) as client:
        yield [place.admin, client]


def _together(calls: list[Callable[[], Any]]) -> tuple[list[Any], list[BaseException]]:
    with ThreadPoolExecutor(len(calls)) as pool:
        tries = [pool.submit(call) for call in calls]
    errors = [error for one in tries if (error := one.exception()) is not None]
    return [one.result() for one in tries if one.exception() is None], errors


def test_one_key_creates_once_and_all_get_the_answer(replicas: list[ControlClient], origins: Origins) -> None:
    volume = origins.volume("qwen", read_only=True)
    creations: list[tuple[str, Callable[[ControlClient], Any]]] = [
        ("token", lambda client: client.create_token({"name": "x", "subject": "alice"}, "key-token")),
        ("region", lambda client: client.create_region({"name": "zj-1"}, "key-region")),
        ("volume", lambda client: client.create_volume(volume, "key-volume")),
        ("join token", lambda client: client.create_join_token("zj-1", key="key-join")),
    ]
    for name, create in creations:
        answers, errors = _together([lambda client=client, create=create: create(client) for client in replicas * 3])
        assert not errors, (name, errors)
        assert len(answers) == 6
        assert all(answer == answers[0] for answer in answers), name


# SQLite has one writer at a time: nobody comes in between.
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_one_that_is_created_while_the_same_request_looks_whether_its_name_is_free(
    replicas: list[ControlClient], origins: Origins, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = origins.volume("qwen", read_only=True)
    answer = Replayable.answer
    made: list[Any] = []

    async def answered(one: Replayable, kind: Any) -> Any:
        found = await answer(one, kind)
        if not made:
            made.append(None)
            made[0] = await asyncio.to_thread(replicas[1].create_volume, volume, "key")
        return found

    monkeypatch.setattr(Replayable, "answer", answered)
    assert replicas[0].create_volume(volume, "key") == made[0]


def test_a_creation_that_is_refused_leaves_its_key_free(place: Place) -> None:
    place.admin.create_region({"name": "zj-1"})
    with pytest.raises(ControlFailure) as caught:
        place.admin.create_region({"name": "zj-1"}, "a-key")
    assert caught.value.code == "name-taken"
    place.admin.delete_region("zj-1")
    assert place.admin.create_region({"name": "zj-1"}, "a-key")["name"] == "zj-1"


def test_join_tokens_and_the_end_of_their_region(replicas: list[ControlClient]) -> None:
    """Whichever is first: no token is of a region that is gone, and nobody is told of a fault."""
    admin = replicas[0]
    for number in range(8):
        name = f"r{number}"
        admin.create_region({"name": name})
        calls: list[Callable[[], Any]] = [lambda client=client, name=name: client.create_join_token(name) for client in replicas * 2]
        _, errors = _together([*calls, lambda name=name: admin.delete_region(name)])
        assert {error.code for error in errors if isinstance(error, ControlFailure)} <= {"not-found"}, errors


def test_joining_and_the_end_of_the_region(replicas: list[ControlClient]) -> None:
    admin = replicas[0]
    for number in range(8):
        name = f"r{number}"
        admin.create_region({"name": name})
        joining = [client.as_bearer(admin.create_join_token(name)["token"]) for client in replicas]
        calls: list[Callable[[], Any]] = [lambda client=client, at=at: client.enrol(f"n{at}", {}, TOLD) for at, client in enumerate(joining)]
        _, errors = _together([*calls, lambda name=name: admin.delete_region(name)])
        assert {error.code for error in errors if isinstance(error, ControlFailure)} <= {"unauthenticated", "not-found", "state-forbids"}, errors
        for client in joining:
            client.close()


def test_a_lost_answer_to_an_enrolment_loses_neither_token_nor_name(place: Place) -> None:
    place.admin.create_region({"name": "zj-1"})
    with place.control.client(place.admin.create_join_token("zj-1")["token"]) as joining:
        lost = joining.enrol("gpu-1", {"gpu": "H800"}, TOLD)
        with pytest.raises(ControlFailure) as other:
            joining.enrol("gpu-2", {}, TOLD)
        assert other.value.code == "unauthenticated"
        again = joining.enrol("gpu-1", {"gpu": "H800"}, TOLD)
        assert again["id"] == lost["id"]
        with place.control.client(lost["token"]) as stranger, pytest.raises(ControlFailure) as caught:
            stranger.heartbeat(TOLD)
        assert caught.value.code == "unauthenticated"
        with place.control.client(again["token"]) as node:
            node.heartbeat(TOLD)
        # It was heard: whoever has the join token besides gets nothing with it.
        with pytest.raises(ControlFailure) as replayed:
            joining.enrol("gpu-1", {}, TOLD)
        assert replayed.value.code == "unauthenticated"
    assert [node["name"] for node in place.admin.nodes()] == ["gpu-1"]


def test_checks_are_limited_in_number(place: Place, origins: Origins) -> None:
    checks = place.control.plane.checks
    for _ in range(CHECKS_MAX):
        asyncio.run_coroutine_threadsafe(checks.acquire(), place.control.loop).result(10)
    before, checking._TURN_SECONDS = checking._TURN_SECONDS, 0.2
    try:
        with pytest.raises(ControlFailure) as caught:
            place.admin.check_new_volume(origins.volume("qwen"))
        assert (caught.value.code, caught.value.status) == ("too-many-checks", 503)
    finally:
        checking._TURN_SECONDS = before
        for _ in range(CHECKS_MAX):
            place.control.loop.call_soon_threadsafe(checks.release)
    assert place.admin.check_new_volume(origins.volume("qwen"))["passed"] is True

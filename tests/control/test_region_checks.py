"""A check that a node of a region runs: asked under a lease, with keys for its holder alone, told from where, and gone afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from control.conftest import MASTER_KEY, Place
from headrace.checking.origin import Credentials, Origin
from headrace.checking.providers import COMPATIBLE
from headrace.checking.question import Question
from headrace.client import ControlFailure
from headrace.control.checks import service
from headrace.control.regions import service as regions
from headrace.testing.control import RunningControl, control_plane
from headrace.testing.nodes import TOLD, SimulatedNode
from support.headrace import wait_until

NOTE = {"field": "endpoint", "code": "noted", "level": "note", "cause": {"en": "so", "zh": "是"}, "remedy": {"en": "-", "zh": "-"}}
ERROR = {**NOTE, "code": "unwell", "level": "error"}


@pytest.fixture
def one(place: Place) -> Iterator[SimulatedNode]:
    """A region with a node."""
    place.admin.create_region({"name": "zj-1"})
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1")
    with node.client:
        yield node


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """For requests that wait."""
    with ThreadPoolExecutor(2) as made:
        yield made


def _volume(name: str = "qwen", **changes: object) -> dict[str, object]:
    """One that nothing here could reach."""
    keys = {"access_key": "planted-access-key", "secret_key": "planted-secret-key"}
    said = {"name": name, "endpoint": "https://s3.inside.invalid", "bucket": "models", "directory": "qwen", "credentials": keys}
    return {**said, "check_region": "zj-1", **changes}


def _asked(node: SimulatedNode) -> dict[str, Any]:
    return dict(wait_until("it is asked", node.checks)[0])


def _answer(node: SimulatedNode, asked: dict[str, Any], *findings: dict[str, Any]) -> None:
    passed = all(one["level"] != "error" for one in findings)
    node.client.answer_check(asked["id"], {"lease": asked["lease"], "passed": passed, "findings": list(findings)})


def _refused(call: Callable[[], object], code: str = "stale-check") -> ControlFailure:
    with pytest.raises(ControlFailure) as caught:
        call()
    assert caught.value.code == code
    return caught.value


def _failure(call: Future[Any], code: str) -> dict[str, Any]:
    error = call.exception(30)
    assert isinstance(error, ControlFailure), error
    assert error.code == code
    return error.problem


@contextmanager
def _replica(place: Place, database: str | None, tmp_path: Path) -> Iterator[RunningControl]:
    """Another replica of the same database; of SQLite there is one."""
    if database is None:
        yield place.control
        return
    with control_plane(tmp_path / "other", database, master_key=MASTER_KEY) as other:
        yield other


def _kept(place: Place) -> int:
    """Checks in the database."""

    async def count() -> int:
        async with place.control.plane.database.reading() as session:
            return int((await session.execute(text("SELECT count(*) FROM checks"))).scalar_one())

    return asyncio.run_coroutine_threadsafe(count(), place.control.loop).result(30)


def test_a_node_checks_and_it_is_told_from_where(place: Place, one: SimulatedNode, pool: ThreadPoolExecutor) -> None:
    call = pool.submit(place.admin.create_volume, _volume())
    asked = _asked(one)
    question = one.client.node_check(asked["id"], asked["lease"])
    assert question["origin"]["endpoint"] == "https://s3.inside.invalid"
    assert question["credentials"]["secret_key"] == "planted-secret-key"
    # Those of the control plane, which hold here and there.
    assert "127.0.0.0/8" in question["rules"]["allow"]
    assert "169.254.0.0/16" in question["rules"]["deny"]
    assert question["read_only"] is False
    _answer(one, asked, NOTE)
    made = call.result(30)
    assert (made["checked_from"], made["findings"]) == ("zj-1/gpu-1", [NOTE])
    assert place.admin.volume("qwen") == made
    assert one.checks() == []
    _refused(lambda: one.client.node_check(asked["id"], asked["lease"]))
    _refused(lambda: _answer(one, asked, NOTE))
    assert _kept(place) == 0


def test_what_fails_there_stores_nothing(place: Place, one: SimulatedNode, pool: ThreadPoolExecutor) -> None:
    call = pool.submit(place.admin.create_volume, _volume())
    _answer(one, _asked(one), ERROR)
    problem = _failure(call, "check-failed")
    assert [finding["code"] for finding in problem["fields"]] == ["unwell"]
    assert "zj-1/gpu-1" in problem["cause"]["en"]
    assert "zj-1/gpu-1" in problem["cause"]["zh"]
    assert list(place.admin.volumes()) == []
    assert _kept(place) == 0


def test_every_operation_that_checks_can_do_it_there(place: Place, one: SimulatedNode, pool: ThreadPoolExecutor) -> None:
    def done(call: Callable[[], Any], *findings: dict[str, Any]) -> Any:
        waiting = pool.submit(call)
        _answer(one, _asked(one), *findings)
        return waiting.result(30)

    admin = place.admin
    tried = done(lambda: admin.check_new_volume(_volume()), ERROR)
    assert (tried["passed"], tried["checked_from"]) == (False, "zj-1/gpu-1")
    made = done(lambda: admin.create_volume(_volume()))
    edited = done(lambda: admin.edit_volume("qwen", {"requests": 5, "check_region": "zj-1"}, made["etag"]), NOTE)
    assert (edited["requests"], edited["findings"], edited["checked_from"]) == (5, [NOTE], "zj-1/gpu-1")
    keys = {"access_key": "a", "secret_key": "b", "check_region": "zj-1"}
    assert done(lambda: admin.rotate_credentials("qwen", keys))["revision"] == 3
    assert done(lambda: admin.check_volume("qwen", "zj-1"), ERROR)["passed"] is False
    shown = admin.volume("qwen")
    assert (shown["findings"], shown["checked_from"]) == ([ERROR], "zj-1/gpu-1")
    events = {event["kind"]: event for event in admin.events(noun="volume")}
    assert events["volume-edited"]["detail"]["fields"] == ["requests"]
    assert events["volume-checked"]["detail"] == {"passed": False, "checked_from": "zj-1/gpu-1"}


def test_where_no_node_is_it_is_not_run(place: Place) -> None:
    _refused(lambda: place.admin.create_volume(_volume()), "not-found")
    place.admin.create_region({"name": "zj-1"})
    failure = _refused(lambda: place.admin.create_volume(_volume()), "check-not-run")
    assert failure.status == 503
    for sentence in (failure.problem["cause"], failure.problem["remedy"]):
        assert all(sentence.values())
    assert "zj-1" in failure.problem["cause"]["zh"]
    assert list(place.admin.volumes()) == []
    node = SimulatedNode.join(place.admin, "zj-1", "gpu-1")
    with node.client:
        place.admin.drain_node(next(place.admin.nodes())["id"])
        _refused(lambda: place.admin.create_volume(_volume()), "check-not-run")


def test_one_that_nobody_answers_ends(place: Place, one: SimulatedNode, pool: ThreadPoolExecutor) -> None:
    call = pool.submit(place.admin.create_volume, _volume())
    asked = _asked(one)
    place.control.clock.advance(service.LASTS + timedelta(seconds=1))
    assert "in time" in _failure(call, "check-not-run")["cause"]["en"]
    one.client.heartbeat(TOLD)
    assert one.checks() == []
    _refused(lambda: one.client.node_check(asked["id"], asked["lease"]))
    _refused(lambda: _answer(one, asked))
    assert list(place.admin.volumes()) == []
    assert _kept(place) == 0


def test_another_node_is_asked_when_the_first_falls_silent(place: Place, one: SimulatedNode, pool: ThreadPoolExecutor) -> None:
    call = pool.submit(place.admin.create_volume, _volume())
    first = _asked(one)
    with SimulatedNode.join(place.admin, "zj-1", "gpu-2").client as client:
        other = SimulatedNode(client, "gpu-2")
        _refused(lambda: client.node_check(first["id"], first["lease"]))
        _refused(lambda: _answer(other, first))
        # Renewed, it stays where it is.
        place.control.clock.advance(service.LEASE - timedelta(seconds=5))
        one.client.renew_check(first["id"], first["lease"])
        place.control.clock.advance(timedelta(seconds=10))
        assert one.client.node_check(first["id"], first["lease"])["seconds"] < 45
        assert other.checks() == []
        place.control.clock.advance(service.LEASE)
        asked = _asked(other)
        assert (asked["id"], asked["lease"]) == (first["id"], 2)
        for stale in (
            lambda: one.client.node_check(first["id"], 1),
            lambda: one.client.node_check(first["id"], 2),
            lambda: one.client.renew_check(first["id"], 1),
            lambda: _answer(one, first, ERROR),
        ):
            _refused(stale)
        _answer(other, asked)
    assert call.result(30)["checked_from"] == "zj-1/gpu-2"


def test_the_only_node_is_asked_again_under_another_lease(place: Place, one: SimulatedNode, pool: ThreadPoolExecutor) -> None:
    call = pool.submit(place.admin.create_volume, _volume())
    first = _asked(one)
    place.control.clock.advance(service.LEASE + timedelta(seconds=1))
    asked = wait_until("it is asked again", lambda: [one for one in one.checks() if one["lease"] == 2])[0]
    _refused(lambda: _answer(one, first))
    _answer(one, asked)
    assert call.result(30)["checked_from"] == "zj-1/gpu-1"


def test_an_answer_that_contradicts_itself_is_refused(place: Place, one: SimulatedNode, pool: ThreadPoolExecutor) -> None:
    call = pool.submit(place.admin.create_volume, _volume())
    asked = _asked(one)
    for passed, finding in ((True, ERROR), (False, NOTE)):
        said = {"lease": asked["lease"], "passed": passed, "findings": [finding]}
        _refused(lambda said=said: one.client.answer_check(asked["id"], said), "invalid")  # type: ignore[misc]
    odd = {**NOTE, "cause": {"en": "\x1b[31m" + "x" * 5000, "zh": "\n"}}
    _answer(one, asked, odd)
    cause = call.result(30)["findings"][0]["cause"]
    assert len(cause["en"]) <= 1001
    assert (cause["en"] + cause["zh"]).isprintable()


def test_one_replica_waits_and_the_other_is_answered(
    place: Place, one: SimulatedNode, pool: ThreadPoolExecutor, database: str | None, tmp_path: Path
) -> None:
    with _replica(place, database, tmp_path) as replica:
        token = one.client._http.headers["authorization"].removeprefix("Bearer ")
        with replica.client(token) as client:
            other = SimulatedNode(client, "gpu-1")
            call = pool.submit(place.admin.create_volume, _volume())
            asked = _asked(other)
            assert client.node_check(asked["id"], asked["lease"])["credentials"]["secret_key"] == "planted-secret-key"
            _answer(other, asked)
            assert call.result(30)["checked_from"] == "zj-1/gpu-1"
    assert _kept(place) == 0


def test_whoever_waits_is_let_go_when_the_replica_ends(one: SimulatedNode, place: Place, pool: ThreadPoolExecutor) -> None:
    call = pool.submit(place.admin.create_volume, _volume())
    _asked(one)
    place.control.plane.watch.end()
    assert "ends" in _failure(call, "check-not-run")["cause"]["en"]
    assert _kept(place) == 0


def test_what_is_left_behind_is_forgotten(place: Place, one: SimulatedNode) -> None:
    """A replica may die while it waits: nobody ends its check."""
    plane = place.control.plane

    node_id = next(place.admin.nodes())["id"]
    origin = Origin(COMPATIBLE, "us-east-1", "https://s3.inside.invalid", "path", "b", "d")
    question = Question(origin, Credentials("a", "b"), plane.settings.origins, read_only=True)

    async def begin() -> None:
        async with plane.database.writing() as session:
            region = await regions.find(session, "zj-1")
            await service.begin(session, plane.vault, plane.clock, region.id, question, [node_id])

    asyncio.run_coroutine_threadsafe(begin(), place.control.loop).result(30)
    assert _kept(place) == 1
    place.control.clock.advance(service.LASTS)
    wait_until("it is forgotten", lambda: _kept(place) == 0)

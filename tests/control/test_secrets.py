"""Secrets are sealed at rest, and in no answer, log or event."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import subprocess
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from control.conftest import MASTER_KEY, Origins, Place
from headrace.client import ControlFailure
from headrace.control import settings
from headrace.control.server import open_control
from headrace.control.vault.master import LocalMasterKey
from headrace.control.volumes import service as volumes
from headrace.errors import HeadraceError, UsageError
from headrace.testing.control import control_plane
from headrace.testing.nodes import SimulatedNode
from support.headrace import wait_until

T = TypeVar("T")
PLANTED = "plantedsecretplantedsecretplanted"
OTHER_KEY = base64.b64encode(bytes(32)).decode()


def _in_loop(place: Place, work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, place.control.loop).result(30)


def test_planted_secrets_are_nowhere(place: Place, origins: Origins, tmp_path: Path, caplog: pytest.LogCaptureFixture, database: str | None) -> None:
    caplog.set_level(logging.DEBUG)
    good = origins.access.secret_key
    answers = [place.admin.create_volume(origins.volume("qwen"), "a-key")]
    with pytest.raises(ControlFailure) as caught:
        place.admin.create_volume(origins.volume("bad", credentials={"access_key": "nobody", "secret_key": PLANTED, "session_token": PLANTED}))
    answers += [caught.value.problem, *place.admin.events(), *place.admin.volumes(), *place.admin.tokens()]
    with pytest.raises(ControlFailure) as invalid:
        place.admin.create_volume(origins.volume("bad", credentials={"access_key": "nobody", "secret_key": PLANTED + "\n"}))
    answers.append(invalid.value.problem)
    made = place.admin.create_token({"name": "x", "subject": "alice"}, "another-key")
    kept = _dump(tmp_path, database)
    secrets_kept = (good, PLANTED, made["token"].rsplit("_", 1)[1])
    for secret in secrets_kept[:2]:
        assert secret not in json.dumps(answers)
    for secret in secrets_kept:
        assert secret not in caplog.text
        assert secret.encode() not in kept
        assert base64.b64encode(secret.encode()) not in kept


def test_keys_of_a_check_by_a_node_are_nowhere(place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture, database: str | None) -> None:
    """Neither while the node is asked, nor when it has answered, nor when nobody does."""
    caplog.set_level(logging.DEBUG)
    place.admin.create_region({"name": "zj-1"})
    keys = {"access_key": "nobody", "secret_key": PLANTED, "session_token": PLANTED}
    said = {
        "name": "qwen",
        "endpoint": "https://s3.inside.invalid",
        "bucket": "models",
        "directory": "d",
        "credentials": keys,
        "check_region": "zj-1",
    }
    answers: list[Any] = []
    with SimulatedNode.join(place.admin, "zj-1", "gpu-1").client as client, ThreadPoolExecutor(1) as pool:
        node = SimulatedNode(client, "gpu-1")
        for answered in (True, False):
            call = pool.submit(place.admin.check_new_volume, said)
            (asked,) = wait_until("it is asked", node.checks)
            assert client.node_check(asked["id"], asked["lease"])["credentials"]["session_token"] == PLANTED
            _planted_is_not_in(_dump(tmp_path, database))
            with pytest.raises(ControlFailure) as stale:
                client.node_check(asked["id"], asked["lease"] + 1)
            answers += [client.desired(), stale.value.problem]
            if answered:
                client.answer_check(asked["id"], {"lease": asked["lease"], "passed": True, "findings": []})
                answers.append(call.result(30))
            else:
                place.control.clock.advance(timedelta(minutes=2))
                error = call.exception(30)
                assert isinstance(error, ControlFailure)
                answers.append(error.problem)
    _planted_is_not_in(_dump(tmp_path, database))
    answers += [*place.admin.events(), *place.admin.nodes()]
    assert PLANTED not in json.dumps(answers)
    assert PLANTED not in caplog.text


def _planted_is_not_in(kept: bytes) -> None:
    assert PLANTED.encode() not in kept
    assert base64.b64encode(PLANTED.encode()) not in kept
    assert PLANTED.encode().hex().encode() not in kept


def _dump(tmp_path: Path, database: str | None) -> bytes:
    """Everything that the database keeps."""
    if database is None:
        return b"".join(path.read_bytes() for path in (tmp_path / "state").iterdir())
    with tempfile.TemporaryFile() as output:
        subprocess.run(["pg_dump", "--inserts", database], stdout=output, check=True, timeout=60)
        output.seek(0)
        return output.read()


def test_a_sealed_secret_opens_at_its_place_only(place: Place) -> None:
    plane = place.control.plane

    async def run() -> None:
        async with plane.database.writing() as session:
            sealed = await plane.vault.seal(session, b"secret", "volumes/1")
            assert b"secret" not in sealed
            assert await plane.vault.open(session, sealed, "volumes/1") == b"secret"
            for damaged, where in ((sealed, "volumes/2"), (sealed[:-1] + bytes([sealed[-1] ^ 1]), "volumes/1"), (b"x" * 60, "volumes/1")):
                with pytest.raises(HeadraceError) as caught:
                    await plane.vault.open(session, damaged, where)
                assert caught.value.code == "damaged-secret"

    _in_loop(place, run())


def test_keys_are_rotated_and_the_master_key_is_replaced(place: Place, origins: Origins) -> None:
    place.admin.create_volume(origins.volume("qwen"))
    plane = place.control.plane

    async def run() -> tuple[int, int]:
        async with plane.database.writing() as session:
            await plane.vault.rotate(session)
            sealed = await volumes.seal_again(session, plane.vault)
        async with plane.database.writing() as session:
            wrapped = await plane.vault.rewrap(session, LocalMasterKey(bytes(32)))
        plane.vault.use(LocalMasterKey(bytes(32)))
        return sealed, wrapped

    sealed, wrapped = _in_loop(place, run())
    assert (sealed, wrapped >= 2) == (1, True)
    assert place.admin.check_volume("qwen")["passed"] is True


def test_another_master_key_is_refused_at_the_start(tmp_path: Path, database: str | None) -> None:
    with control_plane(tmp_path / "state", database, master_key=MASTER_KEY):
        pass
    given = {"control_state": str(tmp_path / "state"), "control_database": database, "control_master_key": OTHER_KEY}
    with pytest.raises(UsageError, match="not the one this database was written with"):
        asyncio.run(open_control(settings.load(given, {})))


def test_the_master_key_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    with control_plane(tmp_path / "state") as first:
        key = (tmp_path / "state" / "master.key").read_bytes()
        assert first.first_token is not None
    with control_plane(tmp_path / "state") as second:
        assert second.first_token is None
    path = tmp_path / "state" / "master.key"
    assert (path.read_bytes(), path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (key, 0o600, 0o700)


@pytest.mark.parametrize("text", ["", "short", "AAAA", "ü", MASTER_KEY + "A"])
def test_a_bad_master_key_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "master.key").write_text(text)
    (tmp_path / "master.key").chmod(0o600)
    with pytest.raises(UsageError, match="32 bytes in base 64"):
        asyncio.run(open_control(settings.load({"control_state": str(tmp_path)}, {})))

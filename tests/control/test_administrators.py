"""Administrators: what their tokens may give away, and that they always get back in."""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from control.conftest import MASTER_KEY, Origins, Place
from headrace.client import ControlFailure
from headrace.control import rotation, settings
from headrace.control.background import forget_what_is_over
from headrace.control.server import new_admin_token
from headrace.control.vault.command import CommandMasterKey
from headrace.control.vault.master import LocalMasterKey
from headrace.errors import UsageError
from headrace.testing.control import control_plane


def _settings(tmp_path: Path, database: str | None, **more: str) -> settings.ControlSettings:
    return settings.load({"control_state": str(tmp_path / "state"), "control_database": database, "control_master_key": MASTER_KEY, **more}, {})


def test_a_limited_token_makes_none_that_may_more_or_lasts_longer(place: Place) -> None:
    said = {"name": "small", "subject": "ops", "role": "admin", "scopes": ["tokens:write", "volumes:read"], "lasts_seconds": 3600}
    with place.control.client(place.admin.create_token(said)["token"]) as small:
        for more, code in (
            ({"scopes": ["*"]}, "forbidden"),
            ({"scopes": ["volumes:write"]}, "forbidden"),
            ({"scopes": ["volumes:read"], "lasts_seconds": 7200}, "invalid"),
        ):
            with pytest.raises(ControlFailure) as caught:
                small.create_token({"name": "x", "subject": "x", **more})
            assert caught.value.code == code
        assert small.create_token({"name": "x", "subject": "x", "scopes": ["volumes:read"], "lasts_seconds": 600})["scopes"] == ["volumes:read"]


def test_the_last_administrator_stays(place: Place) -> None:
    mine = next(token for token in place.admin.tokens() if token["role"] == "admin")
    place.admin.create_token({"name": "reads", "subject": "x", "role": "admin", "scopes": ["tokens:read"]})
    with pytest.raises(ControlFailure) as caught:
        place.admin.revoke_token(mine["id"])
    assert caught.value.code == "last-administrator"
    other = place.admin.create_token({"name": "other", "subject": "x", "role": "admin"})
    place.admin.revoke_token(mine["id"])
    with place.control.client(other["token"]) as admin:
        assert len(list(admin.tokens())) == 2


def test_whoever_has_the_database_gets_back_in(place: Place, tmp_path: Path, database: str | None) -> None:
    place.control.clock.advance(timedelta(days=91))
    with pytest.raises(ControlFailure):
        list(place.admin.tokens())
    place.control.clock.advance(-timedelta(days=91))
    token = asyncio.run(new_admin_token(_settings(tmp_path, database)))
    with place.control.client(token) as once, place.control.client(once.login()["token"]) as admin:
        assert admin.create_region({"name": "zj-1"})["name"] == "zj-1"
        assert "made on the host" in [event["why"] for event in admin.events(noun="token")]
        with pytest.raises(ControlFailure):
            once.login()


def test_what_is_over_is_forgotten(place: Place) -> None:
    place.user("alice", lasts_seconds=60).close()
    place.admin.create_region({"name": "zj-1"}, "a-key")
    place.admin.create_join_token("zj-1", 60)
    place.control.clock.advance(timedelta(days=2))
    asyncio.run_coroutine_threadsafe(forget_what_is_over(place.control.plane), place.control.loop).result(30)
    assert [token["subject"] for token in place.admin.tokens()] == ["admin"]

    async def counted() -> list[int]:
        async with place.control.plane.database.reading() as session:
            return [int(await session.scalar(text(f"SELECT count(*) FROM {table}")) or 0) for table in ("idempotency", "join_tokens")]

    assert asyncio.run_coroutine_threadsafe(counted(), place.control.loop).result(30) == [0, 0]


def test_keys_are_rotated_by_a_command(place: Place, origins: Origins, tmp_path: Path, database: str | None) -> None:
    place.admin.create_volume(origins.volume("qwen"))
    # While it runs: under the same master key.
    assert asyncio.run(rotation.rotate_keys(_settings(tmp_path, database))).volumes == 1
    assert place.admin.check_volume("qwen")["passed"] is True
    token = place.admin._http.headers["authorization"].removeprefix("Bearer ")
    new = tmp_path / "new.key"
    new.write_bytes(subprocess.run(["openssl", "rand", "-base64", "32"], check=True, capture_output=True).stdout)
    new.chmod(0o600)
    done = asyncio.run(rotation.rotate_keys(_settings(tmp_path, database), new))
    assert (done.volumes, done.data_keys) == (1, 3)
    # One that starts is given the new one, and opens all.
    where = database or f"sqlite:///{tmp_path}/state/control.db"
    with control_plane(tmp_path / "state2", where, master_key_file=str(new)) as other, other.client(token) as admin:
        assert admin.check_volume("qwen")["passed"] is True


# As a script around a KMS's client would be; this one keeps its key in a file.
KEEPER = """#!{python}
import base64, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
cipher, data = AESGCM(open({key!r}, "rb").read()), base64.b64decode(sys.stdin.read())
if sys.argv[1:] == ["--key", "models", "wrap"]:
    print(base64.b64encode(cipher.encrypt(bytes(12), data, b"")).decode())
elif sys.argv[1:] == ["--key", "models", "unwrap"]:
    print(base64.b64encode(cipher.decrypt(bytes(12), data, b"")).decode())
else:
    sys.exit("unknown call")
"""


def test_the_master_key_may_be_kept_by_a_program(place: Place, origins: Origins, tmp_path: Path, database: str | None) -> None:
    place.admin.create_volume(origins.volume("qwen"))
    token = place.admin._http.headers["authorization"].removeprefix("Bearer ")
    (tmp_path / "key").write_bytes(secrets.token_bytes(32))
    keeper = tmp_path / "keeper"
    keeper.write_text(KEEPER.format(python=sys.executable, key=str(tmp_path / "key")))
    keeper.chmod(0o755)
    command = f"{keeper} --key models"
    assert asyncio.run(rotation.rotate_keys(_settings(tmp_path, database), new_master_command=command)).data_keys == 2
    where = database or f"sqlite:///{tmp_path}/state/control.db"
    with control_plane(tmp_path / "state2", where, master_key_command=command) as other, other.client(token) as admin:
        assert admin.check_volume("qwen")["passed"] is True
        admin.rotate_credentials("qwen", origins.volume("qwen")["credentials"])
    assert not (tmp_path / "state2/master.key").exists()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/no/such/program", "can't be started"),
        ("sh -c 'exit 3' sh", "ended with 3"),
        ("echo", "did not answer in base 64"),
        ("'", "quote it"),
        ("sleep", "ended with 1"),
    ],
)
def test_a_program_that_keeps_no_key(command: str, words: str) -> None:
    with pytest.raises(UsageError, match="control master key command") as caught:
        CommandMasterKey(command).unwrap(b"sealed")
    assert words in caught.value.message


def test_a_rotation_that_fails_leaves_everything(place: Place, origins: Origins, monkeypatch: pytest.MonkeyPatch) -> None:
    place.admin.create_volume(origins.volume("qwen"))
    plane = place.control.plane

    async def fails() -> None:
        async with plane.database.writing() as session:
            await plane.vault.rewrap(session, LocalMasterKey(bytes(32)))
            raise RuntimeError("before the commit")

    with pytest.raises(RuntimeError, match="before the commit"):
        asyncio.run_coroutine_threadsafe(fails(), place.control.loop).result(30)
    plane.vault._keys.clear()
    assert place.admin.check_volume("qwen")["passed"] is True

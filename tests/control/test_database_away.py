"""A database that is away or hangs: told as such, within a bound, and everything goes on when it is back."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control.conftest import MASTER_KEY
from headrace.client import ControlClient, ControlFailure
from headrace.control import settings
from headrace.control.database import DatabaseAway, database_url
from headrace.control.problems import PROBLEMS
from headrace.control.server import open_control
from headrace.errors import HeadraceError, UsageError
from headrace.testing.control import RunningControl, control_plane
from headrace.testing.postgres import Postgres, postgres
from headrace.testing.waiting import wait_until

# What a request may take at worst: a transaction's bound, the close of its connection, and a little for a busy machine.
WITHIN_SECONDS = 40.0


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """A server that a test may do anything to."""
    with postgres() as running:
        yield running


@pytest.fixture
def plane(own_server: Postgres, tmp_path: Path) -> Iterator[RunningControl]:
    with control_plane(tmp_path / "state", own_server.create_database("one"), master_key=MASTER_KEY) as running:
        yield running


@pytest.fixture
def admin(plane: RunningControl) -> Iterator[ControlClient]:
    assert plane.first_token
    with plane.client(plane.first_token) as first, plane.client(first.login()["token"]) as client:
        yield client


def _is_away(admin: ControlClient) -> float:
    """How long it takes to be told so."""
    began = time.monotonic()
    with pytest.raises(ControlFailure) as caught:
        list(admin.regions())
    assert (caught.value.code, caught.value.status) == ("database-away", 503)
    return time.monotonic() - began


def test_one_whose_socket_is_gone_is_told_and_comes_back(own_server: Postgres, admin: ControlClient, plane: RunningControl) -> None:
    socket = own_server.socket_directory / ".s.PGSQL.5432"
    socket.rename(hidden := socket.with_name("hidden"))
    # Connections that are open already would still do.
    plane.loop.call_soon_threadsafe(lambda: plane.loop.create_task(plane.plane.database.engine.dispose()))
    wait_until(lambda: _fails(admin), "the pool is empty", timeout=20)
    assert _is_away(admin) < WITHIN_SECONDS
    hidden.rename(socket)
    assert list(admin.regions()) == []


def _fails(admin: ControlClient) -> bool:
    try:
        list(admin.regions())
    except ControlFailure:
        return True
    return False


def test_one_that_hangs_is_not_waited_for_without_bound(own_server: Postgres, admin: ControlClient) -> None:
    assert list(admin.regions()) == []
    processes = [own_server.pid, *_children(own_server.pid)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        assert _is_away(admin) < WITHIN_SECONDS
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    wait_until(lambda: not _fails(admin), "it answers again", timeout=WITHIN_SECONDS)


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_row_that_somebody_keeps_locked_is_not_waited_for_without_bound(own_server: Postgres, admin: ControlClient) -> None:
    admin.create_region({"name": "zj-1"})
    holder = subprocess.Popen(
        [own_server.programs / "psql", "-h", own_server.socket_directory, "-U", "headrace", "one"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin
    assert holder.stdout
    with holder:
        holder.stdin.write("BEGIN;\nSELECT 'locked' FROM regions FOR UPDATE;\n")
        holder.stdin.flush()
        while "locked" not in holder.stdout.readline():
            pass
        began = time.monotonic()
        with pytest.raises(ControlFailure) as caught:
            admin.edit_region("zj-1", {"title": "x"}, "*")
        assert (caught.value.code, time.monotonic() - began < WITHIN_SECONDS) == ("database-away", True)
        holder.kill()
    assert admin.edit_region("zj-1", {"title": "x"}, "*")["title"] == "x"


def test_a_start_without_it_says_what_to_do(own_server: Postgres, tmp_path: Path) -> None:
    url = own_server.create_database("two")
    (own_server.socket_directory / ".s.PGSQL.5432").unlink()
    with pytest.raises(DatabaseAway, match="start it, or correct control_database"):
        _open(url)


def test_nothing_is_claimed_of_a_change() -> None:
    """A connection may break while it commits."""
    for code in ("database-away", "database-full", "internal"):
        assert "nothing was changed" not in PROBLEMS[code].cause.en


def _open(database: str, **more: str) -> None:
    asyncio.run(open_control(settings.load({"control_database": database, "control_master_key": MASTER_KEY, **more}, {"HOME": "/nonexistent"})))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite://", "in memory would be forgotten"),
        ("sqlite:///:memory:", "in memory would be forgotten"),
        ("sqlite:////x?mode=memory&uri=true", "in memory would be forgotten"),
        ("postgresql://u@/x?sslcert=y", "'sslcert' can't be said"),
        ("mysql://x/y", "not supported"),
        ("nonsense", "not a database URL"),
        ("postgresql://u:secret@h:port/x", "not a database URL"),
    ],
)
def test_urls_that_are_none_are_told_without_their_password(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        database_url(url)
    assert "secret" not in caught.value.message


def test_sslmode_is_said_as_others_say_it() -> None:
    assert database_url("postgresql://u@h/x?sslmode=require").query == {"ssl": "require"}


def test_what_is_no_database_of_ours_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database" * 1000)
    (tmp_path / "text.db").chmod(0o600)
    for url, message in ((f"sqlite:///{tmp_path}/text.db", "not a database"), (f"sqlite:///{tmp_path}/none/x.db", "can't be made")):
        with pytest.raises(HeadraceError, match=message):
            _open(url)


def test_a_newer_schema_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    _open(url)
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(HeadraceError) as caught:
        _open(url)
    assert caught.value.code == "database-newer"

"""Both sides of the task door, each without the other: who keeps whom waiting, and for how long."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace import settings as configuration
from headrace.cli import task_door as visitor
from headrace.errors import HeadraceError, NodeFailure, NotFound
from headrace.node import parcel, task_door
from headrace.node.task_door import Door
from support.headrace import wait_until

GREETING = {"headrace": "1", "node": "gpu-1", "region": "zj-1"}


class NoTasks:
    """Refuses every task, as the control plane does for one that is not this node's."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def take(self, task: str, _: int) -> None:
        self.asked.append(task)
        raise NotFound("not-found", "task: there is none")


@pytest.fixture
def tasks() -> NoTasks:
    return NoTasks()


@pytest.fixture
def path(tmp_path: Path, tasks: NoTasks) -> Iterator[str]:
    door = Door(str(tmp_path / "door.sock"), tasks, GREETING)  # type: ignore[arg-type]
    door.open()
    yield str(tmp_path / "door.sock")
    door.close()


def _connected(path: str) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    channel.settimeout(30)
    channel.connect(path)
    return channel


def _first(channel: socket.socket) -> dict[str, Any]:
    received = parcel.receive(channel)
    assert received is not None
    return received[0]


def test_who_sends_slowly_is_hung_up_on(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parcel, "_REST_SECONDS", 0.5)
    with _connected(path) as channel:
        assert _first(channel) == GREETING
        channel.sendall(struct.pack("<II", 4000, 0))
        until = time.monotonic() + 10
        with suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < until:
                channel.sendall(b" ")
                time.sleep(0.05)  # a byte now and then is what is tried
        assert time.monotonic() < until


def test_who_asks_for_what_is_not_theirs_is_asked_to_wait(path: str, tasks: NoTasks) -> None:
    """The control plane hears each such question, by the node's name."""

    def ask(_: int) -> str:
        with _connected(path) as channel:
            assert _first(channel) == GREETING
            parcel.send(channel, {"op": "watch", "task": "01m8ksvvw9axtbdwe7y8s0xjp3"})
            return str(_first(channel)["error"]["code"])

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {"not-found"}
    assert (len(tasks.asked), time.monotonic() - began >= 8 * task_door._REFUSAL_SECONDS) == (8, True)


def test_users_leave_room_for_root_and_for_each_other(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's processes get in, however many users fill the door; and a place is given back."""
    users = iter([uid for uid in (1, 2, 3, 4) for _ in range(64)] + [0, 4])
    real = struct.unpack
    monkeypatch.setattr(task_door.struct, "unpack", lambda form, data: (1, next(users), 1) if form == "3i" else real(form, data))
    with ExitStack() as many:
        said = []
        for _ in range(4 * 64):
            channel = many.enter_context(_connected(path))
            said.append(_first(channel))
        assert said == [GREETING] * 192 + [{"error": said[-1]["error"]}] * 64
        assert said[-1]["error"]["code"] == "task-refused"
        with _connected(path) as roots:
            assert _first(roots) == GREETING
    users = iter([4] * 1000)

    def is_let_in() -> bool:
        with _connected(path) as channel:
            return bool(_first(channel) == GREETING)

    wait_until("a place is given back", is_let_in)


def _settings(path: Path, *, named: bool = True) -> configuration.Settings:
    return replace(configuration.load(), task_socket=str(path), task_socket_named=named)


def _listening(path: Path, room: int = 1) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX)
    channel.bind(str(path))
    channel.listen(room)
    return channel


def test_a_node_that_takes_nobody_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitor, "_CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(visitor, "_GREETING_SECONDS", 0.3)
    with _listening(tmp_path / "door.sock"), ExitStack() as many:
        # It says nothing; and then it has no room left for those that wait.
        for _ in range(4):
            with pytest.raises(NodeFailure, match="does not answer"):
                visitor.open_door(_settings(tmp_path / "door.sock"), "zj-1")
            waiting = many.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            waiting.connect_ex(str(tmp_path / "door.sock"))


def test_a_door_that_is_full_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitor, "_CONNECT_SECONDS", 0.3)
    with _listening(tmp_path / "door.sock") as listener:

        def refuse() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    parcel.send(connection, {"error": {"code": "task-refused", "message": "node: too many"}})

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        with pytest.raises(HeadraceError, match="too many"):
            visitor.open_door(_settings(tmp_path / "door.sock"), "zj-1")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_strangers_socket_at_the_users_own_place_hides_no_node_of_roots(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may make the default place of a user who has no session."""
    own = tmp_path / "own.sock"
    monkeypatch.setattr(visitor, "ROOT_TASK_SOCKET", path)
    monkeypatch.setattr(visitor, "other_end", lambda channel: 54321 if channel.getpeername() == str(own) else os.geteuid())
    monkeypatch.setattr(visitor, "_CONNECT_SECONDS", 0.3)
    with _listening(own, 8):
        with pytest.raises(NodeFailure, match="belongs to the user 54321"):
            visitor.open_door(_settings(own), "zj-1")
        door = visitor.open_door(_settings(own, named=False), "zj-1")
        assert door.node == "gpu-1"
        door.close()
        monkeypatch.setattr(visitor, "ROOT_TASK_SOCKET", str(tmp_path / "none.sock"))
        with pytest.raises(NodeFailure, match="belongs to the user 54321"):
            visitor.open_door(_settings(own, named=False), "zj-1")
    own.unlink()
    monkeypatch.setattr(visitor, "ROOT_TASK_SOCKET", path)
    with _listening(own, 0), ExitStack() as many:
        for _ in range(3):
            waiting = many.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            waiting.connect_ex(str(own))
        visitor.open_door(_settings(own, named=False), "zj-1").close()

"""Commands that are stopped while they mount: nothing stays mounted, whatever the node had done by then."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.cli.interruption import noticing
from headrace.node.client import Client
from headrace.node.protocol import Lines
from headrace.testing.content import content
from headrace.testing.faults import Fault
from headrace.testing.origin import Origin, failing_origin
from support.headrace import COMMAND, Headrace, beside, wait_until


@pytest.fixture
def origin() -> Iterator[Origin]:
    with failing_origin("models") as running:
        running.bucket("models").put("m/a", content(1, 0, 1000))
        yield running


@pytest.fixture
def headrace(tmp_path: Path, origin: Origin) -> Iterator[Headrace]:
    with beside(tmp_path, origin) as own:
        yield own


@pytest.mark.parametrize(("foreground", "number", "code"), [(False, signal.SIGTERM, 130), (False, signal.SIGINT, 130), (True, signal.SIGTERM, 0)])
def test_a_command_that_is_stopped_while_it_mounts_leaves_no_mount(
    headrace: Headrace, origin: Origin, foreground: bool, number: signal.Signals, code: int
) -> None:
    origin.faults.always(Fault.SLOW_FIRST_BYTE, on="list")
    directory = headrace.base / "mnt"
    command = [COMMAND, "mount", "s3://models/m", str(directory), *(["--foreground"] if foreground else [])]
    with subprocess.Popen(command, env=headrace.environment, stderr=subprocess.PIPE, text=True) as process:
        wait_until("the listing", lambda: origin.faults.total)
        process.send_signal(number)
        assert process.wait(20) == code
    origin.faults.clear()
    # The node's end shows that it waits for nothing any more.
    wait_until("the end of node and keeper", lambda: not headrace.processes())
    assert not os.path.ismount(directory)
    assert not directory.exists()


def test_a_command_that_is_stopped_as_its_mount_appears_leaves_none(headrace: Headrace) -> None:
    directory = headrace.base / "mnt"
    directory.mkdir()
    with subprocess.Popen([COMMAND, "mount", "s3://models/m", str(directory)], env=headrace.environment) as process:
        wait_until("the mount", lambda: os.path.ismount(directory))
        process.send_signal(signal.SIGTERM)
        # It may have been done before the signal came; then the mount is what was asked for.
        if process.wait(20) == 130:
            assert not os.path.ismount(directory)


def test_the_node_takes_a_mount_back_that_it_can_tell_nobody_of(headrace: Headrace) -> None:
    headrace.mount("s3://models/m", "first")
    directory = headrace.base / "mnt"
    directory.mkdir()
    look = {"uid": None, "gid": None, "file_mode": 0o444, "dir_mode": 0o555, "allow_other": False, "passthrough": True}
    environment = {name: text for name, text in headrace.environment.items() if name.startswith("AWS_")}
    params = {"source": "s3://models/m", "directory": str(directory), "environment": environment, "look": look, "snapshot": "current"}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(headrace.environment["HEADRACE_NODE"])
        assert Lines(connection).receive(), "the greeting"
        connection.sendall(json.dumps({"id": 1, "method": "mount", "params": params}).encode() + b"\n")
        connection.shutdown(socket.SHUT_RD)
        wait_until("the node to give up", lambda: "connection ended" in headrace.log())
    assert not os.path.ismount(directory)
    assert [mount["directory"] for mount in headrace.status()["mounts"]] == [str(headrace.base / "first")]


def test_an_answer_that_came_before_the_signal_is_read() -> None:
    ours, theirs = socket.socketpair()
    with theirs, noticing() as interruption:
        theirs.sendall(b'{"protocol": [1, 1]}\n')
        lines = Lines(ours)
        with Client(lines) as client, interruption.hanging_up(client):
            theirs.sendall(b'{"id": 1, "result": "mounted"}\n')
            signal.raise_signal(signal.SIGTERM)
            assert interruption
            with pytest.raises(BrokenPipeError):
                theirs.sendall(b"too late")
            assert lines.receive() == {"id": 1, "result": "mounted"}
            assert lines.receive() is None

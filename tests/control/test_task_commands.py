"""`headrace task attach|ls|show|end|place`, and what the door makes of nonsense."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from control.conftest import Origins, Place
from headrace.node import parcel
from headrace.testing.seaweed import Seaweed
from support.fleet import Fleet, until
from support.headrace import COMMAND
from support.jobs import WAITING, Jobs


@pytest.fixture
def database() -> None:
    """SQLite."""
    return


@pytest.fixture
def jobs(place: Place, tmp_path: Path, server: Seaweed, origins: Origins) -> Iterator[Jobs]:
    """An active volume, held by root's node."""
    place.admin.create_region({"name": "zj-1"})
    (tmp_path / "models").mkdir()
    with ExitStack() as stack:
        fleet = Fleet(place, tmp_path, stack, server)
        own = fleet.node("gpu-1", HEADRACE_TASK_PATHS=str(tmp_path / "models"))
        fleet.volume(origins)
        fleet.start()
        fleet.until("active")
        yield Jobs(fleet, own, stack)


def test_attach_holds_a_lease_until_a_signal_or_the_end_of_a_process(jobs: Jobs) -> None:
    job = jobs.start("attach", "--region", "zj-1", "--mount", "qwen", "--mount", "qwen@v1", "--name", "train")
    task = job.line()
    shown = jobs.one()
    assert (shown["id"], shown["name"], shown["node"], [mount["path"] for mount in shown["mounts"]]) == (
        task, "train", None, ["/mnt/qwen", "/mnt/qwen-v1"],
    )  # fmt: skip
    assert not jobs.own.status()["mounts"]
    job.process.send_signal(signal.SIGTERM)
    assert job.end() == (0, "", "")
    assert not jobs.tasks(ended="false")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as watched:
        job = jobs.start("attach", "--region", "zj-1", "--mount", "qwen", "--pid", str(watched.pid), "--json")
        until("it is held", lambda: jobs.tasks(ended="false"))
        watched.terminate()
        code, out, err = job.end()
        assert (code, json.loads(out)["state"], err) == (0, "running", "")
    assert not jobs.tasks(ended="false")
    assert "no process" in jobs.start("attach", "--region", "zj-1", "--mount", "qwen", "--pid", str(watched.pid)).end()[2]
    assert jobs.start("attach", "--region", "zj-1").end()[0] == 2
    for more in (("--region", "zj-1", "--mount", "qwen"), ("--mount", "qwen"), ("--region", "zj-1"), ("--name", "train"), ("--follow",)):
        assert jobs.start("attach", "--task", "x", *more).end()[0] == 2


def test_a_lease_that_was_taken_over_or_ran_out_is_told(jobs: Jobs) -> None:
    often = "import sys; from headrace.cli import main, tasks; tasks._BEAT_SECONDS = 0.2; sys.argv[0] = 'headrace'; main()"
    first = jobs.process(sys.executable, "-c", often, "task", "attach", "--region", "zj-1", "--mount", "qwen")
    task = first.line()
    lease = jobs.task(task)["lease_until"]
    until("it is renewed", lambda: jobs.task(task)["lease_until"] > lease)
    second = jobs.process(sys.executable, "-c", often, "task", "attach", "--task", task)
    assert second.line() == task
    code, _, err = first.end()
    assert (code, err.startswith("error: ")) == (1, True)
    assert jobs.one()["lease"] == 2
    jobs.fleet.place.admin.end_task(task)
    code, _, err = second.end()
    assert (code, "ended by" in err) == (1, True)


def test_a_lease_that_is_taken_over_from_a_node_ends_its_mounts(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.run(f"qwen:{tmp_path}/models/a", command=WAITING).begun()
    task = jobs.one()["id"]
    holder = jobs.start("attach", "--task", task)
    assert holder.line() == task
    until("nothing is mounted", lambda: not jobs.own.status()["mounts"])
    assert any("lease taken over" in event["message"] and task in event["message"] for event in jobs.own.status()["events"])
    assert jobs.one()["lease"] == 2
    holder.process.send_signal(signal.SIGTERM)
    assert holder.end() == (0, "", "")
    job.process.kill()


def test_ls_show_end_and_place(jobs: Jobs, tmp_path: Path) -> None:
    assert "no tasks" in jobs.start("ls").end()[1]
    job = jobs.run(f"qwen:{tmp_path}/models/a", command=WAITING, options=["--name", "serve", "--follow"]).begun()
    task = jobs.one()
    listed = jobs.start("ls", "--region", "zj-1", "--volume", "qwen").end()[1]
    assert task["id"] in listed
    assert "qwen@v1" in listed
    assert json.loads(jobs.start("ls", "--json").end()[1])[0]["id"] == task["id"]
    shown = jobs.start("show", task["id"]).end()[1]
    assert f"qwen@v1 at {tmp_path}/models/a, follows" in shown
    assert json.loads(jobs.start("show", task["id"], "--json").end()[1])["name"] == "serve"
    placed = json.loads(jobs.start("place", "--region", "zj-1", "--volume", "qwen", "--room", "1Mi", "--json").end()[1])
    assert (placed["node"], placed["tasks"]) == (task["node"], 1)
    assert "gpu-1" in jobs.start("place", "--region", "zj-1").end()[1]
    assert jobs.start("place", "--region", "zj-1", "--label", "gpu=H800").end()[0] != 0
    assert jobs.start("place", "--region", "zj-1", "--label", "gpu").end()[0] == 2
    assert jobs.start("end", task["id"], "--json").end()[0] == 0
    assert "no tasks" in jobs.start("ls").end()[1]
    assert "because" in jobs.start("show", task["id"]).end()[1]
    assert task["id"] in jobs.start("ls", "--all").end()[1]
    assert jobs.start("show", "01m8kgk2pbq0j5d07ax0nct2b5").end()[0] == 3
    job.end()
    jobs.none_left()


def _greeted(jobs: Jobs) -> socket.socket:
    door = socket.socket(socket.AF_UNIX)
    door.settimeout(30)
    door.connect(str(jobs.own.base / "run/node.task.sock"))
    received = parcel.receive(door)
    assert received is not None
    assert received[0].keys() == {"headrace", "node", "region"}
    return door


def test_nonsense_at_the_door_ends_the_visit_and_nothing_else(jobs: Jobs, tmp_path: Path) -> None:
    def framed(body: bytes, count: int = 0) -> bytes:
        return struct.pack("<II", len(body), count) + body

    for nonsense in (
        b"\xff" * 8, b"GET / HTTP/1.1\r\n\r\n", framed(b"{"), framed(b"[1]"), framed(b"[" * 4000), framed(b'{"op": ["mount"]}'), framed(b"{}", 3),
        framed(b'{"op": "stop"}'), framed(b'{"op": "mount", "task": 3}'), struct.pack("<II", 2**32 - 1, 0), struct.pack("<II", 4097, 0),
    ):  # fmt: skip
        with _greeted(jobs) as door:
            door.sendall(nonsense)
            with suppress(ConnectionResetError):
                assert door.recv(1) == b""
    for message, words in (({"op": "placed"}, "nothing was mounted"), ({"op": "mount", "task": "../x"}, ""), ({"op": "watch", "task": "x" * 99}, "")):
        with _greeted(jobs) as door:
            parcel.send(door, message)
            received = parcel.receive(door)
            assert received is not None
            assert words in received[0]["error"]["message"]
    # Descriptors that are sent here go nowhere.
    node = f"/proc/{jobs.own.node_pid()}/fd"
    before = len(os.listdir(node))
    for _ in range(20):
        with _greeted(jobs) as door:
            with suppress(BrokenPipeError):  # it has hung up by the first part
                parcel.send(door, {"op": "watch", "task": "x"}, [0, 1, 2])
            door.settimeout(5)
            with suppress(ConnectionResetError):
                assert door.recv(1) == b""
    until("nothing is held", lambda: len(os.listdir(node)) < before + 10)
    # One user has a share of the connections, and others find theirs when it is given back.
    with ExitStack() as many:
        for _ in range(64):
            many.enter_context(_greeted(jobs))
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(jobs.own.base / "run/node.task.sock"))
            received = parcel.receive(door)
            assert received is not None
            assert received[0]["error"]["code"] == "task-refused"
        assert "too many tasks" in jobs.refused(f"qwen:{tmp_path}/models/a")[1]
    assert until("there is room", lambda: _runs(jobs, tmp_path))
    assert "Traceback" not in jobs.own.log()


def test_what_is_typed_where_nothing_can_be_made_of_it(jobs: Jobs, tmp_path: Path) -> None:
    models = tmp_path / "models"
    # A working directory that is there no more.
    gone = f"mkdir {tmp_path}/gone; cd {tmp_path}/gone; rmdir {tmp_path}/gone; exec"
    for program, code in (("true", 0), ("./true", 127)):
        job = jobs.process("sh", "-c", f'{gone} "$@"', "-", COMMAND, "task", "run", "--region", "zj-1", "--mount", f"qwen:{models}/a", "--", program)
        assert (ended := job.end())[0] == code, ended
        assert "Traceback" not in ended[2]
    # Bytes that are no text.
    for options in (("--name", "\udcff"), ("--mount", f"qwen@\udcff:{models}/b")):
        code, err = jobs.refused(f"qwen:{models}/a", options=options)
        assert (code, "UTF-8" in err) == (2, True), err
    assert "UTF-8" in jobs.start("show", "\udcff").end()[2]


def _runs(jobs: Jobs, tmp_path: Path) -> bool:
    return jobs.run(f"qwen:{tmp_path}/models/a", command=("true",)).end()[0] == 0

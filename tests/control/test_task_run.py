"""`headrace task run` with a real control plane, real nodes and real mounts: what the command sees, and what is left afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from control.conftest import Origins, Place
from headrace.testing.seaweed import Seaweed
from support.fleet import Fleet
from support.jobs import WAITING, Jobs

CONFIG, MODEL = b"{}", bytes(range(256))
# Answers each line of its input: the content of a file, or why there is none.
READING = ("sh", "-c", 'echo begun; while read file; do cat "$file" 2>&1 || true; echo; done')


@pytest.fixture
def database() -> None:
    """SQLite: what a node and a command see of the control plane does not depend on the database."""
    return


@pytest.fixture
def fleet(place: Place, tmp_path: Path, server: Seaweed) -> Iterator[Fleet]:
    place.admin.create_region({"name": "zj-1"})
    with ExitStack() as stack:
        yield Fleet(place, tmp_path, stack, server)


@pytest.fixture
def jobs(fleet: Fleet, origins: Origins, tmp_path: Path) -> Jobs:
    """An active volume, held by root's node, which lets tasks mount below `models`."""
    own = fleet.node("gpu-1", HEADRACE_TASK_PATHS=str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    return Jobs(fleet, own, fleet.stack)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def test_the_directory_is_at_the_path_and_nobody_else_sees_it(jobs: Jobs, models: Path, origins: Origins) -> None:
    target = models / "qwen"
    target.mkdir()
    (target / "covered").write_text("mine")
    sent = jobs.fleet.sent(origins.bucket)
    script = f"""
        echo begun; ls {target}; od -An -v -tu1 -w256 {target}/model.safetensors | tr -s ' '; cat {target}/config.json; echo
        touch {target}/new 2>&1; grep ' {target} ' /proc/self/mountinfo; echo "$$ $HEADRACE_TASK"; read line; exit 7"""
    job = jobs.run(f"qwen:{target}", command=("sh", "-c", script)).begun()
    assert [job.line(), job.line()] == ["config.json", "model.safetensors"]
    assert bytes(map(int, job.line().split())) == MODEL
    assert job.line() == "{}"
    assert "Read-only file system" in job.line()
    line = job.line().split(" ")
    assert {"ro", "nosuid", "nodev"} <= set(line[5].split(","))
    assert line[line.index("-") + 1] == "fuse.headrace"
    assert not [part for part in line if part.startswith("shared:")]
    task = jobs.one()
    assert job.line() == f"{job.process.pid} {task['id']}"
    # Others see what was there, and the node knows whose it is.
    assert os.listdir(target) == ["covered"]
    assert str(target) not in Path("/proc/self/mountinfo").read_text()
    assert (task["state"], task["user"], task["mounts"][0]["version"]) == ("running", 0, 1)
    (mounted,) = jobs.own.status()["mounts"]
    assert (mounted["directory"], mounted["task"]["id"], mounted["task"]["volume"]) == (str(target), task["id"], "qwen")
    assert f"{target}  qwen@v1  in the task {task['id']}" in jobs.own.run("status").stdout
    assert jobs.fleet.sent(origins.bucket) == sent, "what is held is read without the origin"
    for command in (["refresh", str(target)], ["rollback", str(target), "v1"], ["umount", str(target)], ["warm", str(target)]):
        assert task["id"] in jobs.own.run(*command, check=False).stderr
    assert job.end() == (7, "", "")
    jobs.none_left()
    assert jobs.tasks()[0]["ended_because"]["en"] == "its last process has ended"
    assert os.listdir(target) == ["covered"]


def test_the_start_takes_no_time(jobs: Jobs, models: Path) -> None:
    for _ in range(3):
        began = time.monotonic()
        job = jobs.run(f"qwen:{models}/a", command=WAITING, options=["--times"]).begun()
        taken = time.monotonic() - began
        print(taken, job.end())
    jobs.none_left()

"""Tasks of ordinary users: at root's node, at one of their own, and never another's."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from control.conftest import Origins, Place
from headrace import settings
from headrace.errors import HeadraceError
from headrace.node.client import connect
from headrace.testing.seaweed import Seaweed
from support.fleet import Fleet, until
from support.headrace import COMMAND
from support.jobs import Jobs
from support.nobody import AS_NOBODY, NOBODY, fuse_for_everybody

MIB = 1 << 20
READING = ("sh", "-c", 'echo begun; while read file; do cat "$file" 2>&1 || true; echo; done')
STRANGER = [part.replace(str(NOBODY), "54321") for part in AS_NOBODY]


@pytest.fixture
def database() -> None:
    """SQLite."""
    return


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that every user finds the way to; pytest's own are closed."""
    with tempfile.TemporaryDirectory(prefix="headrace-") as made:
        os.chmod(made, 0o755)
        yield Path(made)


@pytest.fixture
def fleet(place: Place, base: Path, server: Seaweed) -> Iterator[Fleet]:
    place.admin.create_region({"name": "zj-1"})
    with ExitStack() as stack:
        yield Fleet(place, base, stack, server)


@pytest.fixture
def models(base: Path) -> Path:
    """Where the user may make directories."""
    for name in ("models", "home"):
        (base / name).mkdir()
        os.chown(base / name, NOBODY, NOBODY)
    return base / "models"


@pytest.fixture
def at_roots(fleet: Fleet, origins: Origins, base: Path, models: Path) -> Jobs:
    """The user's tasks at root's node."""
    own = fleet.node("gpu-1", HEADRACE_TASK_PATHS=str(models), HEADRACE_TASK_SOCKET=str(base / "door.sock"))
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    return Jobs(fleet, own, fleet.stack, AS_NOBODY, {"HOME": str(base / "home")})


@pytest.fixture
def at_own(fleet: Fleet, origins: Origins, base: Path, models: Path) -> Jobs:
    """The user's tasks at a node of the user's own."""
    fleet.stack.enter_context(fuse_for_everybody())
    own = fleet.node("gpu-1", join=False, HEADRACE_TASK_PATHS=str(models))
    own.prefix = list(AS_NOBODY)
    for path in (own.base, own.base / "run"):
        os.chown(path, NOBODY, NOBODY)
    fleet.join(own, "gpu-1")
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    return Jobs(fleet, own, fleet.stack, AS_NOBODY)


WAYS = pytest.mark.parametrize("way", ["at_roots", "at_own"])


@pytest.fixture
def jobs(request: pytest.FixtureRequest, way: str) -> Jobs:
    found: Jobs = request.getfixturevalue(way)
    return found


@WAYS
def test_a_user_without_privileges(jobs: Jobs, models: Path) -> None:
    target = models / "deep/qwen"
    script = f"""
        echo begun; id -u; cat {target}/config.json; echo; touch {target}/new 2>&1; grep ' {target} ' /proc/self/mountinfo
        grep -E 'Cap(Prm|Eff|Inh|Amb)' /proc/self/status | sort -u | tr -d '\\n\\t'; echo; stat -c %u:%g {target}/config.json; read line; exit 5"""
    job = jobs.run(f"qwen:{target}", command=("sh", "-c", script)).begun()
    assert [job.line(), job.line()] == [str(NOBODY), "{}"]
    assert "Read-only file system" in job.line()
    line = job.line().split(" ")
    assert {"ro", "nosuid", "nodev"} <= set(line[5].split(","))
    assert line[line.index("-") + 1] == "fuse.headrace"
    rights = dict(part.split(":") for part in job.line().replace("Cap", " Cap").split())
    assert {int(rights[name], 16) for name in ("CapPrm", "CapEff")} == {0}
    assert job.line() == f"{NOBODY}:{NOBODY}"
    task = jobs.one()
    assert (task["user"], task["state"]) == (NOBODY, "running")
    # Nobody else sees it: not at the path, and not where the node made it.
    assert os.listdir(target) == []
    assert f" {jobs.fleet.base}" not in Path("/proc/self/mountinfo").read_text()
    assert os.stat(target).st_uid == NOBODY
    assert job.end() == (5, "", "")
    jobs.none_left()
    assert not list((jobs.own.base / "cache/control/tasks").iterdir())


@WAYS
def test_a_large_file(jobs: Jobs, models: Path, origins: Origins) -> None:
    """Read by the node first, and by the kernel itself once it is complete, where that can be."""
    data = os.urandom(5 * MIB + 3)
    origins.access.put(origins.bucket, "qwen/large", data)
    jobs.fleet.place.admin.refresh("qwen", "zj-1")
    until("version 2", lambda: jobs.fleet.shown()["current"] == 2)
    job = jobs.run(f"qwen:{models}/a", command=("sh", "-c", f"for n in 1 2 3; do sha256sum < {models}/a/large; sleep 0.3; done"))
    code, out, _ = job.end()
    assert (code, set(out.split())) == (0, {hashlib.sha256(data).hexdigest(), "-"})


@WAYS
def test_the_node_is_killed(jobs: Jobs, models: Path) -> None:
    one = jobs.run(f"qwen:{models}/a", command=READING).begun()
    other = jobs.run(f"qwen:{models}/b", command=READING).begun()
    os.kill(jobs.own.node_pid(), signal.SIGKILL)
    assert one.ask(f"{models}/a/config.json") == "{}"
    assert one.end()[0] == 0
    # Each ends by itself: neither namespace holds the other's mount.
    until("one has ended", lambda: [mounted["directory"] for mounted in jobs.own.status()["mounts"]] == [f"{models}/b"])
    assert other.ask(f"{models}/b/config.json") == "{}"
    assert other.end()[0] == 0
    jobs.none_left()


@WAYS
def test_many_begin_at_once(jobs: Jobs, models: Path) -> None:
    many = [jobs.run(f"qwen:{models}/{number}", command=READING) for number in range(8)]
    for job in many:
        job.begun()
    first, *others = many
    assert first.end()[0] == 0
    until("its lease ends", lambda: len(jobs.tasks(ended="false")) == 7)
    for number, job in enumerate(others, 1):
        assert job.ask(f"{models}/{number}/config.json") == "{}"
        assert job.end()[0] == 0
    jobs.none_left()


def test_status_while_mounts_come_and_go(at_roots: Jobs, models: Path) -> None:
    """It failed when a mount began or ended while it went through them."""
    asked, failures, over = [0], list[str](), threading.Event()

    def ask() -> None:
        client = connect(settings.load({}, at_roots.own.environment))
        assert client is not None
        with client:
            while not over.is_set():
                try:
                    client.call("status", directory=None)
                    asked[0] += 1
                except HeadraceError as failure:
                    failures.append(failure.message)

    asking = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for one in asking:
        one.start()
    try:
        many = [at_roots.run(f"qwen:{models}/{number}", command=READING) for number in range(8)]
        for job in many:
            job.begun()
        for job in many:
            assert job.process.stdin is not None
            job.process.stdin.close()
        at_roots.none_left()
    finally:
        over.set()
        for one in asking:
            one.join(30)
    assert asked[0] > 0
    assert failures == []


def test_ended_by_force_at_a_users_own_node(at_own: Jobs, models: Path) -> None:
    job = at_own.run(f"qwen:{models}/a", command=READING).begun()
    at_own.fleet.place.admin.end_task(at_own.one()["id"])
    until("the node has let go", lambda: not at_own.own.status()["mounts"])
    said = job.ask(f"{models}/a/config.json")
    if Path("/sys/fs/fuse/connections").is_mount() or os.listdir("/sys/fs/fuse/connections"):
        assert "not connected" in said
    job.process.kill()


def test_another_users_task_is_refused(at_roots: Jobs, models: Path, base: Path) -> None:
    door = str(base / "door.sock")
    job = at_roots.run(f"qwen:{models}/a", command=READING).begun()
    node = at_roots.one()["node"]
    said = {"region": "zj-1", "node": node, "user": 4711, "mounts": [{"volume": "qwen", "path": f"{models}/b"}]}
    for user in (4711, None):
        task = at_roots.fleet.place.admin.create_task({**said, "user": user})["id"]
        asked = at_roots.process(sys.executable, "-c", ASKING, door, task)
        assert "task-refused" in asked.end()[1]
        at_roots.fleet.place.admin.end_task(task)
    running = at_roots.one()["id"]
    again = at_roots.process(sys.executable, "-c", ASKING, door, running)
    assert "mounted already" in again.end()[1]
    assert job.ask(f"{models}/a/config.json") == "{}"
    # A stranger has no way to end it either.
    at_roots.prefix = STRANGER
    stranger = at_roots.process(sys.executable, "-c", ASKING, door, running)
    assert "is not of the user 54321" in stranger.end()[1]
    assert at_roots.one()["id"] == running
    assert job.end()[0] == 0
    at_roots.none_left()


ASKING = """
import socket, sys
from headrace.node import parcel
with socket.socket(socket.AF_UNIX) as door:
    door.connect(sys.argv[1])
    assert parcel.receive(door)[0]["region"] == "zj-1"
    parcel.send(door, {"op": "mount", "task": sys.argv[2]})
    print(parcel.receive(door))
"""


def test_a_path_that_the_user_may_not_make(at_roots: Jobs, base: Path, models: Path) -> None:
    (models / "roots").mkdir(mode=0o755)
    code, err = at_roots.refused(f"qwen:{models}/roots/a")
    assert (code, "may write to" in err) == (1, True)
    assert not at_roots.tasks(ended="false")
    # What is there may be covered, whoever it belongs to.
    (models / "roots/there").mkdir()
    done = at_roots.run(f"qwen:{models}/roots/there", command=("cat", f"{models}/roots/there/config.json")).end()
    assert done == (0, "{}", "")
    # The node has its administrator's list, whatever the command's says.
    at_roots.environment["HEADRACE_TASK_PATHS"] = str(base)
    assert "have an administrator add it" in at_roots.refused(f"qwen:{base}/home/a")[1]
    assert os.listdir(base / "home") == []
    at_roots.none_left()


def test_a_socket_of_somebody_else_is_not_trusted(at_roots: Jobs, models: Path, base: Path) -> None:
    os.chmod(base / "home", 0o777)
    at_roots.prefix = STRANGER
    serving = at_roots.process(sys.executable, "-c", SERVING, str(base / "home/false.sock"))
    assert serving.line() == "serves"
    at_roots.prefix = AS_NOBODY
    at_roots.environment["HEADRACE_TASK_SOCKET"] = str(base / "home/false.sock")
    code, err = at_roots.refused(f"qwen:{models}/a")
    assert (code, "belongs to the user 54321" in err) == (1, True)
    assert not at_roots.tasks()


SERVING = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as door:
    door.bind(sys.argv[1])
    os.chmod(sys.argv[1], 0o666)
    door.listen()
    print("serves", flush=True)
    door.accept()
    sys.stdin.read()
"""


def test_status_and_the_command_line_of_a_user(at_own: Jobs, models: Path) -> None:
    job = at_own.run(f"qwen:{models}/a", command=("sh", "-c", f"echo begun; {COMMAND} --help > /dev/null; read line")).begun()
    task = at_own.one()["id"]
    assert f"{models}/a  qwen@v1  in the task {task} of the user {NOBODY}" in at_own.own.run("status").stdout
    assert task in at_own.own.run("umount", f"{models}/a", check=False).stderr
    job.end()
    at_own.none_left()

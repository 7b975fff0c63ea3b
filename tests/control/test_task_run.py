"""`headrace task run` with a real control plane, real nodes and real mounts: what the command sees, and what is left afterwards."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from control.conftest import Origins, Place
from headrace.testing.origin import failing_origin
from headrace.testing.seaweed import Seaweed
from headrace.testing.signatures import Key
from support.fleet import Fleet, until
from support.jobs import WAITING, Jobs
from support.relay import Front, address, front

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


def test_a_node_has_no_more_mounts_of_tasks_than_it_may(fleet: Fleet, origins: Origins, models: Path) -> None:
    models.mkdir()
    own = fleet.node("gpu-1", HEADRACE_TASK_PATHS=str(models), HEADRACE_TASK_MOUNTS="2")
    fleet.volume(origins)
    fleet.start()
    fleet.until("active")
    jobs = Jobs(fleet, own, fleet.stack)
    first = jobs.run(f"qwen:{models}/a", command=WAITING).begun()
    code, err = jobs.refused(f"qwen:{models}/b", f"qwen:{models}/c")
    assert (code, "as many mounts as task_mounts allows, 2" in err) == (4, True), (code, err)
    second = jobs.run(f"qwen:{models}/b", command=WAITING).begun()
    assert "task_mounts" in jobs.refused(f"qwen:{models}/c")[1]
    for job in (first, second):
        job.say("end")
        assert job.end()[0] == 0
    jobs.none_left()
    assert jobs.run(f"qwen:{models}/b", f"qwen:{models}/c", command=("true",)).end()[0] == 0


@pytest.fixture
def slow(jobs: Jobs, origins: Origins) -> Iterator[Front]:
    """The way to the origin of a volume `slow`, which is accelerated and can't be listed: the way is shut."""
    with front(address(origins.access.endpoint)) as way:
        jobs.fleet.volume(origins, "slow", endpoint=way.url)
        way.shut()
        jobs.fleet.start("slow")
        yield way


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


def test_two_versions_side_by_side_and_following(jobs: Jobs, models: Path, origins: Origins) -> None:
    admin = jobs.fleet.place.admin
    still = jobs.run(f"qwen:{models}/a", command=READING).begun()
    follows = jobs.run(f"qwen:{models}/a", f"qwen@v1:{models}/one", options=["--follow"], command=READING).begun()
    assert still.ask(f"{models}/a/config.json") == "{}"
    origins.access.put(origins.bucket, "qwen/config.json", b'{"a": 1}')
    admin.refresh("qwen", "zj-1")
    until("version 2", lambda: jobs.fleet.shown()["current"] == 2 and jobs.fleet.shown()["state"] == "active")
    until("it follows", lambda: follows.ask(f"{models}/a/config.json") == '{"a": 1}')
    assert follows.ask(f"{models}/one/config.json") == "{}"
    assert still.ask(f"{models}/a/config.json") == "{}"
    both = jobs.run(f"qwen:{models}/new", f"qwen@v1:{models}/old", command=READING).begun()
    assert [both.ask(f"{models}/{name}/config.json") for name in ("new", "old")] == ['{"a": 1}', "{}"]
    shown = {mounted["task"]["version"] for mounted in jobs.own.status()["mounts"]}
    assert shown == {1, 2}
    # A node that was killed knows the versions, and goes on following.
    os.kill(jobs.own.node_pid(), signal.SIGKILL)
    assert follows.ask(f"{models}/a/config.json") == '{"a": 1}'
    admin.roll_back("qwen", "zj-1", 1)
    until("it follows back", lambda: follows.ask(f"{models}/a/config.json") == "{}")
    assert both.ask(f"{models}/new/config.json") == '{"a": 1}'
    for job in (still, follows, both):
        assert job.end()[0] == 0
    jobs.none_left()


def test_node_and_keeper_are_killed_under_a_task(jobs: Jobs, models: Path) -> None:
    job = jobs.run(f"qwen:{models}/a", command=READING).begun()
    task = jobs.one()
    for _ in range(2):
        node = jobs.own.node_pid()
        os.kill(node, signal.SIGKILL)
        assert job.ask(f"{models}/a/config.json") == "{}"
        until("another node", lambda node=node: jobs.own.node_pid() != node)  # type: ignore[misc]
        keeper = jobs.own.status()["node"]["keeper_pid"]
        os.kill(keeper, signal.SIGKILL)
        until("another keeper", lambda keeper=keeper: jobs.own.status()["node"]["keeper_pid"] != keeper)  # type: ignore[misc]
        assert job.ask(f"{models}/a/config.json") == "{}"
    assert jobs.one()["id"] == task["id"]
    assert [mounted["task"]["id"] for mounted in jobs.own.status()["mounts"]] == [task["id"]]
    # The door is there again.
    assert jobs.run(f"qwen:{models}/b", command=("cat", f"{models}/b/config.json")).end() == (0, "{}", "")
    until("its lease is renewed by the new node", lambda: jobs.task(task["id"])["lease_until"] > task["lease_until"])
    job.end()
    jobs.none_left()


def test_a_mount_that_a_successor_cannot_serve_ends_its_task(jobs: Jobs, models: Path) -> None:
    """Its list is damaged: programs get errors, and nobody waits for the lease."""
    job = jobs.run(f"qwen:{models}/a", command=READING).begun()
    for found in (jobs.own.base / "cache/snapshots/control").glob("*.snap"):
        found.write_bytes(b"damaged")
    os.kill(jobs.own.node_pid(), signal.SIGKILL)
    jobs.none_left()
    assert "could not be served" in jobs.tasks()[0]["ended_because"]["en"]
    assert "not connected" in job.ask(f"{models}/a/model.safetensors")
    job.process.kill()


def test_the_last_process_ends_the_lease_and_not_the_first(jobs: Jobs, models: Path) -> None:
    job = jobs.run(f"qwen:{models}/a", command=("sh", "-c", f"exec 3<&0; (read line; cat {models}/a/config.json) <&3 & echo begun; exit 3")).begun()
    assert job.process.wait(30) == 3
    assert jobs.one()["state"] == "running"
    job.say("on")
    assert job.line() == "{}"
    jobs.none_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL, signal.SIGPIPE])
def test_a_signal_ends_the_command_as_ever(jobs: Jobs, models: Path, number: signal.Signals) -> None:
    job = jobs.run(f"qwen:{models}/a", command=WAITING).begun()
    job.process.send_signal(number)
    assert job.process.wait(30) == -number
    jobs.none_left()


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("no-such-program",), 127, "no-such-program is not found"),
        (("/no/such/program",), 127, "is not found"),
        (("/etc/passwd",), 126, "can't be executed"),
        (("/etc",), 126, "can't be executed"),
    ],
)
def test_a_command_that_cannot_be_run(jobs: Jobs, models: Path, command: tuple[str, ...], code: int, words: str) -> None:
    assert jobs.refused(f"qwen:{models}/a", command=command)[0] == code
    assert words in jobs.refused(f"qwen:{models}/a", command=command)[1]
    assert (jobs.tasks(), os.listdir(models)) == ([], [])


def test_a_command_that_turns_out_not_to_be_one(jobs: Jobs, models: Path, tmp_path: Path) -> None:
    """What lies in the mount, or is of another machine, is found out at last: nothing is left all the same."""
    (tmp_path / "foreign").write_bytes(b"\x7fELF" + bytes(60))
    (tmp_path / "script").write_text("echo begun\n")
    for name in ("foreign", "script"):
        (tmp_path / name).chmod(0o755)
    code, err = jobs.refused(f"qwen:{models}/deep/a", command=(str(models / "deep/a/config.json"),))
    assert (code, "can't be executed" in err) == (126, True)
    until("the task has ended", lambda: not jobs.tasks(ended="false"))
    assert os.listdir(models) == []
    assert jobs.run(f"qwen:{models}/a", command=(str(tmp_path / "script"),)).end() == (0, "begun\n", "")
    jobs.none_left()


def test_paths_that_are_refused(jobs: Jobs, models: Path, tmp_path: Path) -> None:
    (models / "real").mkdir()
    (models / "link").symlink_to(models / "real")
    (models / "file").write_text("")
    for mounts, words in [
        ((f"qwen:{models}/link",), f"leads through the link {models}/link"),
        ((f"qwen:{models}/link/below",), f"leads through the link {models}/link"),
        ((f"qwen:{models}/file",), "is no directory"),
        ((f"qwen:{models}/a", f"qwen:{models}/a/b"), "lie in one another"),
        ((f"qwen:{models}/a", f"qwen:{models}//a/"), "given twice"),
        ((f"qwen:{models}/../b",), "without it"),
        (("qwen:models",), "not absolute"),
        (("qwen:/",), "a part of the system"),
        (("qwen:/etc/headrace",), "a part of the system"),
        (("qwen:/usr",), "a part of the system"),
        (("qwen:/proc/1",), "a part of the system"),
        (("qwen:/dev/shm/x",), "a part of the system"),
        (("qwen:/sys/fs",), "a part of the system"),
        ((f"qwen:{tmp_path}/elsewhere",), "task_paths"),
        (("qwen",), "has no path"),
        (("qwen@:/mnt/x",), "is not VOLUME"),
    ]:
        code, err = jobs.refused(*mounts)
        assert (code, words in err) == (2, True), (mounts, code, err)
    # The command's own list is one thing, the administrator's another.
    jobs.environment["HEADRACE_TASK_PATHS"] = str(tmp_path)
    assert "have an administrator add it" in jobs.refused(f"qwen:{tmp_path}/elsewhere")[1]
    assert not (tmp_path / "elsewhere").exists()
    assert not jobs.tasks(ended="false")


def test_what_cannot_be_started_says_why(jobs: Jobs, models: Path, origins: Origins) -> None:
    assert "not of zj-2" in jobs.refused(f"qwen:{models}/a", region="zj-2")[1]
    assert jobs.refused(f"none:{models}/a")[0] == 3
    assert jobs.refused(f"qwen@v9:{models}/a")[0] == 3
    jobs.fleet.volume(origins, "idle")
    assert "start acceleration first" in jobs.refused(f"idle:{models}/a")[1]
    jobs.environment["HEADRACE_TASK_SOCKET"] = f"{models}/none.sock"
    assert "headrace node join" in jobs.refused(f"qwen:{models}/a")[1]
    assert (jobs.tasks(), os.listdir(models)) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_task_that_waits_ends_with_its_command(jobs: Jobs, models: Path, slow: Front, number: signal.Signals) -> None:
    job = jobs.run(f"slow:{models}/made/here", command=WAITING)
    until("the node watches it", lambda: jobs.own.status()["control"]["tasks_starting"] == 1)
    assert jobs.one()["state"] == "waiting"
    job.process.send_signal(number)
    code, out, err = job.end()
    assert (code, out) == (-9 if number == signal.SIGKILL else 128 + number, "")
    assert err.count("error: interrupted") == (number != signal.SIGKILL)
    jobs.none_left()
    assert os.listdir(models) == []


def test_waiting_is_bounded_and_what_becomes_mountable_begins(jobs: Jobs, models: Path, slow: Front) -> None:
    code, err = jobs.refused(f"slow:{models}/a", options=["--wait-seconds", "0.5"])
    assert (code, "can't be mounted yet" in err) == (1, True)
    jobs.none_left()
    job = jobs.run(f"slow:{models}/a", command=("cat", f"{models}/a/config.json"))
    until("it waits", lambda: [task["state"] for task in jobs.tasks(ended="false")] == ["waiting"])
    slow.open()
    assert job.end() == (0, "{}", "")


def test_a_node_that_is_killed_while_a_task_waits(jobs: Jobs, models: Path, slow: Front) -> None:
    job = jobs.run(f"slow:{models}/a", command=("cat", f"{models}/a/config.json"))
    until("the node watches it", lambda: jobs.own.status()["control"]["tasks_starting"] == 1)
    os.kill(jobs.own.node_pid(), signal.SIGKILL)
    slow.open()
    assert job.end() == (0, "{}", "")
    jobs.none_left()


def test_a_control_plane_that_is_away_for_a_moment_while_a_task_waits(jobs: Jobs, models: Path, slow: Front) -> None:
    with front(address(jobs.fleet.place.control.url)) as control:
        jobs.environment["HEADRACE_CONTROL_URL"] = control.url
        job = jobs.run(f"slow:{models}/a", command=("cat", f"{models}/a/config.json"))
        until("the node watches it", lambda: jobs.own.status()["control"]["tasks_starting"] == 1)
        # The command's own questions, and not the node's: that goes its own way to the control plane.
        control.shut()
        slow.open()
        until("it has asked in vain", lambda: control.turned_away > 0)
        control.open()
        assert (ended := job.end()) == (0, "{}", ""), ended


def test_an_answer_that_is_lost_is_asked_for_again(jobs: Jobs, models: Path) -> None:
    """The replica dies when it has made the task: there is one task, not two, and the command begins."""
    losing = """
import sys
from headrace.cli import main
from headrace.client import ControlClient, ControlFailure
real, lost = ControlClient.create_task, []
def create_task(self, task, key=None):
    made = real(self, task, key)
    if not lost:
        lost.append(made)
        raise ControlFailure("control-unreachable", "it broke off")
    assert made["id"] == lost[0]["id"]
    return made
ControlClient.create_task = create_task
sys.argv[0] = "headrace"
main()
"""
    arguments = ["task", "run", "--region", "zj-1", "--mount", f"qwen:{models}/a", "--", "cat", f"{models}/a/config.json"]
    assert jobs.process(sys.executable, "-c", losing, *arguments).end() == (0, "{}", "")
    assert len(jobs.tasks()) == 1
    jobs.none_left()


# `headrace task` that kills itself where it would do what is named.
KILLED_AT = """
import os, signal, sys
from headrace.cli import main, task_run
def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(task_run, sys.argv.pop(1), kill)
sys.argv[0] = "headrace"
main()
"""


@pytest.mark.parametrize("step", ["_wait_mountable", "own_namespace", "check_hung", "_become", "_exec"])
def test_killed_before_the_command_begins(jobs: Jobs, models: Path, step: str) -> None:
    (models / "a").mkdir()
    arguments = ["task", "run", "--region", "zj-1", "--mount", f"qwen:{models}/a", "--", "true"]
    job = jobs.process(sys.executable, "-c", KILLED_AT, step, *arguments)
    assert job.end()[0] == -9
    if step == "_wait_mountable":
        # Made, and nobody but the control plane knows of it: its lease ends by itself.
        assert jobs.one()["lease"] == 1
        jobs.fleet.place.admin.end_task(jobs.one()["id"])
    jobs.none_left()
    if step != "_wait_mountable":
        assert jobs.tasks()[0]["ended_because"]["en"] in ("the command went away before it began", "its last process has ended")


def test_it_fails_at_the_last_step_and_leaves_nothing(jobs: Jobs, models: Path) -> None:
    failing = KILLED_AT.replace("os.kill(os.getpid(), signal.SIGKILL)", "raise task_run.MountFailure('mount-failed', 'no')")
    arguments = ["task", "run", "--region", "zj-1", "--mount", f"qwen:{models}/a/b", "--mount", f"qwen:{models}/a/c", "--", "true"]
    for step in ("_hang", "check_hung", "_become"):
        assert jobs.process(sys.executable, "-c", failing, step, *arguments).end() == (1, "", "error: no\n")
        assert not jobs.tasks(ended="false"), "it has ended before the command has"
        assert os.listdir(models) == []
    jobs.none_left()


def test_one_that_fails_takes_no_mount_point_from_another(jobs: Jobs, models: Path) -> None:
    """Both want the same path, which the one that fails has made."""
    failing = KILLED_AT.replace(
        "os.kill(os.getpid(), signal.SIGKILL)", "print('made', flush=True); input(); raise task_run.MountFailure('mount-failed', 'no')"
    )
    first = jobs.process(
        sys.executable, "-c", failing, "own_namespace", "task", "run", "--region", "zj-1", "--mount", f"qwen:{models}/a", "--", "true"
    )
    assert first.line() == "made"
    other = jobs.run(f"qwen:{models}/a", command=READING)
    until("it has its mounts", lambda: len(jobs.own.status()["mounts"]) == 2)
    first.say("on")
    assert first.end() == (1, "", "error: no\n")
    assert other.begun().ask(f"{models}/a/config.json") == "{}"
    assert other.end()[0] == 0
    jobs.none_left()


def test_reading_goes_on_while_the_control_plane_is_away(fleet: Fleet, origins: Origins, models: Path, tmp_path: Path) -> None:
    models.mkdir()
    with front(address(fleet.place.control.url)) as way:
        own = fleet.node("gpu-1", join=False, HEADRACE_TASK_PATHS=str(models))
        fleet.join(own, "gpu-1", url=way.url)
        origins.access.put(origins.bucket, "qwen/another", b"content")
        fleet.volume(origins)
        fleet.start(selection={"kind": "metadata"})
        fleet.until("active")
        jobs = Jobs(fleet, own, fleet.stack)
        job = jobs.run(f"qwen:{models}/a", command=READING).begun()
        way.shut()
        until("the node notices", lambda: own.status()["control"]["error"])
        # Not held: the node has the keys to fetch it, also after it was killed.
        assert job.ask(f"{models}/a/config.json") == "{}"
        os.kill(own.node_pid(), signal.SIGKILL)
        assert job.ask(f"{models}/a/another") == "content"
        way.open()
        until("it is heard", lambda: own.status()["control"]["heard"])
        assert jobs.one()["state"] == "running"
        job.process.kill()
        jobs.none_left()


def test_a_lease_that_ran_out_while_the_node_was_away_lives_again(jobs: Jobs, models: Path) -> None:
    job = jobs.run(f"qwen:{models}/a", command=READING).begun()
    task = jobs.one()
    jobs.fleet.place.control.clock.advance(timedelta(seconds=300))
    until("it is renewed", lambda: jobs.task(task["id"])["lease_until"] > task["lease_until"], 60)
    until("it is alive", lambda: jobs.task(task["id"])["state"] == "running", 60)
    assert job.ask(f"{models}/a/config.json") == "{}"
    job.process.kill()
    jobs.none_left()


@pytest.mark.parametrize("how", ["end", "release"])
def test_a_task_that_is_ended_by_force_gets_errors(jobs: Jobs, models: Path, how: str) -> None:
    job = jobs.run(f"qwen:{models}/a", command=READING).begun()
    task = jobs.one()
    if how == "end":
        assert jobs.start("end", task["id"]).end() == (0, f"task {task['id']} has ended\n", "")
    else:
        jobs.own.environment |= {"HEADRACE_CONTROL_URL": jobs.fleet.place.control.url, "HEADRACE_TOKEN": jobs.token()}
        assert task["id"] in jobs.own.run("release", "qwen", "--region", "zj-1", check=False).stderr
        jobs.own.run("release", "qwen", "--region", "zj-1", "--force")
    until("nothing is mounted", lambda: not jobs.own.status()["mounts"])
    assert "not connected" in job.ask(f"{models}/a/config.json")
    assert any(event["kind"] == "task-ended" and task["id"] in event["message"] for event in jobs.own.status()["events"])
    assert job.end()[0] == 0
    if how == "release":
        until("nothing is cached", lambda: json.loads(jobs.own.run("cache", "ls", "--json").stdout) == [])
        until("no list is kept", lambda: not list((jobs.own.base / "cache/snapshots/control").iterdir()))


def test_keys_that_were_replaced_reach_a_running_task(fleet: Fleet, models: Path) -> None:
    models.mkdir()
    with failing_origin("models") as origin:
        for name in ("one", "two"):
            origin.bucket("models").put(f"qwen/{name}", b"content\n")
        signatures = origin.check_signatures()
        own = fleet.node("gpu-1", HEADRACE_TASK_PATHS=str(models))
        keys = {"access_key": origin.access.access_key, "secret_key": origin.access.secret_key}
        said = {"name": "qwen", "endpoint": origin.access.endpoint, "bucket": "models", "directory": "qwen", "credentials": keys}
        fleet.place.admin.create_volume(said)
        fleet.start(selection={"kind": "metadata"})
        fleet.until("active")
        job = Jobs(fleet, own, fleet.stack).run(f"qwen:{models}/a", command=("sh", "-c", READING[2].replace("; echo; done", "; done"))).begun()
        assert job.ask(f"{models}/a/one") == "content"
        signatures.keys["headrace"] = Key("another-secret")
        fleet.place.admin.rotate_credentials("qwen", keys | {"secret_key": "another-secret"})
        until("the node has the new keys", lambda: job.ask(f"{models}/a/two") == "content")
        # Its successor has them too.
        origin.bucket("models").put("qwen/three", b"content\n")
        os.kill(own.node_pid(), signal.SIGKILL)
        own.run("cache", "evict", "--all")
        assert job.ask(f"{models}/a/one") == "content"
        shown = own.run("status", "--json").stdout + own.run("status").stdout + own.log()
        assert "another-secret" not in shown
        assert not [path for path in own.base.rglob("*") if path.is_file() and b"another-secret" in path.read_bytes()]
        job.process.kill()


def test_a_node_that_drains_or_leaves_lets_tasks_go_on(jobs: Jobs, models: Path) -> None:
    job, other = (jobs.run(f"qwen:{models}/a", command=READING).begun() for _ in range(2))
    node = next(iter(jobs.fleet.place.admin.nodes()))["id"]
    jobs.fleet.place.admin.drain_node(node)
    assert "draining" in jobs.refused(f"qwen:{models}/b")[1]
    jobs.own.run("node", "leave")
    assert "headrace node join" in jobs.refused(f"qwen:{models}/b")[1]
    os.kill(jobs.own.node_pid(), signal.SIGKILL)
    assert job.ask(f"{models}/a/config.json") == "{}"
    assert list((jobs.own.base / "cache/snapshots/control").glob("*.snap"))
    # It joins again: another node to the control plane, which knows nothing of the old one's tasks.
    jobs.fleet.join(jobs.own, "gpu-2")
    jobs.fleet.until("active")
    assert jobs.run(f"qwen:{models}/b", command=("cat", f"{models}/b/config.json")).end() == (0, "{}", "")
    until("that task has ended", lambda: len(jobs.own.status()["mounts"]) == 2)
    assert job.ask(f"{models}/a/config.json") == "{}"
    job.end()
    until("one is left", lambda: len(jobs.own.status()["mounts"]) == 1)
    jobs.own.run("node", "leave")
    assert other.ask(f"{models}/a/config.json") == "{}"
    other.end()
    until("no list is kept", lambda: not list((jobs.own.base / "cache/snapshots/control").glob("*.snap")))


def test_a_node_that_stops_ends_its_tasks(jobs: Jobs, models: Path) -> None:
    job = jobs.run(f"qwen:{models}/a", command=READING).begun()
    jobs.own.run("node", "--stop")
    until("the node has ended", lambda: not jobs.own.processes())
    assert jobs.tasks()[0]["ended_because"]["en"] == "the node was stopped"
    assert "not connected" in job.ask(f"{models}/a/config.json")

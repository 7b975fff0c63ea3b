"""Commands and the node: which one they find, what it keeps of theirs, and that it goes when it is of no use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import settings
from headrace.node import client, mountinfo, record
from headrace.testing.access import Access
from support.bucket import Bucket
from support.headrace import COMMAND, Headrace, wait_until

MIB = 1 << 20


@pytest.fixture
def unnamed(tmp_path: Path, server: Access) -> Iterator[Headrace]:
    """Two cache directories, `cache` and `other`, in an environment that names no node."""
    own = Headrace(tmp_path, server.environment())
    del own.environment["HEADRACE_NODE"]
    sockets = [Path(settings.load({"cache_dir": str(tmp_path / name)}, own.environment).socket) for name in ("cache", "other")]
    yield own
    for path in sockets:
        own.environment["HEADRACE_NODE"] = str(path)
        own.stop()
        for left in path.parent.glob(f"{path.stem}.*"):
            left.unlink()


def directories(status: dict[str, object]) -> list[str]:
    answers = [status, *status["others"]]  # type: ignore[misc]
    return [mount["directory"] for answer in answers for mount in answer["mounts"]]


def test_a_mount_with_another_cache_directory_is_found_by_every_command(unnamed: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", MIB)
    other = unnamed.mount(bucket.uri("m"), "mnt", "--cache-dir", str(unnamed.base / "other"))
    assert str(other) in unnamed.run("status").stdout
    assert "cache directory" in unnamed.run("cache", "ls", check=False).stderr
    for command in (["status"], ["warm"], ["refresh"], ["snapshots"], ["cache", "pin"], ["credentials"]):
        unnamed.run(*command, str(other))
    mine = unnamed.mount(bucket.uri("m"), "mine")
    assert {str(other), str(mine)} <= set(directories(unnamed.status()))
    unnamed.run("umount", str(other))
    assert not os.path.ismount(other)
    assert os.path.ismount(mine)


def test_a_line_of_fstab_with_a_cache_directory_is_unmounted_without_it(unnamed: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", 1)
    directory = unnamed.base / "mnt"
    command = str(Path(COMMAND).with_name("mount.headrace"))
    subprocess.run([command, bucket.uri("m"), str(directory), "-o", f"cache_dir={unnamed.base / 'other'}"], env=unnamed.environment, check=True)
    unnamed.run("umount", str(directory))
    assert not os.path.ismount(directory)


def test_a_record_of_what_is_not_mounted_any_more_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "node.mounts").write_text(json.dumps([str(tmp_path), "/nowhere"]))
    assert record.recorded(tmp_path) == {str(tmp_path / "node.sock"): []}
    record.write(str(tmp_path / "node.sock"), [])
    assert list(tmp_path.iterdir()) == []


def test_a_running_node_is_not_taken_for_one_with_another_cache(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", 1)
    headrace.mount(bucket.uri("m"))
    second = headrace.base / "second"
    done = headrace.run("mount", bucket.uri("m"), str(second), "--cache-dir", str(headrace.base / "else"), check=False)
    assert (done.returncode, "cache dir" in done.stderr, "node --stop" in done.stderr) == (2, True, True), done.stderr
    assert not second.exists()
    done = headrace.run("mount", bucket.uri("m"), str(second), "--memory", "128Mi", "--cache-size", "3Gi")
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["cache size", "memory"]
    headrace.run("umount", str(second))
    assert headrace.run("mount", bucket.uri("m"), str(second), "--memory", "64Mi", "--cache-dir", str(headrace.base / "cache")).stderr == ""


def kill_both(headrace: Headrace) -> None:
    status = headrace.status()["node"]
    os.kill(status["keeper_pid"], signal.SIGSTOP)
    os.kill(status["pid"], signal.SIGKILL)
    os.kill(status["keeper_pid"], signal.SIGKILL)


def test_a_dead_mount_is_named_and_taken_away(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", MIB)
    directory = headrace.mount(bucket.uri("m"))
    kill_both(headrace)
    wait_until("the dead mount", lambda: mountinfo.is_dead(str(directory)))
    done = headrace.run("status", check=False)
    assert (done.returncode, f"{directory} is a dead mount" in done.stdout, "nothing is mounted" in done.stdout) == (1, True, False)
    assert json.loads(headrace.run("status", "--json", check=False).stdout)["dead"] == [str(directory)]
    done = headrace.run("status", str(directory), check=False)
    assert (done.returncode, "dead" in done.stderr) == (3, True)
    # A node that runs again does not make it forgotten.
    headrace.mount(bucket.uri("m"), "second")
    assert json.loads(headrace.run("status", "--json", check=False).stdout)["dead"] == [str(directory)]
    assert "taken away" in headrace.run("umount", str(directory)).stderr
    assert not os.path.ismount(directory)
    assert json.loads(headrace.run("status", "--json").stdout)["dead"] == []


def test_a_node_that_could_not_start_does_not_keep_its_reason(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", 1)
    (headrace.base / "cache").write_text("in the way")
    done = headrace.run("mount", bucket.uri("m"), str(headrace.base / "mnt"), check=False)
    assert done.returncode == 7
    (headrace.base / "cache").unlink()
    headrace.mount(bucket.uri("m"))


def test_a_node_that_could_not_start_can_be_stopped(headrace: Headrace) -> None:
    (headrace.base / "cache").write_text("in the way")
    with client.connect_or_start(settings.load({}, headrace.environment)):
        headrace.run("node", "--stop")
        wait_until("the end of node and keeper", lambda: not headrace.processes())


@pytest.mark.parametrize("refused_by", ["node", "command"])
def test_a_node_started_for_a_mount_that_failed_goes_at_once(headrace: Headrace, bucket: Bucket, refused_by: str) -> None:
    headrace.environment["HEADRACE_IDLE"] = "600"
    target = headrace.base / "mnt"
    if refused_by == "command":
        target.write_text("a file")
    assert headrace.run("mount", bucket.uri("nothing"), str(target), check=False).returncode != 0
    wait_until("the end of node and keeper", lambda: not headrace.processes())


def test_wrong_credentials_do_not_replace_good_ones(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", MIB)
    directory = headrace.mount(bucket.uri("m"))
    right = headrace.environment["AWS_SECRET_ACCESS_KEY"]
    headrace.environment["AWS_SECRET_ACCESS_KEY"] = "wrong"
    done = headrace.run("credentials", str(directory), check=False)
    assert (done.returncode, "replaced" in done.stdout) == (4, False), done.stderr
    assert (directory / "a").read_bytes() == data
    headrace.environment["AWS_SECRET_ACCESS_KEY"] = right
    assert "replaced" in headrace.run("credentials", str(directory)).stdout

"""Bind mounts of a mount in other mount namespaces, made before and after a kill of the node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace, wait_until

MIB = 1 << 20

# Binds the mount to a place of its own, then answers each line of its input with the digest of a file there.
INSIDE = """
import hashlib, subprocess, sys
source, target = sys.argv[1:]
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "--bind", source, target], check=True)
print("bound", flush=True)
for line in sys.stdin:
    with open(f"{target}/{line.strip()}", "rb") as file:
        print(hashlib.file_digest(file, "sha256").hexdigest(), flush=True)
"""


class Namespace:
    """A process in a mount namespace of its own, with the mount bound elsewhere."""

    def __init__(self, source: Path, target: Path) -> None:
        target.mkdir()
        self.process = subprocess.Popen(
            ["unshare", "--mount", sys.executable, "-c", INSIDE, str(source), str(target)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "bound\n"

    def digest(self, name: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(10) == 0


def test_bind_mounts_made_before_and_after_a_kill(headrace: Headrace, bucket: Bucket) -> None:
    import hashlib

    for name in ("a", "b", "c"):
        bucket.put(f"m/{name}", 3 * MIB + 5)
    expected = {name: hashlib.sha256(bucket.objects[f"m/{name}"]).hexdigest() for name in ("a", "b", "c")}
    directory = headrace.mount(bucket.uri("m"))
    before = Namespace(directory, headrace.base / "before")
    assert before.digest("a") == expected["a"]
    pid = headrace.node_pid()
    os.kill(pid, signal.SIGKILL)
    # Nothing asks for the new node: what is read through the old binding must bring the bytes by itself.
    assert before.digest("b") == expected["b"]
    after = Namespace(directory, headrace.base / "after")
    assert {name: after.digest(name) for name in expected} == expected
    os.kill(wait_until("the next node", lambda: (new := headrace.node_pid()) != pid and new), signal.SIGKILL)
    assert {name: before.digest(name) for name in expected} == expected
    assert {name: after.digest(name) for name in expected} == expected
    before.close()
    after.close()


@pytest.mark.parametrize("linked", ["the mount point", "a directory above it"])
def test_a_mount_point_behind_a_link(headrace: Headrace, bucket: Bucket, linked: str) -> None:
    """The kernel lists the place without links. What looked for the path as typed found nothing: no read-ahead, and no unmounting."""
    data = bucket.put("m/a", 3 * MIB)
    real, link = headrace.base / "real", headrace.base / "link"
    (real / "mnt").mkdir(parents=True)
    link.symlink_to(real / "mnt" if linked == "the mount point" else real)
    typed = link if linked == "the mount point" else link / "mnt"
    headrace.run("mount", bucket.uri("m"), str(typed))
    assert [mount["directory"] for mount in headrace.status()["mounts"]] == [str(real / "mnt")]
    assert (typed / "a").read_bytes() == data
    device = os.stat(real / "mnt").st_dev
    assert Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb").read_text().strip() == "4096"
    for path in (typed, real / "mnt"):
        assert "snapshot v1" in headrace.run("refresh", str(path)).stdout
        headrace.run("warm", str(path / "a"))
    assert "already mounted" in headrace.run("mount", bucket.uri("m"), str(typed), check=False).stderr
    headrace.run("umount", str(typed))
    assert not os.path.ismount(real / "mnt")


def test_a_place_that_somebody_else_unmounted_is_free_at_once(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", 1000)
    for _ in range(3):
        directory = headrace.mount(bucket.uri("m"))
        assert (directory / "a").read_bytes() == data
        subprocess.run(["umount", str(directory)], check=True)

"""A headrace of a test's own: cache, socket, mounts; everything stopped at the end.

`HEADRACE_TEST_MASK`, a list as in `HEADRACE_KERNEL_MASK` or `everything`, has every test do without features of the kernel.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from headrace import settings
from headrace.errors import HeadraceError
from headrace.node import mountinfo, record
from headrace.node.client import connect
from headrace.testing.origin import Origin

FEATURES = ("passthrough", "resend", "direct-mmap", "large-reads", "epoch")
# HEADRACE_KERNEL_MASK of a kernel that has none of them.
EVERYTHING = ",".join(FEATURES)
_GONE_SECONDS = 20.0
_END_SECONDS = 30.0
COMMAND = str(Path(sys.executable).with_name("headrace"))


def wait_until(what: str, condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Waits for a condition, with a bound; gives what the condition gave."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, f"{what} did not come about in {seconds} s"
        time.sleep(0.01)
    return found


class Headrace:
    """Commands against a node of the test's own."""

    def __init__(self, base: Path, environment: dict[str, str]) -> None:
        self.base = base
        self.prefix: list[str] = []
        runtime = base / "run"
        runtime.mkdir(mode=0o700)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "HEADRACE_"))}
        self.environment = {
            **clean,
            **environment,
            "HEADRACE_CACHE_DIR": str(base / "cache"),
            "HEADRACE_CACHE_SIZE": "2Gi",
            "HEADRACE_CACHE_RESERVE": "0",
            "HEADRACE_MEMORY": "64Mi",
            "HEADRACE_NODE": str(runtime / "node.sock"),
            "HEADRACE_DEADLINE": "20",
            "HEADRACE_IDLE": "2",
            "HOME": str(base),
        }
        masked = os.environ.get("HEADRACE_TEST_MASK", "")
        if masked:
            self.mask(*(FEATURES if masked == "everything" else masked.split(",")))

    def mask(self, *features: str) -> None:
        """Has the node do without these features of the kernel too."""
        before = self.environment.get("HEADRACE_KERNEL_MASK", "").split(",")
        self.environment["HEADRACE_KERNEL_MASK"] = ",".join(dict.fromkeys(filter(None, [*before, *features])))

    @property
    def passthrough(self) -> bool:
        """Whether the kernel reads large complete files itself."""
        return "passthrough" not in self.environment.get("HEADRACE_KERNEL_MASK", "").split(",")

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*self.prefix, COMMAND, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if check:
            assert done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.log()}"
        return done

    def mount(self, source: str, name: str = "mnt", *options: str) -> Path:
        directory = self.base / name
        self.run("mount", source, str(directory), *options)
        return directory

    def status(self) -> dict[str, Any]:
        """What `headrace status --json` tells of the node. The node is asked from here where it can be: a command takes 0.2 s to start."""
        if self.prefix or "HEADRACE_NODE" not in self.environment:
            return dict(json.loads(self.run("status", "--json").stdout))
        chosen = settings.load({}, self.environment)
        dead = [directory for directory in record.read(chosen.socket) if mountinfo.is_dead(directory)]
        assert not dead, f"dead mounts: {dead}\n{self.log()}"
        client = connect(chosen)
        if client is None:
            return {"node": None, "mounts": []}
        with client:
            answer = client.call("status", directory=None)
            # What the node holds for a connection is gone afterwards, as it is after a command.
            client.ask_no_more()
            assert client.wait_closed(_GONE_SECONDS), f"the node keeps a connection that nobody uses\n{self.log()}"
        return dict(answer)

    def node_pid(self) -> int:
        return int(self.status()["node"]["pid"])

    def counters(self) -> dict[str, float]:
        return dict(self.status()["counters"])

    def verify(self) -> dict[str, Any]:
        """What `cache verify` finds; it fails exactly when blocks were damaged or a directory is out of use."""
        done = self.run("cache", "verify", "--json", check=False)
        found = dict(json.loads(done.stdout))
        assert (done.returncode == 0) == (found["bad_blocks"] == 0 and not found["failed"]), done
        return found

    def wait_durable(self, files: int) -> None:
        """Waits until so many files of the first mount are complete and the disk has confirmed them."""
        wait_until("files on the disk", lambda: self.status()["mounts"][0]["files_durable"] >= files)

    def log(self) -> str:
        path = self.base / "run/node.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def stop(self) -> None:
        """Unmounts everything, ends keeper and node, and fails when something is left."""
        try:
            status = self.status()
        except (HeadraceError, AssertionError):
            status = json.loads(self.run("status", "--json", check=False).stdout or "{}")
        for mount in status.get("mounts", []):
            self.run("umount", "--lazy", mount["directory"], check=False)
        node = status.get("node")
        if node:
            with contextlib.suppress(ProcessLookupError):
                os.kill(node["pid"], signal.SIGTERM)
        # One that could not start its engine ends by itself.
        with contextlib.suppress(AssertionError):
            wait_until("the end of node and keeper", lambda: not self.processes(), _END_SECONDS)
        left = self.processes()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for mounted in mountinfo.mounted():
            if mounted.fstype == mountinfo.FSTYPE and mounted.directory.startswith(f"{self.base}/"):
                subprocess.run(["umount", "--lazy", mounted.directory], check=True)
                left.append(0)
        assert not left, f"processes or mounts were left: {left}\n{self.log()}"

    def processes(self) -> list[int]:
        """Keeper and node of this headrace: whatever has its socket in the command line or the environment."""
        socket = self.environment["HEADRACE_NODE"].encode()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                ours = b"headrace.node" in (process / "cmdline").read_bytes() and socket in (process / "environ").read_bytes()
            except OSError:
                continue
            if ours and _alive(int(process.name)):
                found.append(int(process.name))
        return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def beside(base: Path, origin: Origin) -> Iterator[Headrace]:
    """A headrace below `base` that reads a failing origin; at its end nothing fails any more."""
    own = Headrace(base, origin.access.environment())
    try:
        yield own
    finally:
        origin.faults.clear()
        own.stop()

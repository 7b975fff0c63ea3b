"""Headrace with a cache, a socket and a node of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.seats import Route
from headrace.testing.waiting import wait_until

_COMMAND_SECONDS = 600


class Headrace:
    """Everything lies below `base`: cache, mount point, socket, log."""

    name = "headrace"

    def __init__(self, base: Path, route: Route, *, cache_size: int, memory: int, settings: Mapping[str, str] = {}) -> None:
        base.mkdir(parents=True)
        (base / "run").mkdir(mode=0o700)
        if route.seat.user:
            for directory in (base, base / "run"):
                os.chown(directory, route.seat.user, route.seat.user)
        self.seat = route.seat
        self.directory = base / "mount"
        self.socket = base / "run/node.sock"
        self.options = ""  # of the mount, as the kernel has them
        chosen = {
            "HEADRACE_CACHE_SIZE": str(cache_size),
            "HEADRACE_CACHE_RESERVE": "0",
            "HEADRACE_MEMORY": str(memory),
            "HEADRACE_IDLE": "600",
            **settings,
        }
        self.cache = Path(chosen.setdefault("HEADRACE_CACHE_DIR", str(base / "cache")))
        told = (f"{name}={value}" for name, value in chosen.items() if name != "HEADRACE_CACHE_DIR")
        self.configuration = " ".join(told) + " headrace mount SOURCE DIRECTORY"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HEADRACE_"))},
            **route.access.environment(),
            **chosen,
            "HEADRACE_NODE": str(self.socket),
            "HOME": str(base),
        }

    def command(self, *arguments: str) -> list[str]:
        return self.seat.command([str(Path(sys.executable).with_name("headrace")), *arguments])

    def run(self, *arguments: str, **environment: str) -> str:
        """Output of a command; RuntimeError with what it said when it fails."""
        done = subprocess.run(
            self.command(*arguments),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            raise RuntimeError(f"headrace {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def start_mount(self, source: str) -> subprocess.Popen[bytes]:
        """The mount command, not waited for."""
        return subprocess.Popen(self.command("mount", source, str(self.directory)), env=self.environment, stdout=subprocess.DEVNULL)

    def mount(self, source: str) -> Path:
        self.run("mount", source, str(self.directory))
        found = ["findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "--mountpoint", str(self.directory)]
        self.options = " ".join(subprocess.run(found, check=True, capture_output=True, text=True).stdout.split())
        return self.directory

    def unmount(self) -> None:
        self.run("umount", str(self.directory))

    def forget(self) -> None:
        if self.pids():
            for mount in self.status()["mounts"]:
                self.run("umount", mount["directory"])
            self.run("cache", "evict", "--all")

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json")))

    def wait_durable(self) -> None:
        """Until the cache disk has confirmed every file of the mount: from then on the kernel reads them itself."""
        wait_until(lambda: all(m["files_durable"] == m["files"] for m in self.status()["mounts"]), "files on the disk", timeout=300)
        # What came faster than the page cache takes it is read back into memory by then, or a moment later.
        wait_until(lambda: "\nheadrace_cache_files_to_read_back 0" in self.run("metrics"), "files in memory", timeout=300)

    def pid(self) -> int:
        return int(self.status()["node"]["pid"])

    def pids(self) -> list[int]:
        """Node and keeper."""
        node = self.status()["node"]
        return [] if node is None else [int(node["pid"]), int(node["keeper_pid"])]

    def stop(self) -> None:
        """Unmounts, ends node and keeper, and waits for their end; what does not end within 30 seconds is killed."""
        status = self.status()
        for mount in status["mounts"]:
            self.run("umount", "--lazy", mount["directory"])
        if status["node"] is None:
            return
        pids = [int(status["node"]["pid"]), int(status["node"]["keeper_pid"])]
        _signal(pids[0], signal.SIGTERM)
        try:
            wait_until(lambda: not any(map(alive, pids)), "node and keeper end", timeout=30)
        except TimeoutError:
            for pid in reversed(pids):
                _signal(pid, signal.SIGKILL)
            raise


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # before and while it is read
        return False


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:  # it has ended by itself
        return

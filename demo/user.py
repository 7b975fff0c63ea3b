"""A user with a home, a cache and a node of their own below a temporary directory; a node that runs already is left alone.

Everything is done by the `headrace` command. Whatever happens, `gone` unmounts and waits for the end of the processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.testing.access import Access
from headrace.testing.waiting import wait_until

COMMAND = Path(sys.executable).with_name("headrace")
_END_SECONDS = 15.0
_DETACH = ["umount", "--lazy"] if os.geteuid() == 0 else ["fusermount3", "-u", "-z"]


class User:
    """Commands of one user."""

    def __init__(self, home: Path, access: Access) -> None:
        self.home = home
        (home / "run").mkdir(mode=0o700, parents=True)
        (home / "config.toml").touch()
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HEADRACE_"))}
        self.environment = clean | access.environment()
        self.environment |= {
            "HOME": str(home),
            "HEADRACE_CONFIG": str(home / "config.toml"),
            "HEADRACE_CACHE_DIR": str(home / "cache"),
            "HEADRACE_NODE": str(home / "run/node.sock"),
            "HEADRACE_IDLE": "1",
        }

    def headrace(self, *arguments: str, check: bool = True) -> str:
        """What the command prints. RuntimeError with its message when it fails."""
        done = subprocess.run([COMMAND, *arguments], env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode:
            raise RuntimeError(f"headrace {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout.strip()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.headrace("status", "--json")))

    def counters(self) -> dict[str, int]:
        """Of this user's node so far."""
        return {name: int(value) for name, value in self.status()["counters"].items()}

    def leave(self) -> None:
        """Unmounts everything and sees node and keeper end: by themselves when nothing is mounted, otherwise by force."""
        for directory in self._mounts():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.headrace("umount", "--lazy", directory, check=False)
        try:
            wait_until(lambda: not self._processes(), "the end of node and keeper", timeout=_END_SECONDS)
        except TimeoutError:
            print(f"node and keeper did not end:\n{(self.home / 'run/node.log').read_text()[-2000:]}", file=sys.stderr)
            for process in self._processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        for directory in self._mounts():
            subprocess.run([*_DETACH, directory], check=False)

    def _mounts(self) -> list[str]:
        points = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return [point for point in points if point.startswith(f"{self.home}/")]

    def _processes(self) -> list[int]:
        """Node and keeper: whoever was started with this user's socket in the environment."""
        mark = f"HEADRACE_NODE={self.environment['HEADRACE_NODE']}".encode()
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (directory / "environ").read_bytes().split(b"\0"):
                    found.append(int(directory.name))
        return found


@contextlib.contextmanager
def user(home: Path, access: Access) -> Iterator[User]:
    """A user who leaves nothing behind; Ctrl-C waits while they leave."""
    one = User(home, access)
    try:
        yield one
    finally:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            one.leave()
        finally:
            signal.signal(signal.SIGINT, before)

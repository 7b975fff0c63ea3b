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

_COMMAND = Path(sys.executable).with_name("headrace")
_END_SECONDS = 20.0


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
        done = subprocess.run([_COMMAND, *arguments], env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode:
            raise RuntimeError(f"headrace {' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
        return done.stdout.strip()

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.headrace("status", "--json")))

    def origin_bytes(self) -> int:
        """Bytes of objects that the server has sent this user's node so far."""
        return int(self.status()["counters"]["origin_body_bytes_total"])

    def leave(self) -> None:
        """Unmounts everything and sees node and keeper end."""
        told = json.loads(self.headrace("status", "--json", check=False) or '{"node": null, "mounts": []}')
        for mount in told["mounts"]:
            self.headrace("umount", "--lazy", mount["directory"], check=False)
        if told["node"] is None:
            return
        processes = [told["node"]["keeper_pid"], told["node"]["pid"]]
        with contextlib.suppress(ProcessLookupError):
            os.kill(told["node"]["pid"], signal.SIGTERM)
        try:
            wait_until(lambda: not any(map(_alive, processes)), "the end of node and keeper", timeout=_END_SECONDS)
        except TimeoutError:
            for process in filter(_alive, processes):
                os.kill(process, signal.SIGKILL)
            raise


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


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False

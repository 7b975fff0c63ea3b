"""Replicas of the control plane as processes of their own, started as people start them: `headrace up`."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from headrace.client import ControlClient
from headrace.testing.waiting import wait_until

MASTER_KEY = base64.b64encode(bytes(range(32))).decode()
# Origins are on this machine, which is denied unless it is said.
ORIGINS_ALLOW = "127.0.0.0/8,::1/128"
_START_SECONDS = 60.0
_END_SECONDS = 30.0


@dataclass
class Replica:
    """One process; killed and started again it has the same address."""

    directory: Path
    database: str | None
    port: int = 0
    url: str = ""
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Waits until it listens."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        command = [str(Path(sys.executable).with_name("headrace")), "up", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--database", self.database] if self.database else []
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, env=self._environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self.url = self._said(r"control plane: (http://\S+)")
        self.port = int(self.url.rpartition(":")[2])

    def first_token(self) -> str:
        """Of an administrator; it is told where the database was empty."""
        return self._said(r"works once: (\S+)")

    def kill(self) -> None:
        """As a machine that loses its power: nothing is said, nothing is finished."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(_END_SECONDS)

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()

    def complaints(self) -> list[str]:
        """Errors in the log since it was last started."""
        return [line for line in self._log.read_text(errors="replace").splitlines() if " ERROR " in line]

    @property
    def _log(self) -> Path:
        return self.directory / f"log-{self.starts}"

    @property
    def _environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "HEADRACE_"))}
        (self.directory / "state").mkdir(mode=0o700, exist_ok=True)
        return clean | {
            "HOME": str(self.directory),
            "HEADRACE_CONTROL_STATE": str(self.directory / "state"),
            "HEADRACE_CONTROL_MASTER_KEY": MASTER_KEY,
            "HEADRACE_CONTROL_ORIGINS_ALLOW": ORIGINS_ALLOW,
        }

    def _said(self, pattern: str) -> str:
        """What it said first in these words. RuntimeError where it ends instead."""

        def look() -> str | None:
            text = self._log.read_text(errors="replace")
            if (found := re.search(pattern, text)) is not None:
                return found[1]
            if self._process is not None and self._process.poll() is not None:
                raise RuntimeError(f"the control plane did not start: {text[-2000:]}")
            return None

        return wait_until(look, "the control plane tells its address", timeout=_START_SECONDS) or ""


@dataclass
class Replicas:
    """Those of one control plane; `token` is an administrator's."""

    all: list[Replica]
    token: str = field(repr=False)

    def client(self, number: int = 0, token: str = "") -> ControlClient:
        return ControlClient(self.all[number].url, token or self.token)

    def cpu_seconds(self) -> float:
        """Of all of them, since they began."""
        return machine.cpu(*(each.pid for each in self.all)).total

    def memory_mib(self) -> list[float]:
        return [machine.memory(each.pid) / 2**20 for each in self.all]


@contextmanager
def replicas(directory: Path, count: int = 1, database: str | None = None) -> Iterator[Replicas]:
    """A control plane with an empty database: PostgreSQL at a URL, or SQLite, which is for one replica."""
    made = [Replica(directory / f"replica-{number}", database) for number in range(count)]
    try:
        for each in made:
            each.start()
        with ControlClient(made[0].url, made[0].first_token()) as first:
            token = first.login()["token"]
        yield Replicas(made, token)
    finally:
        for each in made:
            each.stop()

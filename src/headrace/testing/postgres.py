"""PostgreSQL as a real server on a Unix socket, for as long as a `with` lasts: no port, no password, nothing kept.

Debian's `postgresql` brings the programs (under /usr/lib/postgresql), and the user that they run as when we are root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.testing.waiting import wait_until

_OWNER = "headrace"
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Postgres:
    """A running server."""

    programs: Path
    socket_directory: Path
    pid: int

    def create_database(self, name: str) -> str:
        """A new, empty database; its URL."""
        subprocess.run([self.programs / "createdb", "-h", self.socket_directory, "-U", _OWNER, name], check=True, capture_output=True, timeout=60)
        return f"postgresql://{_OWNER}@/{name}?host={self.socket_directory}"

    def empty_database(self, url: str) -> None:
        """Cuts off whoever is connected to a database, and forgets all that is in it: a tenth of the time that a new one takes."""
        said = [
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
        ]
        commands = [argument for statement in said for argument in ("-c", statement)]
        program: list[str | Path] = [self.programs / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *commands, url]
        subprocess.run(program, check=True, capture_output=True, timeout=60)


@contextmanager
def postgres(*, synced: bool = False) -> Iterator[Postgres]:
    """A server with an empty cluster. FileNotFoundError where PostgreSQL isn't installed.

    It waits for the disk only where it is `synced`: what a crash leaves of a test is nobody's.
    """
    programs = _programs()
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="headrace-postgres-") as scratch:
        root = Path(scratch)
        if user is not None:
            shutil.chown(root, user)
        data, log = root / "data", root / "log"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", _OWNER, "--auth=trust", "--no-sync", "-E", "UTF8"],
            check=True,
            capture_output=True,
            user=user,
            cwd=root,
            timeout=120,
        )
        with log.open("wb") as output:
            arguments: list[str | Path] = [
                "-D",
                data,
                "-k",
                root,
                "-c",
                "listen_addresses=",
                "-c",
                f"fsync={'on' if synced else 'off'}",
                "-c",
                "max_connections=200",
            ]
            server = subprocess.Popen([programs / "postgres", *arguments], stdout=output, stderr=output, user=user, cwd=root)
        try:
            wait_until(lambda: _answers(programs, root, server, log), "PostgreSQL answers", timeout=_START_SECONDS)
            yield Postgres(programs, root, server.pid)
        finally:
            if server.poll() is None:
                # Fast shutdown: clients are cut off, so that a test which left one open ends too.
                server.send_signal(signal.SIGINT)
            server.wait(_STOP_SECONDS)


def _answers(programs: Path, root: Path, server: subprocess.Popen[bytes], log: Path) -> bool:
    if server.poll() is not None:
        raise RuntimeError(f"PostgreSQL did not start; its log ends:\n{log.read_text(errors='replace')[-2000:]}")
    return subprocess.run([programs / "pg_isready", "-h", root, "-U", _OWNER, "-q"], timeout=30).returncode == 0


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    beside = shutil.which("initdb")
    if beside is None:
        raise FileNotFoundError("PostgreSQL is not installed; run `apt-get install postgresql`")
    return Path(beside).parent

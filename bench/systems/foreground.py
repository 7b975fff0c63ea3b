"""What the peers have in common: a mount is one command in the foreground, which ends when the directory is unmounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from bench import machine, packages
from bench.seats import Route
from headrace.testing.waiting import wait_until

_START_SECONDS = 60
_END_SECONDS = 120  # what has a queue of writes empties it first


class Foreground(ABC):
    """A system is this with names and a `command`; its cache is a directory, dropped by removing it."""

    name = ""
    program = ""
    version_argument = "--version"

    @classmethod
    def path(cls) -> str:
        return packages.program(cls.program) or cls.program

    @classmethod
    def found(cls) -> str | None:
        """Its version; None where it is not installed."""
        return packages.program(cls.program) and packages.version(cls.path(), cls.version_argument)

    def __init__(self, base: Path, route: Route) -> None:
        base.mkdir(parents=True)
        self.base = base
        self.route = route
        self.directory = base / "mount"
        self.cache = base / "cache"
        self.options = ""
        self.configuration = ""
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self, bucket: str, prefix: str) -> list[str]:
        """Mounts `prefix` of `bucket` on `directory`, in the foreground."""

    def environment(self) -> dict[str, str]:
        return self.route.access.environment()

    def below(self, prefix: str) -> Path:
        """Where the prefix is when it is mounted."""
        del prefix
        return self.directory

    def mount(self, source: str) -> Path:
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        self.directory.mkdir(exist_ok=True)
        self.cache.mkdir(exist_ok=True)
        command = self.command(bucket, prefix)
        self.configuration = self._told(command, prefix)
        log = self.base / "log"
        with log.open("ab") as output:
            clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
            self._process = subprocess.Popen(
                self.route.seat.command(command),
                env={**clean, **self.environment(), "HOME": str(self.base)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        process = self._process
        wait_until(lambda: process.poll() is not None or os.path.ismount(self.directory), f"{self.name} mounts", timeout=_START_SECONDS)
        if process.poll() is not None:
            raise RuntimeError(f"{self.name} did not mount: {log.read_text(errors='replace')[-2000:]}")
        found = ["findmnt", "--noheadings", "--output", "FSTYPE,OPTIONS", "--mountpoint", str(self.directory)]
        self.options = " ".join(subprocess.run(found, check=True, capture_output=True, text=True).stdout.split())
        path = self.below(prefix)
        path.stat()  # it answers
        return path

    def _told(self, command: list[str], prefix: str) -> str:
        """The command without the paths of this run."""
        told = " ".join([Path(command[0]).name, *command[1:]])
        for found, word in ((str(self.base), "BASE"), (self.route.access.endpoint, "ENDPOINT"), (prefix, "PREFIX")):
            told = told.replace(found, word)
        return told

    def unmount(self) -> None:
        if self._process is None:
            return
        if os.path.ismount(self.directory):
            subprocess.run(["umount", str(self.directory)], check=True)
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        finally:
            self._process = None

    def forget(self) -> None:
        self.unmount()
        if self.cache.exists():
            shutil.rmtree(self.cache)

    def pids(self) -> list[int]:
        """The command and what it started."""
        return [] if self._process is None else machine.family(self._process.pid)

    def stop(self) -> None:
        """Also when a reader was interrupted and still has a file open."""
        if self._process is not None and os.path.ismount(self.directory):
            subprocess.run(["umount", "--lazy", str(self.directory)], check=True)
        self.forget()

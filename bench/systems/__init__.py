"""What is measured: systems that mount a bucket, clients that read it into memory, and how each is configured.

Each system lives below a base directory and in a seat of its own, and tells which processes do its work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from bench.seats import Route


class System(Protocol):
    """A program that mounts a bucket as a directory."""

    name: str
    directory: Path  # to mount on
    options: str  # of its mount, as the kernel has them
    configuration: str  # what it was started with, for the results

    def mount(self, source: str) -> Path:
        """Mounts `s3://BUCKET/PREFIX`; the directory answers when this returns."""

    def unmount(self) -> None:
        """Takes the mount away; what is cached stays."""

    def forget(self) -> None:
        """Unmounts if need be, and drops everything cached."""

    def pids(self) -> list[int]:
        """The processes that do its work, each of them alive."""

    def stop(self) -> None:
        """Ends every process and mount of the system."""


class Client(Protocol):
    """A program that reads an object without a mount."""

    name: str
    configuration: str

    def read(self, route: Route, bucket: str, key: str, size: int) -> float:
        """Seconds to read all of it, from the first request to the last byte."""

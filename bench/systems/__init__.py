"""What is measured: each system mounts a bucket, and tells which processes do its work."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class System(Protocol):
    """A program that mounts a bucket as a directory."""

    name: str
    options: str  # of its mount, as the kernel has them

    def mount(self, source: str) -> Path:
        """Mounts `s3://BUCKET/PREFIX`; the directory answers when this returns."""

    def unmount(self) -> None:
        """Takes the mount away; what is cached stays."""

    def forget(self) -> None:
        """Drops everything cached."""

    def pid(self) -> int:
        """The process that moves the bytes."""

    def stop(self) -> None:
        """Ends every process and mount of the system."""

"""Disks of a test's own: loop devices with a file system, which may be full, slow, read-only or failing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """A mounted ext4 on a loop device over a sparse file."""

    directory: Path
    device: str
    image: Path

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.directory)], check=True)

    def limit_writes(self, bytes_per_second: int) -> None:
        """Slows writes of the whole machine to this device; 0 lifts the limit (control groups, version 1)."""
        number = os.stat(self.device).st_rdev
        Path("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device").write_text(f"{os.major(number)}:{os.minor(number)} {bytes_per_second}")


@contextmanager
def attached(image: Path, directory: Path) -> Iterator[str]:
    """An image's file system, mounted on `directory` (made if need be) until the end of the `with`; gives the loop device."""
    found = subprocess.run(["losetup", "--find", "--show", str(image)], check=True, capture_output=True, text=True)
    device = found.stdout.strip()
    try:
        directory.mkdir(exist_ok=True)
        subprocess.run(["mount", device, str(directory)], check=True)
        try:
            yield device
        finally:
            subprocess.run(["umount", "--lazy", str(directory)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@contextmanager
def disk(base: Path, name: str, size: int) -> Iterator[Disk]:
    """A disk of `size` bytes, mounted below `base` until the end of the `with`."""
    image, directory = base / f"{name}.img", base / name
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-e", "remount-ro", str(image)], check=True)
    with attached(image, directory) as device:
        yield Disk(directory, device, image)

"""Disks of a test's own: loop devices with a file system, which may be full, slow, read-only or failing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
# `struct loop_info64` of the kernel, and what sets it.
_LOOP_SET_STATUS64, _LOOP_GET_STATUS64 = 0x4C04, 0x4C05
_LOOP_INFO_BYTES, _LOOP_SIZE_LIMIT_AT = 232, 32


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

    def lose(self, path: Path) -> None:
        """From the first block of a file on, the device answers with I/O errors: it is as if it ended there."""
        os.sync()
        listed = subprocess.run(["filefrag", "-b1", "-v", str(path)], check=True, capture_output=True, text=True).stdout
        first = min(int(place) for place in re.findall(r"^ *\d+: *\d+\.\. *\d+: *(\d+)\.\.", listed, re.MULTILINE))
        with open(self.device, "rb") as device:
            about = bytearray(_LOOP_INFO_BYTES)
            fcntl.ioctl(device, _LOOP_GET_STATUS64, about)
            struct.pack_into("=Q", about, _LOOP_SIZE_LIMIT_AT, first)
            fcntl.ioctl(device, _LOOP_SET_STATUS64, about)
        Path("/proc/sys/vm/drop_caches").write_text("3")


def fill(directory: Path) -> None:
    """Takes what is free on a disk."""
    fill_file(directory / "filler", MIB)


def fill_file(path: Path, piece: int) -> None:
    """Appends pieces to a file for as long as the disk takes them."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(piece)):
            pass


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

"""What `headrace doctor` finds on this machine."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headrace.cli.show import size
from headrace.errors import HeadraceError
from headrace.node import mountinfo
from headrace.node.client import connect
from headrace.settings import Settings

_CAP_SYS_ADMIN = 21
# The engine holds one descriptor for each file that is open, and one for each connection.
_OPEN_FILES_WANTED = 65_536
# 4 MiB for one request.
_PAGES_WANTED = 1024
# Passthrough and RESEND.
_KERNEL_WANTED = (6, 9)
_ROOM_WANTED = 1 << 30
# One window of prefetch: with less free than that hardly anything new can be kept.
_LEAST_ROOM = 16 << 20


@dataclass(frozen=True)
class Finding:
    """One check's outcome; what is not ok has a remedy."""

    what: str
    state: Literal["ok", "warning", "failed"]
    found: str
    remedy: str = ""


def machine(settings: Settings) -> list[Finding]:
    """FUSE, privileges, kernel limits, memory, cache disks, dead mounts, and the node."""
    findings = [fuse(), helper(), kernel(), capabilities(), open_files(), request_size()]
    findings.append(Finding("memory budget", "ok", size(settings.memory)))
    findings += [cache_disk(Path(path), limit, settings.cache_reserve) for path, limit in settings.cache_directories]
    findings += dead_mounts()
    findings += node(settings)
    return findings


def fuse() -> Finding:
    """/dev/fuse opens."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        remedy = "modprobe fuse; in a container add --device /dev/fuse; without FUSE read through Python (headrace.open)"
        return Finding("/dev/fuse", "failed", error.strerror or str(error), remedy)
    return Finding("/dev/fuse", "ok", "can be opened")


def helper() -> Finding:
    """fusermount3, which mounts for those who are not root."""
    found = shutil.which("fusermount3")
    if found or os.geteuid() == 0:
        return Finding("fusermount3", "ok", found or "not needed by root")
    return Finding("fusermount3", "failed", "not on the PATH", "install the package fuse3")


def kernel() -> Finding:
    """Passthrough and re-sent requests need a recent kernel; older ones are slower, and nothing breaks."""
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdecimal())
    if numbers >= _KERNEL_WANTED:
        return Finding("kernel", "ok", f"{release}: has passthrough")
    return Finding("kernel", "warning", f"{release}: no passthrough, so the node answers reads of complete files", "use Linux 6.9 or newer")


def capabilities() -> Finding:
    """CAP_SYS_ADMIN, for passthrough, read-ahead and the private read-only mount of the cache."""
    status = Path("/proc/self/status").read_text().splitlines()
    effective = int(next(line for line in status if line.startswith("CapEff")).split()[1], 16)
    if effective >> _CAP_SYS_ADMIN & 1:
        return Finding("capabilities", "ok", "CAP_SYS_ADMIN")
    return Finding(
        "capabilities", "warning", "no CAP_SYS_ADMIN: no passthrough, and requests of 128 KiB",
        "run the node as root (deploy/systemd) and mount with --allow-other",
    )  # fmt: skip


def open_files() -> Finding:
    """The limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= _OPEN_FILES_WANTED:
        return Finding("open files", "ok", f"{soft}, raised to {hard} by the node")
    return Finding("open files", "warning", f"at most {hard}", f"raise it to {_OPEN_FILES_WANTED} (ulimit -Hn, LimitNOFILE=)")


def request_size() -> Finding:
    """fs.fuse.max_pages_limit decides how large one read request may be."""
    try:
        pages = int(Path("/proc/sys/fs/fuse/max_pages_limit").read_text())
    except OSError:
        return Finding("request size", "ok", "1 MiB, which this kernel can't raise")
    found = size(pages * os.sysconf("SC_PAGE_SIZE"))
    if pages >= _PAGES_WANTED:
        return Finding("request size", "ok", found)
    return Finding("request size", "warning", found, f"sysctl fs.fuse.max_pages_limit={_PAGES_WANTED}, for faster cold reads")


def cache_disk(path: Path, limit_bytes: int, reserve_bytes: int) -> Finding:
    """The disk under a cache directory: can be written, has room, keeps holes."""
    what = f"cache {path}"
    existing = path
    while not existing.exists():
        existing = existing.parent
    free, inodes = _free(existing)
    if inodes == 0:
        return Finding(what, "warning", "no inodes are left on its file system", "delete files there, or choose another disk (HEADRACE_CACHE_DIR)")
    try:
        sparse = _keeps_holes(existing)
    except OSError as error:
        return Finding(what, "failed", f"{existing} can't be written: {error.strerror}", "choose another directory (HEADRACE_CACHE_DIR)")
    kind = mountinfo.file_system_of(existing)
    found = f"{kind}, {size(free)} free, limit {size(limit_bytes)}, {size(reserve_bytes)} stay free"
    if not sparse:
        return Finding(what, "failed", f"{found}: keeps no holes in files", "use ext4, XFS or another local file system")
    if kind == "overlay":
        return Finding(what, "warning", f"{found}: no passthrough on a stacked file system", "put the cache on a volume of its own")
    if kind in ("tmpfs", "ramfs"):
        return Finding(what, "warning", f"{found}: cached bytes take memory", "put the cache on a disk")
    # What is cached takes the room of a cache that is in use, and may go as far as what stays free.
    wanted = _LEAST_ROOM if path.exists() else reserve_bytes + _ROOM_WANTED
    if free < wanted:
        return Finding(what, "warning", found, "free some space, or choose another disk (HEADRACE_CACHE_DIR)")
    return Finding(what, "ok", found)


def _free(directory: Path) -> tuple[int, int | None]:
    """Free bytes and inodes; None where the file system does not count inodes."""
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None


def _keeps_holes(directory: Path) -> bool:
    """Tries it with a file without a name."""
    with tempfile.TemporaryFile(dir=directory) as file:
        file.truncate(1 << 20)
        return os.fstat(file.fileno()).st_blocks * 512 < 1 << 20


def dead_mounts() -> list[Finding]:
    """Mounts of ours that nobody serves."""
    dead = [m.directory for m in mountinfo.mounted() if m.fstype == mountinfo.FSTYPE and mountinfo.is_dead(m.directory)]
    return [Finding(f"mount {path}", "failed", "nobody serves it", f"mount it again, or `umount -l {path}`") for path in dead]


def node(settings: Settings) -> list[Finding]:
    """The node answers, if one runs, and its cache directories take what is read."""
    try:
        client = connect(settings)
        if client is None:
            return [Finding("node", "ok", "not running; the first mount starts it")]
        with client:
            status = client.call("status")
    except HeadraceError as error:
        return [Finding("node", "failed", error.message, "see `headrace logs`")]
    findings = [Finding("node", "ok", f"pid {status['node']['pid']}, {settings.socket}")]
    return findings + [trouble for directory in status["cache"]["directories"] if (trouble := _trouble(directory))]


def _trouble(directory: dict[str, Any]) -> Finding | None:
    """What the node says of a cache directory that does not take what is read."""
    what = f"node's cache {directory['path']}"
    if directory["failed"]:
        return Finding(what, "failed", f"out of use: {directory['failed']}", "repair or replace the disk, then restart the node (`headrace stop`)")
    if directory["lacks"]:
        found, _, remedy = directory["lacks"].partition("; ")
        return Finding(what, "warning", found, remedy)
    return None

"""Room in the cache, looked at before a mount: a cache that can keep nothing is told at once, not found out by slow reads."""

from __future__ import annotations

import os
from typing import Any

from headrace.errors import CacheFailure

# One window of prefetch: a cache that can't hold it makes every read go to the origin again.
_LEAST_BYTES = 16 << 20


def room(directory: dict[str, Any], reserve_bytes: int) -> int:
    """Bytes that a cache directory may hold, what it holds already included; 0 while its disk is out of use."""
    if directory["failed"]:
        return 0
    return int(min(_free(directory["path"]) - reserve_bytes + directory["allocated_bytes"], directory["limit_bytes"]))


def _free(path: str) -> int:
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


def check_room(usage: dict[str, Any], reserve_bytes: int) -> None:
    """Raises CacheFailure when no cache directory has, or can make, room for one window.

    `usage` is what the engine tells of the cache; what it holds already counts as room, because it can be evicted.
    """
    findings = []
    for directory in usage["directories"]:
        path = directory["path"]
        if directory["failed"]:
            findings.append(f"{path}: {directory['failed']}")
            continue
        if room(directory, reserve_bytes) >= _LEAST_BYTES:
            return
        findings.append(f"{path}: {_free(path)} bytes are free on its file system, of which {reserve_bytes} are to stay free (cache reserve)")
    raise CacheFailure(
        "cache-full",
        f"cache directory: no room for even one window of {_LEAST_BYTES} bytes ({'; '.join(findings)}); "
        "free some space, or set HEADRACE_CACHE_DIR or HEADRACE_CACHE_RESERVE",
    )

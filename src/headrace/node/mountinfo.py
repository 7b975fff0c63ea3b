"""What the kernel says about mounts."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

FSTYPE = "fuse.headrace"


@dataclass(frozen=True)
class Mounted:
    """A line of mountinfo."""

    directory: str
    fstype: str
    source: str


def mounted() -> list[Mounted]:
    """Every mount of this namespace, in the order they were made."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        found.append(Mounted(_unescape(fields[4]), kind[0], _unescape(kind[1])))
    return found


def mounted_at(directory: str) -> Mounted | None:
    """The topmost mount at exactly this path."""
    return next((m for m in reversed(mounted()) if m.directory == directory), None)


def file_system_of(path: Path) -> str:
    """Type of the file system a path lies on (`ext4`, `overlay`, …)."""
    wanted = os.path.realpath(path)
    inside = [m for m in mounted() if wanted == m.directory or wanted.startswith(m.directory.rstrip("/") + "/")]
    return max(reversed(inside), key=lambda m: len(m.directory)).fstype


def is_dead(directory: str) -> bool:
    """True for a mount whose node is gone for good."""
    try:
        os.stat(directory)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text

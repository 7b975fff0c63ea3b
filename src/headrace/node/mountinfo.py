"""What the kernel says about mounts."""

from __future__ import annotations

import errno
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path

FSTYPE = "fuse.headrace"
# The kernel refuses at once for a dead mount; a living node may be busy for longer.
_ANSWER_SECONDS = 1.0


@dataclass(frozen=True)
class Mounted:
    """A line of mountinfo."""

    directory: str
    fstype: str
    source: str
    user: int | None  # whose mount it is, where the file system is FUSE
    options: tuple[str, ...] = ()  # of this mount; the file system has its own besides


def mounted() -> list[Mounted]:
    """Every mount of this namespace, in the order they were made."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        fields, kind = left.split(" "), right.split(" ")
        user = re.search(r"(?:^|,)user_id=(\d+)", kind[2])
        found.append(Mounted(_unescape(fields[4]), kind[0], _unescape(kind[1]), int(user[1]) if user else None, tuple(fields[5].split(","))))
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
    """True for a mount whose node is gone for good. One whose node is slow to answer, or about to be replaced, is not."""
    dead = False

    def ask() -> None:
        nonlocal dead
        try:
            os.statvfs(directory)  # always asks the node: attributes the kernel may still know
        except OSError as error:
            dead = error.errno in (errno.ENOTCONN, errno.ECONNABORTED)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_ANSWER_SECONDS)
    return dead


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text

"""What the node writes beside the engine in a cache directory: closed to others, whatever the umask, and whatever mode it was given before.

The cache directory itself may be open to readers; what lies in it is not theirs. Of `mkdir(parents=True)` only the last level gets its
mode, so directories are made one by one.
"""

from __future__ import annotations

import os
from pathlib import Path


def private_directory_below(top: Path, leaf: Path) -> None:
    """Makes every level below `top` down to `leaf`, and closes those that are there already."""
    top.mkdir(parents=True, exist_ok=True, mode=0o700)
    levels = [leaf, *leaf.parents]
    for directory in reversed(levels[: levels.index(top)]):
        directory.mkdir(exist_ok=True, mode=0o700)
        close_to_others(directory)


def close_to_others(directory: Path) -> None:
    """Takes every right of others away. OSError when it is somebody else's directory, or none."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o700)
    finally:
        os.close(descriptor)


def touch_private(path: Path) -> None:
    """Makes an empty file, or sets its time; mode 0600 in either case."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        os.utime(descriptor)
    finally:
        os.close(descriptor)

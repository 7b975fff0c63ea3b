"""What the node looks after now and then: a bounded log, old snapshots, listings that a crash left unfinished."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from headrace.node.private import close_to_others
from headrace.node.volumes import CHANGING, VolumeStore

_PIECE = 1 << 20
CANDIDATES = "candidate-*.snap"


def keep_log_small(descriptor: int, path: Path, limit_bytes: int) -> bool:
    """Empties the log once it is larger than `limit_bytes`, keeping what it held as `PATH.1`; True if it did.

    Node, keeper and engine write to one file opened for appending, so it is copied and cut instead of renamed: nobody
    has to open another. A line written in between goes to neither file. Anything but a regular file (a journal, a
    terminal) is left alone.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size <= limit_bytes:
        return False
    old, fresh = path.with_name(path.name + ".1"), path.with_name(path.name + ".new")
    with path.open("rb") as source, open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
        # A log that grew far beyond the limit meanwhile keeps its end.
        source.seek(max(0, status.st_size - limit_bytes))
        while piece := source.read(_PIECE):
            target.write(piece)
    fresh.replace(old)
    os.ftruncate(descriptor, 0)
    return True


def close_lists(snapshots: Path) -> None:
    """Closes lists of files to others that an earlier version, or somebody's umask, left open."""
    for directory in (snapshots, *snapshots.glob("*/")):
        try:
            close_to_others(directory)
        except FileNotFoundError:  # nothing was listed yet
            continue
        except OSError as error:
            print(f"node: {directory}: {error}; others may read the lists of files there", file=sys.stderr, flush=True)


def drop_unfinished(snapshots: Path) -> int:
    """Removes listings that no process is building any more; to be called before the node lists anything."""
    count = 0
    for candidate in snapshots.glob(f"*/{CANDIDATES}"):
        with contextlib.suppress(FileNotFoundError):
            candidate.unlink()
            count += 1
    return count


def drop_old_versions(snapshots: Path, keep: int, in_use: Callable[[], Iterable[str]]) -> list[str]:
    """Removes all but the newest `keep` versions of each volume; never the current one, the one before it, or one in use."""
    dropped: list[str] = []
    for about in snapshots.glob("*/volume.json"):
        with CHANGING, contextlib.suppress(FileNotFoundError):  # somebody has deleted it
            # What is in use is asked for with the lock held: nobody takes another into use meanwhile.
            dropped += VolumeStore.at(about.parent).prune(keep, {os.path.realpath(path) for path in in_use()})
    return dropped

"""What the node looks after now and then: a bounded log, old snapshots, listings that a crash left unfinished.

None of it is worth a mount, so no failure of it may end the node, or keep it from the rest: see `Troubles`.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from headrace._engine import EngineError
from headrace.errors import HeadraceError
from headrace.node.private import close_to_others
from headrace.node.volumes import CHANGING, VolumeStore

_PIECE = 1 << 20
CANDIDATES = "candidate-*.snap"


class SomeFailed(Exception):
    """Work on many things that was done on all but some; the message tells of them."""


def cause_of(error: Exception) -> str:
    """An error's words without what differs at each try, such as the name of a temporary file."""
    if isinstance(error, (HeadraceError, EngineError)):
        return error.message
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, SomeFailed):
        return str(error)
    return f"{type(error).__name__}: {error}"


class Troubles:
    """Work that failed when it was done last. Each is told once in the log, and by `status` until it succeeds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now: dict[str, dict[str, Any]] = {}

    @contextlib.contextmanager
    def told(self, work: str) -> Iterator[None]:
        """Work that is done again later, whatever becomes of it now. Never raises what the work does."""
        try:
            yield
        except Exception as error:
            self._failed(work, error)
        else:
            with self._lock:
                ended = self._now.pop(work, None)
            if ended:
                print(f"node: {work}: that works again", file=sys.stderr, flush=True)

    def _failed(self, work: str, error: Exception) -> None:
        message = f"{work}: {cause_of(error)}; the node goes on, and tries again"
        with self._lock:
            before = self._now.get(work)
            if before and before["message"] == message:
                return
            self._now[work] = {"time_ns": time.time_ns(), "kind": "upkeep-failed", "object": work, "message": message}
        print(f"node: {message}", file=sys.stderr, flush=True)
        if not isinstance(error, (HeadraceError, EngineError, OSError, SomeFailed)):
            traceback.print_exception(error, file=sys.stderr)  # a mistake of ours

    def events(self) -> list[dict[str, Any]]:
        """For `status`, as the engine tells its events: newest first."""
        with self._lock:
            return sorted(self._now.values(), key=lambda event: -event["time_ns"])


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
    try:
        with path.open("rb") as source, open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
            # A log that grew far beyond the limit meanwhile keeps its end.
            source.seek(max(0, status.st_size - limit_bytes))
            while piece := source.read(_PIECE):
                target.write(piece)
        fresh.replace(old)
    except OSError:
        with contextlib.suppress(OSError):  # on a full disk, half of it would take the room that is left
            fresh.unlink()
        raise
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
    """Removes all but the newest `keep` versions of each volume; never the current one, the one before it, or one in use.

    What fails for one volume keeps none of the others from it; then raises SomeFailed, when all are done.
    """
    dropped: list[str] = []
    failed: list[str] = []
    for about in sorted(snapshots.glob("*/volume.json")):
        try:
            with CHANGING, contextlib.suppress(FileNotFoundError):  # somebody has deleted it
                # What is in use is asked for with the lock held: nobody takes another into use meanwhile.
                dropped += VolumeStore.at(about.parent).prune(keep, {os.path.realpath(path) for path in in_use()})
        except HeadraceError as error:  # it names the file
            failed.append(error.message)
        except OSError as error:
            failed.append(f"{about.parent}: {cause_of(error)}")
    if failed:
        more = f"; and of {len(failed) - 1} more" if len(failed) > 1 else ""
        raise SomeFailed(f"{failed[0]}{more}")
    return dropped

"""Making a mount point, with the directories above it, and taking away what was made."""

from __future__ import annotations

import contextlib
import errno
import time
from pathlib import Path

from headrace.errors import MountFailure

_TAKEN_BACK_SECONDS = 2.0
_TRY_SECONDS = 0.02


def make(target: Path) -> list[Path]:
    """Makes a directory that is not there. Gives what was made, the lowest first; leaves nothing when it fails."""
    made: list[Path] = []
    try:
        missing = [target]
        while not missing[-1].parent.exists():
            missing.append(missing[-1].parent)
        for directory in reversed(missing):
            # Another command may be making the same directories for a mount of its own.
            with contextlib.nullcontext() if directory == target else contextlib.suppress(FileExistsError):
                directory.mkdir()
                made.insert(0, directory)
    except OSError as error:
        take_away(made)
        raise MountFailure("mount-failed", f"directory: {target} can't be made: {error.strerror}; give one in a place you may write to") from None
    return made


def take_away(made: list[Path]) -> None:
    """Removes directories that were made, the lowest first; one that holds something by now stays, and so do those above it.

    A mount that the node takes back may be there for a moment yet.
    """
    until = time.monotonic() + _TAKEN_BACK_SECONDS
    for directory in made:
        while (refused := _refused(directory)) == errno.EBUSY and time.monotonic() < until:
            time.sleep(_TRY_SECONDS)
        if refused:  # somebody else's by now: what failed is told all the same
            return


def _refused(directory: Path) -> int:
    """Why a directory can't be removed; 0 when it is."""
    try:
        directory.rmdir()
    except OSError as error:
        return error.errno or errno.EIO
    return 0

"""Making a mount point, with the directories above it, and taking away what was made."""

from __future__ import annotations

import contextlib
from pathlib import Path

from headrace.errors import MountFailure


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
    """Removes directories that were made, the lowest first; one that holds something by now stays, and so do those above it."""
    with contextlib.suppress(OSError):
        for directory in made:
            directory.rmdir()

"""What is kept on this machine is its owner's alone: the state directory, SQLite's file, the master key's.

Modes are set on what is made here. What was there before is looked at and refused with the remedy: to change it could take something
away from others who use it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from headrace.errors import UsageError


def own_directory(field: str, path: Path) -> None:
    """Makes a directory that only we may look into; one that is there must be one that only we may write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
        path.chmod(0o700)  # whatever the umask took away
        return
    except FileExistsError:
        pass
    except OSError as error:
        raise UsageError("bad-setting", f"{field}: {path} can't be made: {error.strerror}; choose another, or give us the right to it") from None
    kept = _seen(field, path)
    if not stat.S_ISDIR(kept.st_mode):
        raise UsageError("bad-setting", f"{field}: {path} is not a directory; choose another")
    if kept.st_uid not in (0, os.geteuid()):
        raise UsageError("bad-setting", f"{field}: {path} belongs to another user, who could replace what is in it; choose another, or chown it")
    if kept.st_mode & 0o022:
        raise UsageError("bad-setting", f"{field}: others may write in {path}; run `chmod go-w {path}`, or choose another")


def own_file(field: str, path: Path) -> None:
    """Makes an empty file that only we may read; one that is there must be so already."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        must_be_private(field, path)
    except OSError as error:
        raise UsageError("bad-setting", f"{field}: {path} can't be made: {error.strerror}; choose another, or make its directory") from None


def must_be_private(field: str, path: Path) -> None:
    """Raises UsageError for a file that others may read. A group may: that is how machines hand secrets to a service."""
    mode = _seen(field, path).st_mode
    if mode & 0o027:
        raise UsageError("bad-setting", f"{field}: others may read or write {path}; run `chmod 600 {path}`")


def _seen(field: str, path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise UsageError("bad-setting", f"{field}: {path} can't be looked at: {error.strerror}; correct it") from None

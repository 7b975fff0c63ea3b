"""Where a directory is: its path as the kernel lists mounts, with no link on the way."""

from __future__ import annotations

import os

from headrace.amounts import is_utf8
from headrace.errors import UsageError

_LINKS_MAX = 40  # as many as the kernel follows


def place(directory: str) -> str:
    """The absolute path without links. Of what lies there nothing is asked: a mount may be waiting for its node."""
    path = _absolute(directory)
    for _ in range(_LINKS_MAX):
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        try:
            target = os.readlink(path)
        except OSError:  # not a link
            return path
        path = os.path.abspath(os.path.join(os.path.dirname(path), target))
    raise UsageError("bad-setting", f"directory: {directory} leads through too many links; give the directory itself")


def _absolute(directory: str) -> str:
    if not directory:
        raise UsageError("bad-setting", "directory: its name is empty; give one (`.` is the working directory)")
    if not is_utf8(directory):
        raise UsageError("bad-setting", f"directory: {directory!r} is not UTF-8; give another")
    try:
        return os.path.abspath(directory)
    except FileNotFoundError:
        raise UsageError("bad-setting", f"directory: {directory}: the working directory is gone; change to another, or give a whole path") from None

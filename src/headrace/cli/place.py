"""Where a directory is: its path as the kernel lists mounts, with no link on the way."""

from __future__ import annotations

import os

from headrace.errors import UsageError

_LINKS_MAX = 40  # as many as the kernel follows


def place(directory: str) -> str:
    """The absolute path without links. Of what lies there nothing is asked: a mount may be waiting for its node."""
    path = os.path.abspath(directory)
    for _ in range(_LINKS_MAX):
        path = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        try:
            target = os.readlink(path)
        except OSError:  # not a link
            return path
        path = os.path.abspath(os.path.join(os.path.dirname(path), target))
    raise UsageError("bad-setting", f"directory: {directory} leads through too many links; give the directory itself")

"""Where a task's mounts may be: asked by the command before anything is made, and by the node with the administrator's own list.

Only names are looked at here. That no link leads elsewhere is seen by whoever walks there (`cli/task_places.py`).
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence

from headrace.amounts import is_utf8
from headrace.errors import UsageError
from headrace.mount_paths import PATH_BYTES_MAX, is_systems, is_within


def allowed_roots(configured: Sequence[str], uid: int) -> tuple[str, ...]:
    """The directories at and below which a user's tasks may mount: those of the setting, and the home that the system knows of."""
    try:
        home = os.path.normpath(pwd.getpwuid(uid).pw_dir)
    except KeyError:
        return tuple(configured)
    # Of a user without a home some systems say that it is `/`.
    homes = [path for path in dict.fromkeys((home, os.path.realpath(home))) if path.startswith("/") and path.strip("/")]
    return (*configured, *homes)


def checked_paths(paths: Sequence[str], roots: Sequence[str]) -> list[str]:
    """The paths in the kernel's spelling. Raises UsageError for one that is not allowed, and for two that would cover each other."""
    found = [_checked(path, roots) for path in paths]
    for number, path in enumerate(found):
        for other in found[:number]:
            if path == other:
                raise UsageError("bad-path", f"mount: {path} is given twice; give each mount a path of its own")
            if is_within(path, other) or is_within(other, path):
                raise UsageError("bad-path", f"mount: {path} and {other} lie in one another; give paths beside each other")
    return found


def _checked(path: str, roots: Sequence[str]) -> str:
    if not path.startswith("/"):
        raise UsageError("bad-path", f"mount: {path!r} is not absolute; write it from / on, as qwen:/mnt/models")
    if not is_utf8(path) or "\0" in path or "\n" in path or len(path.encode()) > PATH_BYTES_MAX:
        raise UsageError("bad-path", f"mount: {path[:80]!r} is no usable path; give UTF-8 on one line, of at most {PATH_BYTES_MAX} bytes")
    if ".." in path.split("/"):
        raise UsageError("bad-path", f"mount: {path} leads upwards with `..`; write the path without it")
    plain = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    if is_systems(plain):
        raise UsageError("bad-path", f"mount: {plain} would cover a part of the system; give another path")
    if not any(is_within(plain, root) for root in roots):
        raise UsageError("bad-path", f"mount: {plain} is not in {', '.join(roots)}; give a path there, or have an administrator add it to task_paths")
    return plain

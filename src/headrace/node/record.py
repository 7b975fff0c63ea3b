"""Which directories a node has mounted, for commands that have to find it: a file beside its socket.

There is a node for each first cache directory, and a command given a mount point can't know which one made that mount. The file outlives
a node that was killed together with its keeper, so it tells of dead mounts too. It is a hint: what counts is what the kernel lists.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from headrace.node import mountinfo

_SUFFIX = ".mounts"


def _file(socket: str) -> Path:
    return Path(socket.removesuffix(".sock") + _SUFFIX)


def write(socket: str, mounted: Iterable[str]) -> None:
    """Records what the node at this socket has mounted. What it, or a node before it, left behind stays on record until it is unmounted."""
    path = _file(socket)
    ours = set(mounted)
    directories = sorted(ours.union(left for left in read(socket) if left not in ours and mountinfo.is_dead(left)))
    try:
        if not directories:
            path.unlink(missing_ok=True)
            return
        fresh = path.with_name(path.name + ".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
            json.dump(directories, file)
        fresh.replace(path)
    except OSError as error:  # the mount is good all the same
        print(f"node: {path}: {error}; commands with another cache directory won't find its mounts", file=sys.stderr, flush=True)


def read(socket: str) -> list[str]:
    """The directories on record that are mounts of ours still."""
    try:
        recorded = json.loads(_file(socket).read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        print(f"{_file(socket)}: {error}; it is written anew with the next mount", file=sys.stderr)
        return []
    present = {mounted.directory for mounted in mountinfo.mounted() if mounted.fstype == mountinfo.FSTYPE}
    return [directory for directory in recorded if directory in present]


def recorded(runtime: Path) -> dict[str, list[str]]:
    """Directories by socket, of all nodes in a runtime directory."""
    sockets = (str(path.with_suffix(".sock")) for path in sorted(runtime.glob(f"*{_SUFFIX}")))
    return {socket: read(socket) for socket in sockets}

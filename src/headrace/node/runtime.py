"""Whose sockets these are.

The default directory of a user without a session is below `/tmp`, where anybody may have made it first. What a command tells the
node holds credentials, so neither a directory nor a listener of another user is used. Standard library and `errors` only: the keeper needs it.
"""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from headrace.errors import UsageError

# `sun_path` of unix(7), less the NUL at its end.
_PATH_BYTES_MAX = 107


def private_directory(path: Path) -> None:
    """Makes the directory of sockets and logs. PermissionError when it is another user's, a link, or open to others."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = path.lstat()  # a link has mode 0777: it may lead to any directory of this user
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise PermissionError(f"{path} must be a directory of this user, closed to others (chmod 700)")


def check_length(path: str) -> None:
    """UsageError for a path that no socket can have: said as such, because the system's own words come from far below."""
    length = len(os.fsencode(path))
    if length > _PATH_BYTES_MAX:
        raise UsageError(
            "bad-setting",
            f"node: {path} is too long for a socket: {length} bytes, and at most {_PATH_BYTES_MAX} are possible; set HEADRACE_NODE to a shorter path",
        )


def other_end(connection: socket.socket) -> int:
    """The user at the other end of a Unix socket, as the kernel knows it."""
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def is_trusted(uid: int) -> bool:
    """A process of the same user, or of root. Root may talk to any user's node: its own default place nobody else can write to."""
    return os.geteuid() == 0 or uid in (0, os.geteuid())

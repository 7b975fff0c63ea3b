"""Messages with descriptors, between node and keeper and at the task door: a length, JSON, and what SCM_RIGHTS carries.

Standard library only: the keeper loads nothing else.
"""

from __future__ import annotations

import array
import json
import socket
import struct
import time
from typing import Any

_FDS_MAX = 64
_REST_SECONDS = 10.0


def send(channel: socket.socket, message: dict[str, Any], fds: list[int] | None = None) -> None:
    body = json.dumps(message).encode()
    header = struct.pack("<II", len(body), len(fds or []))
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds or []))] if fds else []
    sent = channel.sendmsg([header], rights)
    if sent != len(header):
        raise ConnectionError("a short send between node and keeper")
    channel.sendall(body)


def receive(channel: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """The next message and its descriptors, close-on-exec; None at the end."""
    space = socket.CMSG_SPACE(_FDS_MAX * 4)
    header, ancillary, _, _ = channel.recvmsg(8, space, socket.MSG_CMSG_CLOEXEC)
    if not header:
        return None
    fds = array.array("i")
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    header += _exactly(channel, 8 - len(header))
    length, count = struct.unpack("<II", header)
    if count != len(fds):
        raise ConnectionError("descriptors were lost between node and keeper")
    message = json.loads(_exactly(channel, length))
    return message, list(fds)


def receive_plain(channel: socket.socket, bytes_max: int) -> dict[str, Any] | None:
    """The next message of somebody who may not send descriptors: the kernel drops those. None at the end.

    The channel's timeout is for its beginning, however slowly the rest is sent: that has a bound of its own. Raises ConnectionError for what is
    too long or no message, TimeoutError.
    """
    first = channel.recv(8)
    if not first:
        return None
    patience, until = channel.gettimeout(), time.monotonic() + _REST_SECONDS
    length, count = struct.unpack("<II", first + _exactly(channel, 8 - len(first), until))
    if count or length > bytes_max:
        raise ConnectionError("a message with descriptors, or too long")
    try:
        message = json.loads(_exactly(channel, length, until))
    except (ValueError, RecursionError):
        raise ConnectionError("a message that is no JSON") from None
    if not isinstance(message, dict):
        raise ConnectionError("a message that is no object")
    channel.settimeout(patience)
    return message


def _exactly(channel: socket.socket, length: int, until: float | None = None) -> bytes:
    parts = b""
    while len(parts) < length:
        if until is not None:
            channel.settimeout(max(until - time.monotonic(), 0.001))
        part = channel.recv(min(length - len(parts), 1 << 20))
        if not part:
            raise ConnectionError("the connection between node and keeper broke off")
        parts += part
    return parts

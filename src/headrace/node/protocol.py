"""What commands and the node say to each other.

A Unix stream socket; every message is one JSON object on one line, at most 4 MiB long. The node speaks first:
`{"headrace": VERSION, "protocol": [1, 1]}`. A request is `{"id": N, "method": NAME, "params": {...}}`. Answers carry the
same id: any number of `{"id": N, "progress": {...}}`, then one `{"id": N, "result": ...}` or
`{"id": N, "error": {"code": ..., "message": ...}}`. Closing the connection cancels what it asked for. A line that is no request gets an
error with the id null, and the connection ends: what follows can't be told from its rest.
Only the node's own user and root may connect (checked by the kernel's peer credentials).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

from headrace.errors import NodeFailure

PROTOCOL = 1
LINE_MAX = 4 * 2**20
# Ids are repeated in every answer.
_ID_BYTES_MAX = 64

Message = dict[str, Any]


class Malformed(NodeFailure):
    """A line that is no message."""

    def __init__(self, cause: str) -> None:
        super().__init__("node-unreachable", f"a message between command and node {cause}; use the same version of headrace on both sides")


class Lines:
    """Messages over a connected socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._file = connection.makefile("rb")

    def send(self, message: Message) -> None:
        self.socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    def receive(self) -> Message | None:
        """The next message; None at the end of the connection."""
        line = self._file.readline(LINE_MAX)
        if not line:
            return None
        if not line.endswith(b"\n"):
            raise Malformed("broke off or is too long")
        try:
            message = json.loads(line, parse_constant=_no_number)
        # Numbers of thousands of digits and broken UTF-8 are ValueErrors too; a RecursionError is for brackets in brackets.
        except (ValueError, RecursionError) as error:
            raise Malformed(f"is not JSON: {error}") from error
        if not isinstance(message, dict) or not _is_id(message.get("id")):
            raise Malformed(f"is not an object with a number, or text of at most {_ID_BYTES_MAX} bytes, as its id")
        return message

    def __iter__(self) -> Iterator[Message]:
        while (message := self.receive()) is not None:
            yield message

    def close(self) -> None:
        self._file.close()
        self.socket.close()


def _no_number(name: str) -> None:
    """Python reads NaN and Infinity, and would write them again; nobody else does."""
    raise ValueError(f"{name} is no number")


def _is_id(value: Any) -> bool:
    """Whole numbers and short texts, so that an answer can repeat it whatever it is."""
    if value is None or isinstance(value, int):
        return True
    return isinstance(value, str) and len(value) <= _ID_BYTES_MAX

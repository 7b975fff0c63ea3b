"""What commands and the node say to each other.

A Unix stream socket; every message is one JSON object on one line, at most 4 MiB long. The node speaks first:
`{"headrace": VERSION, "protocol": [1, 1]}`. A request is `{"id": N, "method": NAME, "params": {...}}`. Answers carry the
same id: any number of `{"id": N, "progress": {...}}`, then one `{"id": N, "result": ...}` or
`{"id": N, "error": {"code": ..., "message": ...}}`. Closing the connection cancels what it asked for.
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

Message = dict[str, Any]


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
            raise NodeFailure("node-unreachable", "the node's message broke off or is too long; try again")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise NodeFailure("node-unreachable", f"the node's message is not JSON: {error}") from error
        if not isinstance(message, dict):
            raise NodeFailure("node-unreachable", "the node's message is not an object")
        return message

    def __iter__(self) -> Iterator[Message]:
        while (message := self.receive()) is not None:
            yield message

    def close(self) -> None:
        self._file.close()
        self.socket.close()

"""HTTP/1.1 as the test origin needs it: requests in, answers out over a blocking socket, one thread each.

The library's `http.server` parses headers as mail, which costs more than the rest of a small request, and hides the
socket, which faults are made with.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote_to_bytes

from headrace.testing.store import Body

_LINE_MAX = 64 << 10
_HEADERS_MAX = 200
_BODY_MAX = 1 << 30
_SEND_MAX = 1 << 30
_REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 304: "Not Modified", 416: "Range Not Satisfiable"}


class Malformed(Exception):
    """The bytes are no request."""


@dataclass(frozen=True)
class Request:
    """A request; header names in lower case, `bucket` and `key` decoded from the path."""

    method: str
    raw_path: str
    raw_query: str
    headers: dict[str, str]
    bucket: str
    key: str
    query: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Pace:
    """A ceiling of bytes a second for all who share it."""

    def __init__(self, bytes_per_second: float) -> None:
        self.rate = max(1.0, bytes_per_second)
        self._lock = threading.Lock()
        self._free = time.monotonic()

    def piece(self) -> int:
        """A fair piece to send at once: a twentieth of a second's worth."""
        return max(1, min(1 << 20, int(self.rate / 20)))

    def take(self, count: int) -> float:
        """Seconds to wait before `count` bytes may go."""
        with self._lock:
            now = time.monotonic()
            self._free = max(self._free, now) + count / self.rate
            return self._free - count / self.rate - now


class Connection:
    """One connection of a client."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.sent_body = 0
        self._reader = sock.makefile("rb", buffering=64 << 10)

    def request(self) -> Request | None:
        """The next request; None when the client has closed."""
        line = self._line()
        if not line:
            return None
        parts = line.split(" ")
        if len(parts) != 3:
            raise Malformed(f"not a request line: {line[:100]!r}")
        headers: dict[str, str] = {}
        while text := self._line():
            name, _, value = text.partition(":")
            headers[name.strip().lower()] = value.strip()
            if len(headers) > _HEADERS_MAX:
                raise Malformed("too many headers")
        return self._with_body(parts[0], parts[1], headers)

    def _with_body(self, method: str, target: str, headers: dict[str, str]) -> Request:
        raw_path, _, raw_query = target.partition("?")
        if headers.get("expect", "").lower() == "100-continue":
            self.socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > _BODY_MAX or "transfer-encoding" in headers:
            raise Malformed("a body needs a Content-Length of at most 1 GiB")
        body = self._reader.read(int(length))
        if "aws-chunked" in headers.get("content-encoding", ""):
            body = _without_chunks(body)
        bucket, _, key = raw_path.removeprefix("/").partition("/")
        try:
            return Request(method, raw_path, raw_query, headers, _decoded(bucket), _decoded(key), _query(raw_query), body)
        except UnicodeDecodeError:
            raise Malformed("the path is not UTF-8") from None

    def _line(self) -> str:
        line = self._reader.readline(_LINE_MAX)
        if len(line) == _LINE_MAX:
            raise Malformed("a line is too long")
        return line.rstrip(b"\r\n").decode("latin-1")

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"", *, more: bool = False) -> None:
        """Sends an answer; with `more`, only its head, which then waits for the body."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}", *(f"{name}: {value}" for name, value in headers.items())]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")
        self.socket.sendall(head + body, socket.MSG_MORE if more else 0)

    def send(self, body: Body, offset: int, length: int, pace: Pace | None = None) -> None:
        """Sends bytes of a body; files go from the kernel to the socket."""
        if body.path is not None:
            with body.path.open("rb") as file:
                self._send_file(file.fileno(), offset, length, pace)
            return
        for piece in body.pieces(offset, length) if body.seed is not None else [body.read(offset, length)]:
            self.send_bytes(piece, pace)

    def send_bytes(self, data: bytes, pace: Pace | None = None) -> None:
        """Sends bytes, at the pace given."""
        view = memoryview(data)
        step = len(view) if pace is None else pace.piece()
        for at in range(0, len(view), max(1, step)):
            part = view[at : at + step]
            if pace is not None:
                self.pause(pace.take(len(part)))
            self.socket.sendall(part)
            self.sent_body += len(part)

    def _send_file(self, file: int, offset: int, length: int, pace: Pace | None) -> None:
        end = offset + length
        while offset < end:
            step = min(end - offset, _SEND_MAX if pace is None else pace.piece())
            if pace is not None:
                self.pause(pace.take(step))
            sent = os.sendfile(self.socket.fileno(), file, offset, step)
            if sent == 0:
                raise ConnectionAbortedError("the file became shorter while it was sent")
            offset += sent
            self.sent_body += sent

    def pause(self, seconds: float) -> None:
        """Waits; ConnectionAbortedError as soon as the client, or the origin, has closed."""
        if seconds <= 0:
            return
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        if poll.poll(seconds * 1000):
            raise ConnectionAbortedError("closed while it waited")

    def reset(self) -> None:
        """Ends the connection with RST: what the client has not read yet is lost to it."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def interrupt(self) -> None:
        """Wakes the thread that serves it, which then ends."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Ends the connection in good order."""
        self._reader.close()
        self.socket.close()


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode()


def _query(raw: str) -> dict[str, str]:
    return dict(parse_qsl(raw, keep_blank_values=True))


def _without_chunks(body: bytes) -> bytes:
    """The payload of an `aws-chunked` body: each chunk has its length in hexadecimal before it; trailers follow the empty one."""
    parts = []
    while body:
        line, _, body = body.partition(b"\r\n")
        try:
            length = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Malformed("a chunk has no length") from None
        if length == 0:
            break
        parts.append(body[:length])
        body = body[length + 2 :]
    return b"".join(parts)

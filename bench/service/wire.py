"""HTTP/1.1 for a load generator: as little as a keep-alive connection needs, for what it costs must not be taken from those it measures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

_LIMIT = 1 << 20
_ANSWER_SECONDS = 60.0


@dataclass(frozen=True)
class Answer:
    """Status and body, which nobody has looked into."""

    status: int
    body: bytes


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    """A request as it goes over the wire; made once where it is sent again and again."""
    head = f"{method} {path} HTTP/1.1\r\nHost: control\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n"
    if body or method != "GET":
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


class Connection:
    """One connection, opened when it is first needed, and again after it broke."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, message: bytes) -> Answer:
        """Sends and waits for the whole answer. OSError where there is none."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._ask(message)
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            self.close()
            raise ConnectionError(f"no answer: {error}") from error

    async def _ask(self, message: bytes) -> Answer:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()  # the server has closed it meanwhile, as every client notices
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=_LIMIT)
        reader, writer = self._streams
        writer.write(message)
        head = await reader.readuntil(b"\r\n\r\n")
        length = _length(head)
        return Answer(int(head[9:12]), await reader.readexactly(length) if length else b"")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def _length(head: bytes) -> int:
    found = head.lower().find(b"\r\ncontent-length:")
    if found < 0:
        return 0
    start = found + len(b"\r\ncontent-length:")
    return int(head[start : head.index(b"\r\n", start)])

"""A proxy that lets each request wait, as distance does, and hands answers on untouched and unread.

A request is held for the delay before the server sees it, so the first byte of its answer comes that much later; what
follows the first byte isn't slowed. Connecting is not delayed, and a client that sends requests before it has read the
answers (pipelining) is delayed once. Bytes of answers go from socket to socket through a pipe (splice(2)) and are never
copied into this process, so that it can stand in front of a fast server: it is a process of its own, for its threads
would otherwise wait for each other and for whatever else the interpreter does.

    python -m headrace.testing delay --to 127.0.0.1:8333 --seconds 0.02
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from headrace.testing.access import Access

A = TypeVar("A", bound=Access)

_REQUEST_PIECE = 256 << 10
_PIPE = 1 << 20  # as much as an unprivileged process may ask for
_START_SECONDS = 20


@contextmanager
def delayed(access: A, seconds: float, *, host: str = "127.0.0.1") -> Iterator[A]:
    """The same server, `seconds` further away, reached on an address of `host`."""
    target = access.endpoint.removeprefix("http://")
    command = [sys.executable, "-m", "headrace.testing", "delay", f"--to={target}", f"--seconds={seconds}", f"--host={host}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            if not endpoint:
                raise RuntimeError("the delaying proxy did not start")
            yield replace(access, endpoint=endpoint)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(_START_SECONDS)


def serve(target: tuple[str, int], seconds: float, host: str, port: int) -> tuple[socket.socket, str]:
    """Accepts on a thread; gives the listener, whose end ends it, and the endpoint."""
    listener = socket.create_server((host, port), backlog=256)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=_Connection(client, target, seconds).run, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener, f"http://{host}:{listener.getsockname()[1]}"


class _Connection:
    """A client's connection and the one to the server that stands for it."""

    def __init__(self, client: socket.socket, target: tuple[str, int], seconds: float) -> None:
        self._client = client
        self._target = target
        self._seconds = seconds
        self._answered = True  # what the client sends next is a new request

    def run(self) -> None:
        with self._client, contextlib.suppress(OSError), socket.create_connection(self._target) as server:
            for each in (self._client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = threading.Thread(target=self._answers, args=(server,), daemon=True)
            back.start()
            self._requests(server)
            back.join()

    def _requests(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := self._client.recv(_REQUEST_PIECE):
                if self._answered:
                    self._answered = False
                    time.sleep(self._seconds)
                server.sendall(piece)
        _end(server)

    def _answers(self, server: socket.socket) -> None:
        out, into = os.pipe()
        try:
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _PIPE)
            while count := os.splice(server.fileno(), into, _PIPE):
                self._answered = True
                while count:
                    count -= os.splice(out, self._client.fileno(), count)
        except OSError:  # either side is gone, and with it what was asked for
            _end(server, socket.SHUT_RDWR)
        finally:
            os.close(out)
            os.close(into)
            _end(self._client)


def _end(side: socket.socket, how: int = socket.SHUT_WR) -> None:
    with contextlib.suppress(OSError):  # it has ended by itself
        side.shutdown(how)

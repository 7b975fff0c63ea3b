"""Things that stand between Headrace and a server: an HTTPS front, one that denies, one that can be shut, and a proxy that tunnels."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PIECE = 65536


def address(endpoint: str) -> tuple[str, int]:
    """Host and port of `http://HOST:PORT`."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    return host, int(port)


@contextmanager
def https_front(target: tuple[str, int], directory: Path, breaks: int = 0) -> Iterator[tuple[str, Path]]:
    """An HTTPS endpoint before a plain server, and the certificate authority (a PEM file) that vouches for it.

    The first `breaks` connections break in the middle of the handshake.
    """
    certificate, key = directory / "front.pem", directory / "front.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    numbers = itertools.count()

    def handle(plain: socket.socket) -> None:
        if next(numbers) < breaks:
            plain.recv(1)
            plain.close()
            return
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as secure:
            _join(secure, socket.create_connection(target))

    with _serving(handle) as port:
        yield f"https://localhost:{port}", certificate


@contextmanager
def tunnelling_proxy(seen: list[str]) -> Iterator[str]:
    """A proxy for CONNECT; `seen` gets the target of each tunnel."""

    def handle(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = _head(client)
            if not head:
                return
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            if method != "CONNECT":
                client.sendall(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n")
                return
            seen.append(target)
            host, _, port = target.rpartition(":")
            upstream = socket.create_connection((host, int(port)))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            _join(client, upstream)

    with _serving(handle) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def denying_front(target: tuple[str, int], key: str) -> Iterator[str]:
    """An endpoint before a plain server that lets nobody read one key."""

    def handle(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = _head(client)
            if not head:
                return
            request, _, rest = head.partition(b"\r\n")
            if b"/" + key.encode() + b" " in request:
                body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                return
            upstream = socket.create_connection(target)
            upstream.sendall(request + b"\r\nConnection: close\r\n" + rest)
            _join(client, upstream)

    with _serving(handle) as port:
        yield f"http://127.0.0.1:{port}"


class Gate:
    """An endpoint before a plain server where requests for one file wait while it is shut; all others are answered at once."""

    def __init__(self, target: tuple[str, int], name: str) -> None:
        self.url = ""
        self._target = target
        self._name = name.encode()
        self._open = threading.Event()
        self.open()

    def shut(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def handle(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            head = _head(client)
            if not head:
                return
            request, _, rest = head.partition(b"\r\n")
            if request.split(b" ")[1].partition(b"?")[0].endswith(b"/" + self._name):
                self._open.wait()
            upstream = socket.create_connection(self._target)
            upstream.sendall(request + b"\r\nConnection: close\r\n" + rest)
            _join(client, upstream)


@contextmanager
def gate(target: tuple[str, int], name: str) -> Iterator[Gate]:
    """A gate that is open."""
    made = Gate(target, name)
    with _serving(made.handle) as port:
        made.url = f"http://127.0.0.1:{port}"
        yield made
        made.open()


class Front:
    """A way to a plain server that can be shut, and opened again under the same address."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.url = ""
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._live: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.turned_away = 0  # who came while it was shut

    def shut(self) -> None:
        """Ends what is connected, and whatever comes."""
        self._open.clear()
        with self._lock:
            for connection in self._live:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def open(self) -> None:
        self._open.set()

    def handle(self, client: socket.socket) -> None:
        with client:
            if not self._open.is_set():
                self.turned_away += 1
                return
            with self._lock:
                self._live.add(client)
            with contextlib.suppress(OSError):
                _join(client, socket.create_connection(self._target))
            with self._lock:
                self._live.discard(client)


@contextmanager
def front(target: tuple[str, int]) -> Iterator[Front]:
    """A front that is open."""
    made = Front(target)
    with _serving(made.handle) as port:
        made.url = f"http://127.0.0.1:{port}"
        yield made
        made.shut()


def _head(client: socket.socket) -> bytes:
    """A request up to its empty line; empty when the client has gone."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = client.recv(1)
        if not part:
            return b""
        head += part
    return head


@contextmanager
def _serving(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """Answers each connection on a thread of its own; gives the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=handle, args=(connection,), daemon=True).start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)


def _join(one: socket.socket, other: socket.socket) -> None:
    """Hands bytes on in both directions until either side ends."""
    back = threading.Thread(target=_hand_on, args=(other, one), daemon=True)
    back.start()
    _hand_on(one, other)
    back.join()
    other.close()


def _hand_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(_PIECE):
            target.sendall(piece)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)

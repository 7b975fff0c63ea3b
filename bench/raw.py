"""The ceilings of cold reads: GETs in parallel, thrown away.

One object: eight connections in two processes, each fetching the next 8 MiB range into the same small buffer. Many small
ones: 32 connections in two processes, each fetching the next object whole. A first byte: one range on a connection that
has carried another answer before. Nothing but the socket is on the way: no HTTP client, no file, no memory that has not
been touched before. All run in the seat that they are given, through the same link and delay as the mount.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from bench.seats import Route

PART = 8 << 20
_BUFFER = 1 << 20
_HEADER_MAX = 1 << 16
_TIMEOUT_SECONDS = 60.0
_SIGNED_SECONDS = 7 * 86400

Range = tuple[int, int] | None  # offset and length; None is all of the object


def fetch(route: Route, bucket: str, key: str, size: int, *, processes: int = 2, connections: int = 4) -> float:
    """Seconds to fetch an object with `connections` in flight from each of `processes`, from the first request to the last byte."""
    parts = [(offset, min(PART, size - offset)) for offset in range(0, size, PART)]
    [address] = addresses(route, bucket, [key])
    return _timed(
        route, [{"gets": [(address, part) for part in parts[n::processes]], "connections": connections} for n in range(min(processes, len(parts)))]
    )


def fetch_many(route: Route, signed: Sequence[str], *, processes: int = 2, connections: int = 16) -> float:
    """Seconds to fetch objects whole, one a request, as `fetch`."""
    return _timed(
        route,
        [{"gets": [(address, None) for address in signed[n::processes]], "connections": connections} for n in range(min(processes, len(signed)))],
    )


def first_byte(route: Route, address: str, offset: int, length: int, *, warm: str) -> float:
    """Seconds of one ranged GET on a connection that has fetched a range of `warm` just before."""
    return _timed(route, [{"gets": [(address, (offset, length))], "connections": 1, "warm": warm}])


def addresses(route: Route, bucket: str, keys: Sequence[str]) -> list[str]:
    """Signed addresses of objects; signing takes time, so it comes before what is timed."""
    client = route.access.client()
    parameters = ({"Bucket": bucket, "Key": key} for key in keys)
    return [str(client.generate_presigned_url("get_object", Params=each, ExpiresIn=_SIGNED_SECONDS)) for each in parameters]


def _timed(route: Route, jobs: list[dict[str, Any]]) -> float:
    """Runs a process for each job, which all begin when all are connected; gives the seconds from the first begin to the last end."""
    command = route.seat.command([sys.executable, "-m", "bench.raw"])
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in jobs]
    for each, job in zip(started, jobs, strict=True):
        _tell(each, json.dumps(job))
    for each in started:
        assert each.stdout is not None
        each.stdout.readline()  # it is connected
    for each in started:
        _tell(each, "")
    told = [each.communicate()[0] for each in started]
    if any(each.returncode for each in started):
        raise RuntimeError("the raw client could not fetch what it was to fetch")
    times = [json.loads(each) for each in told]  # all of the same clock
    return float(max(ended for _, ended in times) - min(began for began, _ in times))


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def main() -> None:
    """The process of one job."""
    job = json.loads(sys.stdin.readline())
    url = urlsplit(job["gets"][0][0])
    sockets = [socket.create_connection((url.hostname or "", url.port or 80), timeout=_TIMEOUT_SECONDS) for _ in range(job["connections"])]
    if warm := job.get("warm"):
        _fetch_share(sockets, [(warm, (0, _HEADER_MAX))])
    print("connected", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    _fetch_share(sockets, job["gets"])
    print(json.dumps([began, time.monotonic()]))


def _fetch_share(sockets: list[socket.socket], gets: list[tuple[str, Range]]) -> None:
    """Each connection takes the next GET when it has finished one."""
    if len(sockets) == 1:
        _work(sockets[0], iter(gets), threading.Lock(), [])
        return
    todo, lock = iter(gets), threading.Lock()
    failures: list[BaseException] = []

    def work(connection: socket.socket) -> None:
        try:
            _work(connection, todo, lock, failures)
        except (OSError, ValueError) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(connection,)) for connection in sockets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _work(connection: socket.socket, todo: Iterator[tuple[str, Range]], lock: threading.Lock, failures: list[BaseException]) -> None:
    buffer = bytearray(_BUFFER)
    while not failures:
        with lock:
            found = next(todo, None)
        if found is None:
            return
        _get(connection, *found, buffer)


def _get(connection: socket.socket, address: str, wanted: Range, buffer: bytearray) -> None:
    url = urlsplit(address)
    span = "" if wanted is None else f"Range: bytes={wanted[0]}-{wanted[0] + wanted[1] - 1}\r\n"
    connection.sendall(f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\n{span}\r\n".encode())
    view = memoryview(buffer)
    held = 0
    while (end := buffer.find(b"\r\n\r\n", 0, held)) < 0:
        got = connection.recv_into(view[held:_HEADER_MAX])
        if not got:
            raise ValueError("the server closed the connection")
        held += got
    left = _length(bytes(view[:end]).lower(), wanted) - (held - end - 4)
    while left:
        got = connection.recv_into(view, min(left, len(buffer)))
        if not got:
            raise ValueError("the server closed the connection")
        left -= got


def _length(head: bytes, wanted: Range) -> int:
    """Length of the body; ValueError when the answer is not the one asked for."""
    found = [line.removeprefix(b"content-length:") for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    status = b"http/1.1 200" if wanted is None else b"http/1.1 206"
    if not head.startswith(status) or not found or (wanted is not None and int(found[0]) != wanted[1]):
        raise ValueError(f"not what was asked for: {head[:300]!r}")
    return int(found[0])


if __name__ == "__main__":
    main()

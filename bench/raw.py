"""The ceiling of cold reads: ranged GETs in parallel, thrown away.

Eight connections in two processes, each fetching the next 8 MiB range into the same small buffer. Nothing but the
socket is on the way: no HTTP client, no file, no memory that has not been touched before.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from itertools import count
from urllib.parse import urlsplit

from headrace.testing.access import Access

PART = 8 << 20
_BUFFER = 1 << 20
_HEADER_MAX = 1 << 16
_TIMEOUT_SECONDS = 60.0


def fetch(access: Access, bucket: str, key: str, size: int, *, processes: int = 2, connections: int = 4) -> float:
    """Seconds to fetch an object with `connections` in flight from each of `processes`, from the first request to the last byte."""
    address = access.client().generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})
    started = []
    for share in range(processes):
        command = [sys.executable, "-m", "bench.raw", address, *map(str, (size, share, processes, connections))]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    for each in started:
        assert each.stdout is not None
        each.stdout.readline()  # it is connected
    began = time.monotonic()
    for each in started:
        each.communicate(b"\n")
    seconds = time.monotonic() - began
    if any(each.returncode for each in started):
        raise RuntimeError(f"the raw client could not fetch {key}")
    return seconds


def _fetch_share(address: str, size: int, share: int, shares: int, connections: int) -> None:
    """Every `shares`-th part, beginning with part `share`."""
    parts = (part for part in count(share, shares))
    lock = threading.Lock()
    failures: list[BaseException] = []
    url = urlsplit(address)
    sockets = [socket.create_connection((url.hostname or "", url.port or 80), timeout=_TIMEOUT_SECONDS) for _ in range(connections)]

    def work(connection: socket.socket) -> None:
        buffer = bytearray(_BUFFER)
        try:
            while True:
                with lock:
                    offset = next(parts) * PART
                if offset >= size or failures:
                    return
                _fetch_part(connection, url.netloc, f"{url.path}?{url.query}", offset, min(PART, size - offset), buffer)
        except (OSError, ValueError) as failure:
            failures.append(failure)

    print("connected", flush=True)
    sys.stdin.readline()
    threads = [threading.Thread(target=work, args=(connection,)) for connection in sockets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for connection in sockets:
        connection.close()
    if failures:
        raise failures[0]


def _fetch_part(connection: socket.socket, host: str, target: str, offset: int, length: int, buffer: bytearray) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={offset}-{offset + length - 1}\r\n\r\n"
    connection.sendall(request.encode())
    view = memoryview(buffer)
    held = 0
    while (end := buffer.find(b"\r\n\r\n", 0, held)) < 0:
        got = connection.recv_into(view[held:_HEADER_MAX])
        if not got:
            raise ValueError("the server closed the connection")
        held += got
    head = bytes(view[:end]).lower()
    if not head.startswith(b"http/1.1 206") or f"content-length: {length}".encode() not in head:
        raise ValueError(f"not the range asked for: {head[:300]!r}")
    left = length - (held - end - 4)
    while left:
        got = connection.recv_into(view, min(left, len(buffer)))
        if not got:
            raise ValueError("the server closed the connection")
        left -= got


if __name__ == "__main__":
    _fetch_share(sys.argv[1], *map(int, sys.argv[2:]))

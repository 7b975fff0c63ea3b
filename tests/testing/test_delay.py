"""The delaying proxy: every byte arrives, every request waits, and what one request waits the next doesn't."""

from __future__ import annotations

import socket
import time

import pytest

from headrace.testing.access import Access
from headrace.testing.content import content
from headrace.testing.delay import delayed
from headrace.testing.origin import Origin

MIB = 1 << 20
SECONDS = 0.05


def test_bytes_go_both_ways_unchanged(origin: Origin) -> None:
    body = content(7, 0, 5 * MIB + 3)
    with delayed(origin.access, SECONDS) as far:
        client = far.client(retries=1, timeout=10)
        client.put_object(Bucket="b", Key="k", Body=body)
        assert client.get_object(Bucket="b", Key="k")["Body"].read() == body
        assert client.get_object(Bucket="b", Key="k", Range="bytes=3-9")["Body"].read() == body[3:10]


def test_each_request_of_a_connection_waits(origin: Origin) -> None:
    origin.bucket("b").put("k", b"bytes")
    with delayed(origin.access, SECONDS) as far:
        host, _, port = far.endpoint.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            for _ in range(3):
                began = time.monotonic()
                connection.sendall(f"GET /b/k HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
                answer = b""
                while not answer.endswith(b"bytes"):
                    answer += connection.recv(4096)
                assert answer.startswith(b"HTTP/1.1 200")
                assert time.monotonic() - began >= SECONDS  # no more is promised, nor tested


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with delayed(Access(f"http://127.0.0.1:{port}"), 0.0) as far:
        host, _, proxy = far.endpoint.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(proxy)), timeout=10) as connection:
            assert connection.recv(1) == b""


def test_it_cannot_start_on_an_address_that_is_not_here() -> None:
    with pytest.raises(RuntimeError, match="did not start"), delayed(Access("http://127.0.0.1:1"), 0.0, host="192.0.2.1"):
        pass

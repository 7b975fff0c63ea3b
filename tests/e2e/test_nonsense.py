"""A node that is told nonsense over its control socket answers with an error, and goes on."""

from __future__ import annotations

import json
import socket
from typing import Any

from support.bucket import Bucket
from support.headrace import Headrace


def say(headrace: Headrace, data: bytes) -> list[dict[str, Any]]:
    """What a node answers before it, or this connection, ends."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(headrace.environment["HEADRACE_NODE"])
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as file:
            return [json.loads(line) for line in file][1:]


def test_each_line_is_answered_up_to_the_one_that_is_no_request(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", b"1")
    headrace.mount(bucket.uri("m"))
    calls: list[dict[str, Any]] = [
        {"id": 1, "method": "ping"},
        {"id": 2, "method": "refresh", "params": {"directory": [1]}},
        {"id": 3, "method": {}, "params": 1},
        {"id": 4, "method": "cache.evict", "params": {}},
        {"id": 5, "method": "warm", "params": {"paths": ["\ud800"]}},
    ]
    lines = [json.dumps(call).encode() + b"\n" for call in calls]
    answers = say(headrace, b"".join(lines) + b"[" * 10_000 + b"\n" + lines[0])
    assert [answer["id"] for answer in answers] == [1, 2, 3, 4, 5, None]
    assert "result" in answers[0]
    codes = [answer["error"]["code"] for answer in answers[1:]]
    assert codes == ["bad-request", "unknown", "bad-request", "bad-request", "bad-request"]
    assert say(headrace, lines[0])[0]["result"]["mounts"]
    assert "Traceback" not in headrace.log()

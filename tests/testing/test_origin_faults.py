"""Every fault of the test origin is really on the wire, and only where it was asked for."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from headrace.testing.content import content
from headrace.testing.faults import LATE, POSSIBLE, Fault, Faults
from headrace.testing.origin import Origin, failing_origin

SIZE = 300_000
START, END = 1000, 200_000
WANTED = content(3, START, END - START)


@dataclass
class Answer:
    """An answer as it came; `end` says how: whole, closed, reset or silent."""

    status: int
    headers: dict[str, str]
    body: bytes
    end: str


@pytest.fixture
def raw(origin: Origin) -> Iterator[socket.socket]:
    data = content(3, 0, SIZE)
    origin.bucket("b").put("k", data)
    host, _, port = origin.access.endpoint.removeprefix("http://").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=0.7)) as sock:
        yield sock


def ask(sock: socket.socket) -> Answer | str:
    """One ranged GET on a connection; the way it ended when there was no answer at all."""
    sock.sendall(f"GET /b/k HTTP/1.1\r\nHost: x\r\nRange: bytes={START}-{END - 1}\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        part = receive(sock)
        if isinstance(part, str):
            return part
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    while len(body) < int(headers["content-length"]):
        part = receive(sock)
        if isinstance(part, str):
            return Answer(int(lines[0].split()[1]), headers, body, part)
        body += part
    return Answer(int(lines[0].split()[1]), headers, body, "whole")


def receive(sock: socket.socket) -> bytes | str:
    try:
        return sock.recv(1 << 20) or "closed"
    except TimeoutError:
        return "silent"
    except ConnectionResetError:
        return "reset"


def test_answers_are_held_back_for_as_long_as_one_likes(origin: Origin, raw: socket.socket) -> None:
    with origin.holding():
        assert ask(raw) == "silent"
    assert isinstance(receive(raw), bytes)
    assert origin.counters.requests["range"] == 1


def right(answer: Answer | str) -> bool:
    assert isinstance(answer, Answer)
    ranged = f"bytes {START}-{END - 1}/{SIZE}"
    return (answer.status, answer.headers["content-range"], answer.body, answer.end) == (206, ranged, WANTED, "whole")


def test_refusals_leave_the_connection(origin: Origin, raw: socket.socket) -> None:
    origin.faults.retry_after = 7
    origin.faults.script(Fault.SLOW_DOWN, Fault.TOO_MANY, Fault.INTERNAL, None)
    for status, code, wait in ((503, "SlowDown", "7"), (429, "TooManyRequests", "7"), (500, "InternalError", None)):
        answer = ask(raw)
        assert isinstance(answer, Answer)
        assert (answer.status, answer.headers.get("retry-after")) == (status, wait)
        assert f"<Code>{code}</Code>".encode() in answer.body
    assert right(ask(raw))
    assert (origin.counters.connections, origin.counters.requests["range"]) == (1, 4)
    assert origin.counters.body_bytes == len(WANTED)
    assert origin.faults.given == {Fault.SLOW_DOWN: 1, Fault.TOO_MANY: 1, Fault.INTERNAL: 1}


def test_a_reset_before_the_answer(origin: Origin, raw: socket.socket) -> None:
    origin.faults.script(Fault.RESET_BEFORE)
    assert ask(raw) == "reset"


@pytest.mark.parametrize(("fault", "end"), [(Fault.RESET_INSIDE, "reset"), (Fault.TRUNCATED, "closed"), (Fault.STALL, "silent")])
def test_an_answer_that_breaks_off(origin: Origin, raw: socket.socket, fault: Fault, end: str) -> None:
    origin.faults.script(fault)
    answer = ask(raw)
    assert isinstance(answer, Answer)
    assert (answer.status, answer.end, answer.headers["content-length"]) == (206, end, str(len(WANTED)))
    assert len(answer.body) < len(WANTED)
    assert WANTED.startswith(answer.body)


def test_a_stall_ends_with_a_reset(origin: Origin, raw: socket.socket) -> None:
    origin.faults.stall = 0.2
    origin.faults.script(Fault.STALL)
    answer = ask(raw)
    assert isinstance(answer, Answer)
    assert answer.end == "reset"


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("fault", [Fault.WRONG_ETAG, Fault.WRONG_RANGE, Fault.WRONG_LENGTH, Fault.WHOLE])
def test_a_wrong_answer_is_whole_and_has_wrong_bytes(origin: Origin, raw: socket.socket, fault: Fault, seed: int) -> None:
    assert right(ask(raw))
    origin.faults.seed = seed
    origin.faults.script(fault)
    answer = ask(raw)
    assert isinstance(answer, Answer)
    assert answer.end == "whole"
    assert answer.body != WANTED
    etag = answer.headers["etag"]
    held = origin.bucket("b").get("k")
    assert held is not None
    assert answer.status == (200 if fault is Fault.WHOLE else 206)
    assert (etag != held.etag) == (fault is Fault.WRONG_ETAG)
    assert (answer.headers.get("content-range") != f"bytes {START}-{END - 1}/{SIZE}") == (fault in (Fault.WRONG_RANGE, Fault.WHOLE))
    assert (int(answer.headers["content-length"]) != len(WANTED)) or fault in (Fault.WRONG_ETAG, Fault.WRONG_RANGE)
    assert right(ask(raw))


def test_late_and_slow_answers_are_right(origin: Origin, raw: socket.socket) -> None:
    raw.settimeout(10)
    origin.faults.late = 0.3
    origin.faults.cap = 1 << 20
    origin.faults.script(Fault.SLOW_FIRST_BYTE, Fault.CAPPED)
    for least in (0.3, len(WANTED) / (1 << 20) * 0.7):
        began = time.monotonic()
        assert right(ask(raw))
        assert time.monotonic() - began >= least
    origin.limit(1 << 20)
    began = time.monotonic()
    assert right(ask(raw))
    assert time.monotonic() - began >= len(WANTED) / (1 << 20) * 0.7


def test_the_same_seed_gives_the_same_faults_in_any_order() -> None:
    def chosen(seed: int, keys: list[str]) -> dict[str, list[Fault | None]]:
        faults = Faults(seed=seed, rate=0.5)
        found: dict[str, list[Fault | None]] = {}
        for key in keys:
            given = faults.choose("range", key, "bytes=0-9")
            found.setdefault(key, []).append(given.fault if given else None)
        return found

    keys = [str(n % 50) for n in range(1000)]
    assert chosen(1, keys) == chosen(1, sorted(keys))
    assert chosen(1, keys) != chosen(2, keys)
    seen = [fault for each in chosen(1, keys).values() for fault in each]
    assert set(seen) == {None, *POSSIBLE["range"]}
    assert 0.4 < sum(fault is not None for fault in seen) / len(seen) < 0.55


def test_faults_pass_unless_they_are_permanent() -> None:
    faults = Faults(rate=1.0)
    row = [faults.choose("range", "k", f"bytes={n}-99") for n in range(400)]
    failed = "".join("." if given is None or given.fault in LATE else "x" for given in row)
    assert max(len(run) for run in re.findall("x+", failed)) == faults.in_a_row
    faults.always(Fault.STALL, "bad")
    kinds = {given and given.fault for given in (faults.choose("range", "bad", "bytes=0-99") for _ in range(50))}
    assert kinds == {Fault.STALL}
    faults.pass_over("bad")
    faults.clear()
    assert faults.choose("range", "bad", "bytes=0-99") is None
    with pytest.raises(ValueError, match="200-to-range"):
        faults.always(Fault.WHOLE, on="list")


def test_listings_fail_too(origin: Origin, client: Any) -> None:
    for number in range(5):
        origin.bucket("b").put(f"k{number}", b"")
    origin.faults.script(Fault.SLOW_DOWN, Fault.MISSING_TOKEN, on="list")
    with pytest.raises(ClientError) as caught:
        client.list_objects_v2(Bucket="b")
    assert caught.value.response["Error"]["Code"] == "SlowDown"
    page = client.list_objects_v2(Bucket="b", MaxKeys=2)
    assert (page["IsTruncated"], page.get("NextContinuationToken")) == (True, None)
    token = client.list_objects_v2(Bucket="b", MaxKeys=2)["NextContinuationToken"]
    origin.faults.script(Fault.REPEATED_TOKEN, on="list")
    assert client.list_objects_v2(Bucket="b", MaxKeys=2, ContinuationToken=token)["NextContinuationToken"] == token
    origin.faults.script(Fault.CUT_LISTING, on="list")
    with urllib.request.urlopen(f"{origin.access.endpoint}/b?list-type=2") as answer:
        text = answer.read()
    assert b"<Contents>" in text
    assert not text.endswith(b"</ListBucketResult>")
    assert [i["Key"] for i in client.list_objects_v2(Bucket="b")["Contents"]] == [f"k{n}" for n in range(5)]


@pytest.mark.parametrize(
    "bytes_sent",
    [b"nonsense\r\n\r\n", b"GET /b/%ff HTTP/1.1\r\n\r\n", b"PUT /b/k HTTP/1.1\r\nContent-Length: 2\r\nContent-Encoding: aws-chunked\r\n\r\nxx"],
)
def test_what_is_no_request_is_refused(raw: socket.socket, bytes_sent: bytes) -> None:
    raw.sendall(bytes_sent)
    answer = b""
    while part := raw.recv(1 << 16):
        answer += part
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_an_origin_stops_while_it_stalls() -> None:
    with failing_origin("b") as origin, closing(socket.socket()) as sock:
        origin.bucket("b").put("k", content(3, 0, SIZE))
        origin.faults.always(Fault.STALL)
        host, _, port = origin.access.endpoint.removeprefix("http://").partition(":")
        sock.settimeout(0.3)
        sock.connect((host, int(port)))
        ask(sock)
        began = time.monotonic()
    assert time.monotonic() - began < 5


def test_the_command_serves_files_and_can_be_changed(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m/a").write_bytes(content(1, 0, 5000))
    command = [sys.executable, "-m", "headrace.testing", "origin", "--bucket", "models", "--directory", str(tmp_path), "--always", "m/a=503"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        endpoint = process.stdout.readline().strip()
        asked = urllib.request.Request(f"{endpoint}/models/m/a", headers={"Range": "bytes=5-9"})
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(asked)
        change = urllib.request.Request(f"{endpoint}/-/faults", data=json.dumps({"rate": 0, "always": {}}).encode(), method="PUT")
        urllib.request.urlopen(change).close()
        wrong = urllib.request.Request(f"{endpoint}/-/faults", data=b'{"rat": 1}', method="PUT")
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(wrong)
        assert "rat: there is no such field" in json.load(caught.value)["error"]
        with urllib.request.urlopen(asked) as answer:
            assert answer.read() == content(1, 5, 5)
        with urllib.request.urlopen(f"{endpoint}/-/counters") as answer:
            assert json.load(answer)["faults"] == {"503": 1}
        process.send_signal(signal.SIGINT)
        report = json.loads(process.stderr.read())
    assert process.returncode == 0
    assert report["requests"] == {"range": 2}
    assert report["body_bytes"] == 5


def test_the_command_names_what_is_wrong() -> None:
    for arguments, word in (["--fault", "nonsense"], "nonsense"), (["--directory", "/nowhere"], "/nowhere"), (["--always", "x=y"], "always"):
        done = subprocess.run(
            [sys.executable, "-m", "headrace.testing", "origin", *arguments], capture_output=True, text=True, check=False, timeout=30
        )
        assert (done.returncode, word in done.stderr, "Traceback" in done.stderr) == (2, True, False)

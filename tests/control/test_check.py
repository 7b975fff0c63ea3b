"""The connection check, against servers that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from headrace.control.addresses import AddressRules
from headrace.control.problems import Finding
from headrace.control.volumes import check as checking
from headrace.control.volumes import probe
from headrace.control.volumes.check import CHECK_NAME, check
from headrace.control.volumes.origin import Credentials, Origin
from headrace.control.volumes.providers import COMPATIBLE, PROVIDERS

HERE = AddressRules.of([], [])
KEYS = Credentials("access", "secret")
Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Bucket:
    """A small S3 server; `instead` may answer in its place, or raise to cut the connection."""

    objects: dict[str, bytes] = field(default_factory=lambda: {"d/a.bin": b"content"})
    instead: Callable[[Bucket, str, str, bytes], Reply | None] = lambda *_: None
    asked: list[tuple[str, str]] = field(default_factory=list)

    def answer(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Reply:
        key = unquote(urlsplit(target).path).removeprefix("/b/")
        self.asked.append((method, key or urlsplit(target).query))
        if (reply := self.instead(self, method, target, body)) is not None:
            return reply
        if method == "PUT":
            self.objects[key] = body
            return 200, {}, b""
        if method == "DELETE":
            self.objects.pop(key, None)
            return 204, {}, b""
        if not key:
            return (404, {}, b"") if "object-lock" in target else (200, {}, self.listing())
        return self.read(key, headers)

    def read(self, key: str, headers: dict[str, str]) -> Reply:
        content = self.objects.get(key)
        if content is None:
            return 404, {}, b""
        if headers.get("if-match", etag(content)) != etag(content):
            return 412, {}, b""
        if "range" in headers:
            return 206, {"ETag": etag(content), "Content-Range": f"bytes 0-0/{len(content)}"}, content[:1]
        return 200, {"ETag": etag(content)}, content

    def listing(self, of: Callable[[str, bytes], str] | None = None) -> bytes:
        entry = of or (lambda key, content: f"<Key>{key}</Key><ETag>{etag(content)}</ETag><Size>{len(content)}</Size>")
        rows = "".join(f"<Contents>{entry(key, content)}</Contents>" for key, content in sorted(self.objects.items()))
        return f"<ListBucketResult>{rows}</ListBucketResult>".encode()


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


@contextmanager
def serving(bucket: Bucket) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            try:
                status, headers, content = bucket.answer(self.command, self.path, body, {name.lower(): value for name, value in self.headers.items()})
            except ConnectionAbortedError:
                self.close_connection = True
                return
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self._headers_buffer.append(f"{name}: {value}\r\n".encode())  # type: ignore[attr-defined]  # as it is: send_header would object
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_DELETE = _do  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def found_in(bucket: Bucket, *, read_only: bool = False) -> list[Finding]:
    with serving(bucket) as url:
        return asyncio.run(check(Origin(COMPATIBLE, "us-east-1", url, "path", "b", "d"), KEYS, HERE, read_only=read_only))


def codes(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.code, finding.level) for finding in findings]


def listed_as(of: Callable[[str, bytes], str]) -> Callable[[Bucket, str, str, bytes], Reply | None]:
    return lambda bucket, method, target, _: (200, {}, bucket.listing(of)) if method == "GET" and "list-type" in target else None


def test_a_good_one_passes_and_nothing_stays() -> None:
    bucket = Bucket()
    assert codes(found_in(bucket)) == []
    assert list(bucket.objects) == ["d/a.bin"]


def test_what_another_check_wrote_is_neither_read_nor_counted() -> None:
    bucket = Bucket({f"d/{CHECK_NAME}0123": b"x"})
    assert codes(found_in(bucket, read_only=True)) == [("empty-directory", "warning"), ("read-only", "note")]
    assert not [key for method, key in bucket.asked if CHECK_NAME in key]


def test_an_object_that_goes_meanwhile_is_passed_over() -> None:
    def gone(bucket: Bucket, method: str, target: str, _: bytes) -> Reply | None:
        return (404, {}, b"") if method == "GET" and target.endswith("d/a.bin") else None

    bucket = Bucket({"d/a.bin": b"a", "d/b.bin": b"b"}, gone)
    assert codes(found_in(bucket, read_only=True)) == [("read-only", "note")]
    assert ("GET", "d/b.bin") in bucket.asked


def test_what_was_written_without_an_answer_is_removed() -> None:
    def cut(bucket: Bucket, method: str, target: str, body: bytes) -> Reply | None:
        if method == "PUT":
            bucket.objects[unquote(target).removeprefix("/b/")] = body
            raise ConnectionAbortedError
        return None

    bucket = Bucket(instead=cut)
    assert codes(found_in(bucket)) == [("unreachable", "error")]
    assert list(bucket.objects) == ["d/a.bin"]


def test_what_could_not_be_removed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "_TIDY_SECONDS", 1)
    release = threading.Event()

    def cut(_bucket: Bucket, method: str, _target: str, _body: bytes) -> Reply | None:
        if method == "DELETE":
            release.wait(20)
            raise ConnectionAbortedError
        return None

    bucket = Bucket(instead=cut)
    with contextlib.ExitStack() as stack:
        stack.callback(release.set)
        with serving(bucket) as url:
            found = asyncio.run(check(Origin(COMPATIBLE, "us-east-1", url, "path", "b", "d"), KEYS, HERE, read_only=False))
            release.set()
    assert codes(found) == [("left-behind", "warning")]
    (key,) = [key for key in bucket.objects if CHECK_NAME in key]
    assert key in found[0].cause.en


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (lambda key, content: f"<Key>{key}</Key><Size>{len(content)}</Size>", "no-etag"),
        (lambda key, content: f"<Key>{key}</Key><ETag>é</ETag><Size>{len(content)}</Size>", "not-s3"),
        (lambda key, content: f"<Key>{key}</Key><ETag>&quot;other&quot;</ETag><Size>{len(content)}</Size>", "changed-meanwhile"),
    ],
)
def test_listings_without_a_usable_etag_are_refused(entry: Callable[[str, bytes], str], code: str) -> None:
    assert codes(found_in(Bucket(instead=listed_as(entry)))) == [(code, "error")]


def test_a_size_of_thousands_of_digits_is_passed_over() -> None:
    found = found_in(Bucket(instead=listed_as(lambda key, content: f"<Key>{key}</Key><ETag>{etag(content)}</ETag><Size>{'9' * 5000}</Size>")))
    assert codes(found) == []


@pytest.mark.parametrize(("told", "code"), [({}, "no-etag"), ({"ETag": '"other"'}, "other-etag")])
def test_answers_must_name_the_etag_that_was_listed(told: dict[str, str], code: str) -> None:
    def other(bucket: Bucket, method: str, target: str, _: bytes) -> Reply | None:
        return (206, {**told, "Content-Range": "bytes 0-0/7"}, b"c") if method == "GET" and target.endswith("a.bin") else None

    assert codes(found_in(Bucket(instead=other))) == [(code, "error")]


@pytest.mark.parametrize("body", [b'<?xml version="1.0" encoding="bogus"?><ListBucketResult/>', b"<html>", b"", b"\xff\xfe", b"<a" * 1000])
def test_what_is_no_listing_is_no_s3(body: bytes) -> None:
    assert codes(found_in(Bucket(instead=lambda *_: (200, {}, body)))) == [("not-s3", "error")]


@pytest.mark.parametrize(
    "location",
    ["http://[", "http://h:99999/", "http://hé/", "http://a b/", "http://169.254.169.254/", "http://[::1%25é]:9/", "//", "http://" + "a" * 70],
)
def test_redirects_to_nowhere_are_told(location: str) -> None:
    (finding,) = found_in(Bucket(instead=lambda *_: (302, {"Location": location}, b"")))
    assert (finding.code, finding.level) == ("redirected-away", "error")


@pytest.mark.parametrize("inside", ["127.0.0.2", "169.254.169.254", "::1", "fe80::1"])
def test_a_redirect_inside_the_provider_is_not_followed_to_an_address_that_is_denied(inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever rules a name below the provider's may have it lead anywhere."""
    resolved: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        resolved.append(host)
        return [(0, 0, 0, "", ("127.0.0.1" if host == "oss-cn-hangzhou.aliyuncs.com" else inside, port))]

    monkeypatch.setattr(probe.socket, "getaddrinfo", resolve)
    rules = AddressRules.of(["127.0.0.1/32"], ["127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"])
    bucket = Bucket()
    with serving(bucket) as url:
        port = urlsplit(url).port
        bucket.instead = lambda *_: (307, {"Location": f"http://x.oss-cn-hangzhou.aliyuncs.com:{port}/b/?list-type=2"}, b"")
        origin = Origin(PROVIDERS["aliyun-oss"], "cn-hangzhou", f"http://oss-cn-hangzhou.aliyuncs.com:{port}", "path", "b", "d")
        found = asyncio.run(check(origin, KEYS, rules, read_only=True))
    assert codes(found) == [("address-denied", "error")]
    assert resolved[-1] == "x.oss-cn-hangzhou.aliyuncs.com"
    assert len(bucket.asked) == 1


def test_what_a_server_says_is_cut_and_cannot_move_a_cursor() -> None:
    long = b"<Error><Code>" + b"x" * 1_900_000 + b"</Code></Error>"
    for reply in (
        (418, {}, long),
        (403, {"x-amz-bucket-region": "\x1b[31mred" + "y" * 3000}, b""),
        (301, {}, b"<Error><Endpoint>" + b"z" * 10_000 + b"</Endpoint></Error>"),
        (500, {}, long),
    ):
        (finding,) = found_in(Bucket(instead=lambda *_, reply=reply: reply))
        for text in (finding.cause.en, finding.cause.zh, finding.remedy.en, finding.remedy.zh):
            assert len(text) < 400
            assert text.isprintable()


def test_checks_have_one_context_of_trust() -> None:
    assert probe._trusted() is probe._trusted()


def test_names_are_resolved_by_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that is slow holds up nothing else."""
    asked: list[str] = []
    resolve = socket.getaddrinfo

    def slow(*arguments: Any, **more: Any) -> Any:
        asked.append(threading.current_thread().name)
        return resolve(*arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    assert codes(found_in(Bucket())) == []
    assert asked
    assert all(name.startswith("resolve") for name in asked)


def test_ignored_if_match_is_a_note() -> None:
    def ignores(bucket: Bucket, method: str, target: str, _: bytes) -> Reply | None:
        key = re.sub(r".*/b/", "", unquote(target))
        if method == "GET" and key in bucket.objects and not key.startswith(f"d/{CHECK_NAME}"):
            content = bucket.objects[key]
            return 206, {"ETag": etag(content), "Content-Range": f"bytes 0-0/{len(content)}"}, content[:1]
        return None

    assert codes(found_in(Bucket(instead=ignores))) == [("if-match-ignored", "note")]

"""Whatever is sent is answered with a problem that names field, cause and remedy in both languages; never with a 500."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import time
import unicodedata
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from control.conftest import Place
from headrace.client import ControlFailure
from headrace.control import bodies
from headrace.control.events.service import Subject, record
from headrace.testing.nodes import TOLD


def _ask(place: Place, method: str, path: str, **more: object) -> httpx.Response:
    return place.admin._http.request(method, place.control.url + path, **more)  # type: ignore[arg-type]


@pytest.fixture
def node(common: Place) -> Iterator[dict[str, str]]:
    """What a node says of itself in the common place; it goes with its region."""
    common.admin.create_region({"name": "zj-1"})
    with common.control.client(common.admin.create_join_token("zj-1")["token"]) as joining:
        made = joining.enrol("n1", {}, TOLD)
    yield {"authorization": f"Bearer {made['token']}"}
    common.admin.remove_node(made["id"])
    common.admin.delete_region("zj-1")


@pytest.mark.parametrize("text", ["a%00b", "%00", "%ED%A0%80", "a%0Ab", "x" * 300])
def test_no_path_is_too_odd(common: Place, node: dict[str, str], text: str) -> None:
    for method, path in common.routes():
        if "{" not in path:
            continue
        filled = re.sub(r"\{[^}]*\}", text, path)
        answer = _ask(common, method, filled, headers=node if path.startswith("/v1/node/") else {})
        assert 400 <= answer.status_code < 500, (method, filled, answer.status_code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert len(answer.content) < 5000


@pytest.mark.parametrize(
    "query",
    [
        "/v1/events?noun=%00",
        "/v1/events?object_id=%00",
        "/v1/nodes?region=%00",
        "/v1/accelerations?region=%00",
        "/v1/accelerations?volume=%00",
        "/v1/volumes?name_contains=%00",
    ],
)
def test_no_filter_is_too_odd(common: Place, query: str) -> None:
    answer = _ask(common, "GET", query)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


def test_what_composing_lengthens_is_measured_afterwards(common: Place) -> None:
    with pytest.raises(ControlFailure) as caught:
        common.admin.create_region({"name": "zj-1", "title": "\u0958" * 250})
    assert "255" in caught.value.message


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity", "9" * 400])
def test_health_has_finite_numbers(common: Place, node: dict[str, str], number: str) -> None:
    content = f'{{"version": "1", "health": {{"load": {number}}}}}'
    answer = _ask(common, "POST", "/v1/node/heartbeat", content=content, headers={**node, "Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["fields"][0]["field"].startswith("health")) == (422, True)


def test_health_with_any_text_can_be_shown(common: Place, node: dict[str, str]) -> None:
    content = '{"version": "1", "health": {"disk": "\\ud800\\u0000x", "failed_directories": ["/a\\n"], "ok": true, "n": 1.5}}'
    answer = _ask(common, "POST", "/v1/node/heartbeat", content=content, headers={**node, "Content-Type": "application/json"})
    assert answer.status_code == 200
    health = next(common.admin.nodes())["health"]
    assert health == {"disk": "\\ud800\\x00x", "failed_directories": ["/a\\n"], "ok": True, "n": 1.5}


def test_progress_names_what_no_identifier_is(common: Place, node: dict[str, str]) -> None:
    with common.control.client(node["authorization"].removeprefix("Bearer ")) as client, pytest.raises(ControlFailure) as caught:
        client.progress([], ["\0"])
    assert caught.value.code == "invalid"


def test_a_stranger_is_not_told_what_a_body_should_be(common: Place) -> None:
    with httpx.Client() as stranger:
        for method, path in common.routes():
            for content in (b"{", b'{"name": 1}', b"\xff"):
                url = common.control.url + re.sub(r"\{[^}]*\}", "x", path)
                answer = stranger.request(method, url, content=content, headers={"Content-Type": "application/json"})
                assert (method, path, answer.status_code) == (method, path, 401)


def test_malformed_json_is_told_to_who_may_send_it(common: Place) -> None:
    answer = _ask(common, "POST", "/v1/regions", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert "JSON" in answer.json()["fields"][0]["remedy"]["zh"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x" * 100}, "name"),
        ({"name": ""}, "name"),
        ({"name": "-"}, "name"),
        ({"name": "x", "title": ""}, "title"),
        ({"name": "x", "nonsense": 1}, "nonsense"),
        ({"name": "\u3164"}, "name"),
        ({"name": "a\u200db"}, "name"),
        ({"name": "x", "title": "\u3164\u200b"}, "title"),
        ({"name": "x", "title": "a\u202eb"}, "title"),
    ],
)
def test_causes_and_remedies_are_in_both_languages(common: Place, body: dict[str, object], field: str) -> None:
    answer = _ask(common, "POST", "/v1/regions", json=body).json()
    assert answer["code"] == "invalid"
    assert field in [found["field"] for found in answer["fields"]]
    for found in answer["fields"]:
        for sentence in (found["cause"], found["remedy"]):
            assert any(unicodedata.name(letter, "").startswith("CJK") for letter in sentence["zh"]), found


def test_what_was_sent_is_not_repeated_whole(common: Place) -> None:
    for answer in (
        _ask(common, "POST", "/v1/tokens", json={"name": "x", "subject": "y", "scopes": ["s" * 200_000]}),
        _ask(common, "POST", "/v1/tokens", json={"name": "x", "subject": "y", "scopes": ["\x1b[31m"]}),
        _ask(common, "DELETE", "/v1/tokens/" + "x" * 26),
        _ask(common, "POST", "/v1/regions", json={"name": "x", "f" * 100_000: 1}),
    ):
        assert 400 <= answer.status_code < 500
        assert len(answer.content) < 3000
        assert b"\\u001b" not in answer.content


def test_a_name_is_found_however_it_is_composed(place: Place) -> None:
    place.admin.create_region({"name": "café"})
    assert place.admin.region(unicodedata.normalize("NFD", "café"))["name"] == "café"


def test_a_body_that_comes_slowly_is_not_waited_for(common: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 1.0)
    where = urlsplit(common.control.url)
    with socket.create_connection((where.hostname, where.port), timeout=30) as connection:
        connection.sendall(b"POST /v1/regions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"too-slow"' in answer


def test_a_path_cannot_write_a_line_of_the_log(place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(place.control.plane.database, "reading", None)  # a fault of ours
    answer = _ask(place, "GET", "/v1/regions/a%0aFAKE")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    (told,) = [record.getMessage() for record in caplog.records if record.name == "headrace.control" and "failed" in record.getMessage()]
    assert "GET /v1/regions/a%0aFAKE failed" in told
    assert "\n" not in told


def test_every_route_declares_its_problems(common: Place) -> None:
    document = common.document
    assert "HTTPValidationError" not in str(document)
    for methods in document["paths"].values():
        for operation in methods.values():
            for status in ("401", "403", "404", "409", "412", "413", "422", "428", "503", "507"):
                schema = operation["responses"][status]["content"]["application/problem+json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Problem"}


def test_a_method_that_is_not_there_is_answered_with_those_that_are(place: Place) -> None:
    """RFC 9110 asks for `Allow` with a 405."""
    for path, allowed in (("/v1/regions", "GET, POST"), ("/v1/volumes/qwen", "DELETE, GET, PATCH"), ("/v1/login", "POST")):
        answer = _ask(place, "PUT", path)
        assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "method-not-allowed", allowed)


@pytest.mark.parametrize("limit", ["0", "-1", "501", "9" * 5000, "1e3", "NaN", "", "5.5", "\u0665", "true", "10,20"])
def test_a_page_has_a_bound(place: Place, limit: str) -> None:
    for path in ("regions", "volumes", "nodes", "tokens", "events", "accelerations"):
        answer = _ask(place, "GET", f"/v1/{path}", params={"limit": limit})
        assert (path, answer.status_code, answer.json()["code"]) == (path, 422, "invalid")
        assert answer.json()["fields"][0]["field"] == "limit"
        assert len(answer.content) < 3000


def test_the_largest_page_is_no_larger(place: Place) -> None:
    plane = place.control.plane

    async def many() -> None:
        async with plane.database.writing() as session:
            for number in range(501):
                record(session, plane.clock, Subject("region", "x", f"r{number}", ""), "region-created", "admin")

    asyncio.run_coroutine_threadsafe(many(), place.control.loop).result(30)
    page = _ask(place, "GET", "/v1/events", params={"limit": "500", "noun": "region"}).json()
    assert (len(page["items"]), page["next"] is None) == (500, False)
    rest = _ask(place, "GET", "/v1/events", params={"limit": "500", "noun": "region", "after": page["next"]}).json()
    assert (len(rest["items"]), rest["next"]) == (1, None)


def test_a_body_of_unknown_length_has_the_same_bound(place: Place) -> None:
    def parts() -> Iterator[bytes]:
        while True:
            yield bytes(2**16)

    answer = _ask(place, "POST", "/v1/regions", content=parts())
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_a_body_that_is_just_as_large_as_may_be_is_read(place: Place) -> None:
    for length, status in ((bodies.BODY_MAX, 422), (bodies.BODY_MAX + 1, 413)):
        content = b'{"name": 5}'.ljust(length)
        answer = _ask(place, "POST", "/v1/regions", content=content, headers={"Content-Type": "application/json"})
        assert (length, answer.status_code) == (length, status)


def test_a_body_that_comes_byte_by_byte_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is for the whole: a byte now and then does not begin it anew."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 1.0)
    where = urlsplit(place.control.url)
    with socket.create_connection((where.hostname, where.port), timeout=0.1) as connection:
        connection.sendall(b"POST /v1/regions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        answer, began = b"", time.monotonic()
        while not answer and time.monotonic() - began < 20:
            connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408 ")

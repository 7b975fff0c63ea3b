"""Nothing is answered without a token, and no token does more than it says."""

from __future__ import annotations

import re
from datetime import timedelta

import httpx
import pytest

from control.conftest import Place
from headrace.client import ControlFailure


def _routes(common: Place) -> list[tuple[str, str]]:
    return [(method, re.sub(r"\{[^}]*\}", "x", path)) for method, path in common.routes()]


def test_every_route_is_refused_without_a_token(common: Place) -> None:
    routes = _routes(common)
    assert len(routes) > 10
    with httpx.Client(base_url=common.control.url) as client:
        for method, path in routes:
            for headers in ({}, {"Authorization": "Bearer hr_nonsense"}, {"Authorization": "Basic eDp5"}):
                answer = client.request(method, path, headers=headers)
                assert (method, path, answer.status_code) == (method, path, 401)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == "unauthenticated"


def test_every_route_is_refused_to_a_token_without_its_scope(common: Place) -> None:
    with common.user("alice", "events:read") as alice:
        for method, path in _routes(common):
            if path in ("/v1/events", "/v1/login", "/v1/openapi.json"):
                continue
            answer = alice._http.request(method, path)
            # A body that is missing is told only to who may send one. What nodes ask is no business of people at all.
            expected = 401 if path.startswith("/v1/node/") or path == "/v1/enrol" else 403
            assert (method, path, answer.status_code) == (method, path, expected)


def test_tokens_are_the_administrators(common: Place) -> None:
    with common.user("alice") as alice:
        for refused in (lambda: list(alice.tokens()), lambda: alice.create_token({"name": "x", "subject": "alice", "role": "admin"})):
            with pytest.raises(ControlFailure) as caught:
                refused()
            assert caught.value.code == "forbidden"


def test_a_node_may_do_nothing_that_people_do(place: Place) -> None:
    place.admin.create_region({"name": "zj-1"})
    with place.control.client(place.admin.create_join_token("zj-1")["token"]) as joining:
        made = joining.enrol("n1", {}, {"version": "1"})
    with place.control.client(made["token"]) as node:
        for method, path in _routes(place):
            if path.startswith("/v1/node/"):
                continue
            assert (method, path, node._http.request(method, path).status_code) == (method, path, 401)


def test_the_first_token_works_once(place: Place) -> None:
    assert place.control.first_token is not None
    with place.control.client(place.control.first_token) as first:
        for refused in (first.login, lambda: list(first.volumes())):
            with pytest.raises(ControlFailure) as caught:
                refused()
            assert caught.value.code == "unauthenticated"


def test_a_token_ends_by_time_and_by_revocation(place: Place) -> None:
    with place.user("alice", lasts_seconds=60) as alice, place.user("bob") as bob:
        assert list(alice.volumes()) == []
        place.control.clock.advance(timedelta(seconds=61))
        with pytest.raises(ControlFailure) as caught:
            list(alice.volumes())
        assert caught.value.code == "unauthenticated"
        assert list(bob.volumes()) == []
        bobs = next(token for token in place.admin.tokens() if token["subject"] == "bob")
        place.admin.revoke_token(bobs["id"])
        with pytest.raises(ControlFailure):
            list(bob.volumes())


def test_a_body_has_a_bound(common: Place) -> None:
    headers = dict(common.admin._http.headers)
    answer = httpx.post(f"{common.control.url}/v1/volumes", headers=headers, content=b'"' + b"x" * (2 << 20) + b'"')
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")

"""Volumes: registered after a real check, seen by who may, edited by revision, never shown with their secrets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from control.conftest import Origins, Place
from headrace.client import ControlFailure
from headrace.control.volumes.check import CHECK_NAME
from headrace.testing.control import control_plane

SECRET = "plantedsecretplantedsecret"


@pytest.fixture
def place(common: Place) -> Iterator[Place]:
    """The common one: it has no volume, and what a test registers goes at its end."""
    yield common
    for volume in list(common.admin.volumes()):
        common.admin.delete_volume(volume["name"])


def _events(place: Place) -> list[str]:
    """Kinds of what happened to volumes, oldest first."""
    return [event["kind"] for event in place.admin.events(noun="volume")][::-1]


def test_a_volume_is_checked_stored_and_forgotten(place: Place, origins: Origins) -> None:
    before = _events(place)
    made = place.admin.create_volume(origins.volume("qwen"))
    assert made["bucket"] == origins.bucket
    assert made["findings"] == [] or {finding["level"] for finding in made["findings"]} <= {"note", "warning"}
    assert place.admin.volume("qwen") == made
    assert [volume["name"] for volume in place.admin.volumes()] == ["qwen"]
    place.admin.delete_volume("qwen")
    assert list(place.admin.volumes()) == []
    assert _events(place) == [*before, "volume-created", "volume-deleted"]


def test_what_a_check_writes_is_gone_afterwards(place: Place, origins: Origins) -> None:
    place.admin.create_volume(origins.volume("qwen"))
    listed = origins.access.client().list_objects_v2(Bucket=origins.bucket)
    keys = [entry["Key"] for entry in listed["Contents"]]
    assert keys == ["qwen/config.json", "qwen/model.safetensors"]
    assert not any(CHECK_NAME in key for key in keys)


def test_an_empty_directory_is_a_warning(place: Place, origins: Origins) -> None:
    made = place.admin.create_volume(origins.volume("later", directory="not/yet"))
    assert [(finding["field"], finding["code"], finding["level"]) for finding in made["findings"] if finding["level"] == "warning"] == [
        ("directory", "empty-directory", "warning")
    ]


def test_read_only_is_noted_and_nothing_is_written(place: Place, origins: Origins) -> None:
    made = place.admin.create_volume(origins.volume("ro", read_only=True))
    assert "read-only" in [finding["code"] for finding in made["findings"]]
    assert made["read_only"] is True


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"credentials": {"access_key": "nobody", "secret_key": SECRET}}, "check-failed", "access_key"),
        ({"bucket": "no-such-bucket"}, "check-failed", "bucket"),
        ({"endpoint": "http://127.0.0.1:9"}, "check-failed", "endpoint"),
        ({"endpoint": "http://no-such-host.invalid"}, "check-failed", "endpoint"),
        ({"endpoint": "http://169.254.169.254"}, "check-failed", "endpoint"),
        ({"endpoint": "http://[::ffff:169.254.169.254]"}, "check-failed", "endpoint"),
        ({"endpoint": "https://user:pass@example.com"}, "invalid", "endpoint"),
        ({"endpoint": "ftp://example.com"}, "invalid", "endpoint"),
        ({"endpoint": "https://example.com/path"}, "invalid", "endpoint"),
        ({"endpoint": "http://2852039166"}, "invalid", "endpoint"),
        ({"endpoint": ""}, "invalid", "endpoint"),
        ({"directory": ""}, "invalid", "directory"),
        ({"directory": "a/../b"}, "invalid", "directory"),
        ({"bucket": "s3://x"}, "invalid", "bucket"),
        ({"provider": "aliyun-oss", "endpoint": "", "region": ""}, "invalid", "region"),
        ({"provider": "aliyun-oss", "endpoint": "oss-cn-beijing.aliyuncs.com", "region": "cn-hangzhou"}, "invalid", "region"),
        ({"provider": "tencent-cos", "endpoint": "https://example.com", "region": "ap-guangzhou"}, "invalid", "endpoint"),
        ({"name": "a@b"}, "invalid", "name"),
        ({"name": "-x"}, "invalid", "name"),
        ({"credentials": {}}, "invalid", "credentials"),
        ({"credentials": {"anonymous": True, "access_key": "x"}}, "invalid", "credentials"),
        ({"nonsense": 1}, "invalid", "nonsense"),
    ],
)
def test_bad_input_names_the_field_and_stores_nothing(place: Place, origins: Origins, changes: dict[str, object], code: str, field: str) -> None:
    before = _events(place)
    with pytest.raises(ControlFailure) as caught:
        place.admin.create_volume(origins.volume("qwen", **changes))
    problem = caught.value.problem
    assert (problem["code"], field in [found["field"] for found in problem["fields"]]) == (code, True), problem
    for found in problem["fields"]:
        assert found["cause"]["en"]
        assert found["cause"]["zh"]
        assert found["remedy"]["en"]
        assert found["remedy"]["zh"]
    assert SECRET not in str(problem)
    assert "pass" not in problem["detail"]
    assert list(place.admin.volumes()) == []
    assert _events(place) == before


def test_the_root_needs_a_confirmation(place: Place, origins: Origins) -> None:
    made = place.admin.create_volume(origins.volume("whole", directory="/", confirm_root=True))
    assert made["directory"] == ""


def test_a_name_is_taken_once(place: Place, origins: Origins) -> None:
    place.admin.create_volume(origins.volume("模型-1"))
    with pytest.raises(ControlFailure) as caught:
        place.admin.create_volume(origins.volume("模型-1"))
    assert caught.value.code == "name-taken"


def test_users_see_their_own(place: Place, origins: Origins) -> None:
    with place.user("alice") as alice, place.user("bob") as bob:
        alice.create_volume(origins.volume("hers"))
        assert [volume["owner"] for volume in alice.volumes()] == ["alice"]
        assert list(bob.volumes()) == []
        assert [volume["name"] for volume in place.admin.volumes()] == ["hers"]
        for refused in (
            lambda: bob.volume("hers"),
            lambda: bob.check_volume("hers"),
            lambda: bob.edit_volume("hers", {"requests": 1}, "*"),
            lambda: bob.rotate_credentials("hers", {"anonymous": True}),
            lambda: bob.delete_volume("hers"),
        ):
            with pytest.raises(ControlFailure) as caught:
                refused()
            assert caught.value.code == "not-found"
        assert list(bob.events(noun="volume")) == []


def test_an_edit_is_checked_and_says_its_revision(place: Place, origins: Origins) -> None:
    made = place.admin.create_volume(origins.volume("qwen"))
    edited = place.admin.edit_volume("qwen", {"requests": 100}, made["etag"])
    assert (edited["requests"], edited["directory"], edited["revision"]) == (100, "qwen", 2)
    with pytest.raises(ControlFailure) as stale:
        place.admin.edit_volume("qwen", {"requests": 5}, made["etag"])
    assert stale.value.code == "revision-changed"
    with pytest.raises(ControlFailure) as wrong:
        place.admin.edit_volume("qwen", {"bucket": "no-such-bucket"}, edited["etag"])
    assert wrong.value.code == "check-failed"
    assert place.admin.volume("qwen") == edited


def test_credentials_are_rotated_after_a_check(place: Place, origins: Origins) -> None:
    place.admin.create_volume(origins.volume("qwen"))
    with pytest.raises(ControlFailure) as wrong:
        place.admin.rotate_credentials("qwen", {"access_key": "nobody", "secret_key": SECRET})
    assert wrong.value.code == "check-failed"
    assert place.admin.check_volume("qwen")["passed"] is True
    good = {"access_key": origins.access.access_key, "secret_key": origins.access.secret_key}
    assert place.admin.rotate_credentials("qwen", good)["revision"] == 2


def test_a_creation_that_is_sent_again_is_done_once(place: Place, origins: Origins) -> None:
    before, key = _events(place), f"key-{origins.bucket}"
    first = place.admin.create_volume(origins.volume("qwen"), key)
    assert place.admin.create_volume(origins.volume("qwen"), key) == first
    with pytest.raises(ControlFailure) as other:
        place.admin.create_volume(origins.volume("other"), key)
    assert other.value.code == "idempotency-mismatch"
    assert _events(place) == [*before, "volume-created"]


def test_pages_neither_repeat_nor_leave_out(place: Place, origins: Origins) -> None:
    for number in range(5):
        place.admin.create_volume(origins.volume(f"v{number}", read_only=True))
    seen, after = [], {}
    while True:
        page = place.admin._document("GET", "/v1/volumes", params={"limit": "2", **after})
        seen += [volume["name"] for volume in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert seen == ["v0", "v1", "v2", "v3", "v4"]
    with pytest.raises(ControlFailure) as caught:
        place.admin._document("GET", "/v1/volumes", params={"after": "\u00ff"})
    assert caught.value.code == "invalid"


def test_chinese_is_answered_to_who_asks_for_it(place: Place, origins: Origins) -> None:
    with (
        place.user("alice") as alice,
        place.control.client(alice._http.headers["authorization"].removeprefix("Bearer "), language="zh-CN") as chinese,
    ):
        with pytest.raises(ControlFailure) as caught:
            chinese.create_volume(origins.volume("qwen", directory=""))
        assert "将加速整个存储桶" in caught.value.message


def test_kept_keys_go_to_no_other_server(place: Place, origins: Origins) -> None:
    """Whoever may edit, and not see, must not learn them by naming a server of their own."""
    made = place.admin.create_volume(origins.volume("qwen"))
    asked: list[dict[str, str]] = []

    class Thief(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append({name.lower(): value for name, value in self.headers.items()})
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Thief)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        there = f"http://127.0.0.1:{server.server_port}"
        for changes in (
            {"endpoint": there},
            {"addressing": "virtual", "endpoint": there},
            {"provider": "aws-s3", "region": "eu-central-1", "endpoint": ""},
        ):
            with pytest.raises(ControlFailure) as caught:
                place.admin.edit_volume("qwen", changes, made["etag"])
            assert [finding["field"] for finding in caught.value.problem["fields"]] == ["credentials"]
        assert asked == []
        with pytest.raises(ControlFailure) as mine:
            place.admin.edit_volume("qwen", {"endpoint": there, "credentials": {"access_key": "mine", "secret_key": SECRET}}, made["etag"])
        assert mine.value.code == "check-failed"
        assert "mine" in asked[0]["authorization"]
    finally:
        server.shutdown()
        server.server_close()
    same = {"endpoint": origins.access.endpoint, "credentials": {"access_key": origins.access.access_key, "secret_key": origins.access.secret_key}}
    assert place.admin.edit_volume("qwen", same, made["etag"])["revision"] == 2


def test_an_edit_keeps_what_was_said_of_addressing(place: Place, origins: Origins) -> None:
    made = place.admin.create_volume(origins.volume("qwen"))
    assert (made["addressing"], made["addressing_used"]) == ("auto", "path")
    edited = place.admin.edit_volume("qwen", {"read_only": True}, made["etag"])
    assert (edited["addressing"], edited["addressing_used"], edited["read_only"]) == ("auto", "path", True)
    assert place.admin.edit_volume("qwen", {"addressing": "path"}, edited["etag"])["addressing"] == "path"


def test_an_etag_is_of_one_volume_only(place: Place, origins: Origins) -> None:
    first = place.admin.create_volume(origins.volume("qwen"))
    place.admin.delete_volume("qwen")
    second = place.admin.create_volume(origins.volume("qwen"))
    headers = dict(place.admin._http.headers)
    url = f"{place.control.url}/v1/volumes/qwen"

    def edit(tag: str) -> int:
        return httpx.patch(url, json={"requests": 1}, headers={**headers, "If-Match": tag}, timeout=60).status_code

    assert [edit(tag) for tag in (first["etag"], f"W/{second['etag']}", '"x"', "nonsense", f'"x", {first["etag"]}')] == [412] * 5
    assert httpx.delete(url, headers={**headers, "If-Match": first["etag"]}).status_code == 412
    assert httpx.get(url, headers=headers).headers["etag"] == second["etag"]
    assert edit(f'"x" , {second["etag"]}') == 200
    assert edit("*") == 200
    assert httpx.delete(url, headers={**headers, "If-Match": "*"}).status_code == 204


def test_a_name_that_is_taken_is_told_before_anything_is_tried(place: Place, origins: Origins) -> None:
    place.admin.create_volume(origins.volume("qwen"))
    with place.user("alice") as alice, pytest.raises(ControlFailure) as caught:
        alice.create_volume(origins.volume("qwen", bucket="no-such-bucket"))
    assert (caught.value.code, "admin" in caught.value.message) == ("name-taken", False)


def test_this_machine_is_an_origin_only_where_it_is_allowed(origins: Origins, tmp_path: Path) -> None:
    with control_plane(tmp_path / "state", origins_allow="") as control:
        assert control.first_token
        with control.client(control.first_token) as first, control.client(first.login()["token"]) as admin:
            with pytest.raises(ControlFailure) as caught:
                admin.create_volume(origins.volume("qwen"))
            (finding,) = caught.value.problem["fields"]
            assert (finding["code"], "control_origins_allow" in finding["remedy"]["zh"]) == ("address-denied", True)

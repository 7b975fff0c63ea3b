"""The way to the bucket, as AWS tools take it: HTTPS with a private authority, proxies, profiles."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.testing.access import Access
from headrace.testing.content import content
from headrace.testing.faults import Fault
from headrace.testing.origin import failing_origin
from headrace.testing.store import Body
from support.bucket import Bucket
from support.headrace import COMMAND, Headrace, wait_until
from support.relay import address, denying_front, https_front, tunnelling_proxy

MIB = 1 << 20


def test_https_with_a_private_authority(headrace: Headrace, bucket: Bucket, server: Access, tmp_path: Path) -> None:
    data = bucket.put("m/a", 3 * MIB)
    with https_front(address(server.endpoint), tmp_path) as (endpoint, authority):
        headrace.environment["AWS_ENDPOINT_URL"] = endpoint
        done = headrace.run("mount", bucket.uri("m"), str(tmp_path / "no"), check=False)
        assert done.returncode == 5
        assert "AWS_CA_BUNDLE" in done.stderr
        headrace.environment["AWS_CA_BUNDLE"] = str(authority)
        assert (headrace.mount(bucket.uri("m")) / "a").read_bytes() == data


def test_a_handshake_that_breaks_is_tried_again(headrace: Headrace, bucket: Bucket, server: Access, tmp_path: Path) -> None:
    data = bucket.put("m/a", MIB)
    with https_front(address(server.endpoint), tmp_path, breaks=2) as (endpoint, authority):
        headrace.environment |= {"AWS_ENDPOINT_URL": endpoint, "AWS_CA_BUNDLE": str(authority)}
        assert (headrace.mount(bucket.uri("m")) / "a").read_bytes() == data


def test_https_through_a_proxy(headrace: Headrace, bucket: Bucket, server: Access, tmp_path: Path) -> None:
    data = bucket.put("m/a", MIB)
    seen: list[str] = []
    with https_front(address(server.endpoint), tmp_path) as (endpoint, authority), tunnelling_proxy(seen) as proxy:
        headrace.environment |= {"AWS_ENDPOINT_URL": endpoint, "AWS_CA_BUNDLE": str(authority), "HTTPS_PROXY": proxy, "NO_PROXY": ""}
        assert (headrace.mount(bucket.uri("m")) / "a").read_bytes() == data
        assert set(seen) == {endpoint.removeprefix("https://")}
        count = len(seen)
        headrace.environment["NO_PROXY"] = "localhost"
        assert (headrace.mount(bucket.uri("m"), "direct") / "a").read_bytes() == data
        assert len(seen) == count


def test_a_proxy_that_is_not_there(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", 1)
    headrace.environment |= {"AWS_ENDPOINT_URL": "https://localhost:1", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
    done = headrace.run("mount", bucket.uri("m"), str(headrace.base / "mnt"), check=False)
    assert done.returncode == 5
    assert "HTTPS_PROXY" in done.stderr


def test_a_profile_with_the_shared_files(headrace: Headrace, bucket: Bucket, server: Access, tmp_path: Path) -> None:
    data = bucket.put("m/a", MIB)
    (tmp_path / "config").write_text(f"[profile models]\nregion = {server.region}\nendpoint_url = {server.endpoint}\n")
    (tmp_path / "credentials").write_text(f"[models]\naws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        del headrace.environment[name]
    headrace.environment |= {
        "AWS_PROFILE": "models",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }
    assert (headrace.mount(bucket.uri("m")) / "a").read_bytes() == data
    headrace.environment["AWS_PROFILE"] = "missing"
    done = headrace.run("mount", bucket.uri("m"), str(tmp_path / "no"), check=False)
    assert done.returncode == 4
    assert "missing" in done.stderr


def test_a_ceiling_for_an_origin(headrace: Headrace) -> None:
    """Two MiB a second let eight MiB through in no less than three: a burst of one second is allowed."""
    with failing_origin("models") as origin:
        origin.bucket("models").put("m/a", Body(8 * MIB, seed=1))
        headrace.environment |= {**origin.access.environment(), "HEADRACE_ORIGIN_BANDWIDTH": "2Mi"}
        path = headrace.mount("s3://models/m") / "a"
        began = time.monotonic()
        assert path.read_bytes() == content(1, 0, 8 * MIB)
        assert time.monotonic() - began >= 2.5


BY_THE_SDK = [sys.executable, "-c", "import headrace, sys; headrace.Volume(sys.argv[1])"]


@pytest.mark.parametrize("lists", ["mount", "the SDK"])
def test_one_slow_listing_keeps_no_other_command_waiting(headrace: Headrace, bucket: Bucket, lists: str) -> None:
    data = bucket.put("m/a", 1000)
    other = headrace.mount(bucket.uri("m"), "other")
    command = [COMMAND, "mount", "s3://models/m", str(headrace.base / "slow")] if lists == "mount" else [*BY_THE_SDK, "s3://models/m"]
    with failing_origin("models") as origin:
        origin.bucket("models").put("m/a", b"1")
        origin.faults.always(Fault.SLOW_DOWN, on="list")
        slow = subprocess.Popen(
            command,
            env={**headrace.environment, **origin.access.environment()}, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until("the listing", lambda: origin.counters.requests["list"] > 0)
        assert (headrace.mount(bucket.uri("m"), "quick") / "a").read_bytes() == data
        headrace.run("umount", str(other))
        assert slow.poll() is None
        slow.terminate()
        slow.wait(20)


def test_an_object_that_may_not_be_read(headrace: Headrace, bucket: Bucket, server: Access) -> None:
    data = bucket.put("m/mine", MIB)
    bucket.put("m/theirs", MIB)
    with denying_front(address(server.endpoint), "m/theirs") as endpoint:
        directory = headrace.mount(bucket.uri("m"), "mnt", "--endpoint", endpoint)
        assert (directory / "mine").read_bytes() == data
        with pytest.raises(PermissionError):
            (directory / "theirs").read_bytes()
        told = [event["message"] for event in headrace.status()["events"]]
        assert any("m/theirs" in message and "s3:GetObject" in message for message in told), told

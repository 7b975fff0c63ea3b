"""Each mistake gets one message that names the field, the cause and the remedy; nothing is left behind."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest

from support.bucket import Bucket
from support.headrace import Headrace


@pytest.mark.parametrize(
    ("change", "source", "options", "code", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "wrong"}, None, [], 4, ["access key", "AWS_ACCESS_KEY_ID"]),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, None, [], 4, ["secret key", "AWS_SECRET_ACCESS_KEY"]),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, None, [], 5, ["endpoint", "AWS_ENDPOINT_URL"]),
        ({"AWS_ENDPOINT_URL": "notaurl"}, None, [], 2, ["endpoint", "'notaurl'", "AWS_ENDPOINT_URL"]),
        ({}, "s3://no-such-bucket-here/m", [], 5, ["bucket", "no-such-bucket-here"]),
        ({}, "NAME/nothing-here", [], 3, ["prefix", "nothing"]),
        ({}, "NAME/m/a", [], 3, ["is an object", "/m"]),
        ({}, "NAME/\udcff", [], 2, ["s3://BUCKET"]),
        ({}, "http://x/y", [], 2, ["s3://BUCKET"]),
        ({}, None, ["--snapshot", "v9"], 3, ["snapshot", "v9"]),
        ({"HEADRACE_CACHE_SIZE": "1Mi"}, None, [], 2, ["cache size", "16Mi"]),
        ({"HEADRACE_CACHE_SIZE": "much"}, None, [], 2, ["cache size", "much"]),
    ],
)
def test_one_message(
    headrace: Headrace, bucket: Bucket, change: dict[str, str], source: str | None, options: list[str], code: int, words: list[str]
) -> None:
    bucket.put("m/a", b"1")
    headrace.environment.update(change, HEADRACE_DEADLINE="3")
    where = (source or "NAME/m").replace("NAME", bucket.uri())
    target = headrace.base / "mnt"
    done = headrace.run("mount", where, str(target), *options, check=False)
    assert done.returncode == code, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not target.exists()
    assert "wrong" not in done.stderr


class Page(http.server.BaseHTTPRequestHandler):
    """A web server that is no S3."""

    def do_GET(self) -> None:
        body = b"<!DOCTYPE html><html><body>It works!</body></html>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_a_web_server_that_is_no_s3_is_named(headrace: Headrace) -> None:
    """The message was that some XML has a document type."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        headrace.environment["AWS_ENDPOINT_URL"] = endpoint
        done = headrace.run("mount", "s3://models/m", str(headrace.base / "mnt"), check=False)
        doctor = headrace.run("doctor", "s3://models/m", check=False)
        server.shutdown()
    assert done.returncode == 5, done.stderr
    assert f"endpoint: what answers at {endpoint} does not speak S3" in done.stderr
    assert "AWS_ENDPOINT_URL" in done.stderr
    assert "does not speak S3" in doctor.stdout


def test_a_mount_point_that_can_not_be_made(headrace: Headrace, bucket: Bucket) -> None:
    """It ended with a traceback."""
    bucket.put("m/a", b"1")
    done = headrace.run("mount", bucket.uri("m"), "/proc/foo/bar", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: directory: /proc/foo/bar can't be made: "), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_failed_mount_leaves_none_of_the_directories_that_it_made(headrace: Headrace, bucket: Bucket) -> None:
    """Those above the mount point were left."""
    (headrace.base / "there").mkdir()
    done = headrace.run("mount", bucket.uri("nothing"), str(headrace.base / "there/deep/a/b"), check=False)
    assert done.returncode == 3, done.stderr
    assert list((headrace.base / "there").iterdir()) == []


def test_a_directory_in_use(headrace: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", b"1")
    full = headrace.base / "full"
    full.mkdir()
    (full / "mine").write_text("x")
    done = headrace.run("mount", bucket.uri("m"), str(full), check=False)
    assert (done.returncode, "not empty" in done.stderr) == (1, True)
    directory = headrace.mount(bucket.uri("m"))
    done = headrace.run("mount", bucket.uri("m"), str(directory), check=False)
    assert (done.returncode, "already mounted" in done.stderr) == (1, True)
    with (directory / "a").open():
        done = headrace.run("umount", str(directory), check=False)
    assert done.returncode == 6
    assert "pytest" in done.stderr or "python" in done.stderr
    assert (Path(directory) / "a").read_text() == "1"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"endpoint": 1}', b"\xff"], ids=["empty", "a list", "incomplete", "no text"])
def test_a_volume_json_that_is_none(headrace: Headrace, bucket: Bucket, content: bytes) -> None:
    """It was told as "the node failed: JSONDecodeError"."""
    data = bucket.put("m/a", b"1")
    headrace.run("umount", str(headrace.mount(bucket.uri("m"))))
    (about,) = headrace.base.glob("cache/snapshots/*/volume.json")
    about.write_bytes(content)
    for options in ([], ["--snapshot", "current"]):
        done = headrace.run("mount", bucket.uri("m"), str(headrace.base / "mnt"), *options, check=False)
        assert done.returncode == 7, done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert all(words in done.stderr for words in ("snapshots: ", str(about), "can't be read", f"move {about.parent} away"))
    about.parent.rename(headrace.base / "away")
    assert (headrace.mount(bucket.uri("m")) / "a").read_bytes() == data

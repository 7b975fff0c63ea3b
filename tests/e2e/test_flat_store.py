"""What only a store with flat keys holds: names that can't be paths, versions, archive classes, stored encodings.

The server is `headrace.testing.origin`, which keeps keys as S3 does; SeaweedFS keeps them as directories.
"""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headrace.testing.content import content
from headrace.testing.origin import Origin, failing_origin
from headrace.testing.store import Body
from support.headrace import Headrace, beside, wait_until

MIB = 1 << 20
SIZE = 40 * MIB + 17

PATHS = [
    "plain", "a", "a-b", "a!", "d/a", "d/a-b/x", "d/e/f/g", "b c", " ", "b+c", "b%20c", "%2e%2e", "q?x=1&y", "h#h", "é", "中文/模型.bin", "~t", "...",
    "..a", "a..", "-rf", "t\tt", "n\nn", "\x01\x1f\x7f", "&<>\"'", "back\\slash", "l" * 255, "ü" * 127, "\U0001f600", "\uffee", "dir/" * 100 + "deep",
]  # fmt: skip
SKIPPED = {
    "/lead": "empty", "//": "empty", "a//b": "empty", "d//": "empty", "../up": ". or ..", "..": ". or ..", ".": ". or ..", "d/../../up": ". or ..",
    "d/./x": ". or ..", "nul\0byte": "NUL", "l" * 256: "255", "ü" * 128: "255", "d/e": "a directory", "d": "a directory",
}  # fmt: skip


@pytest.fixture
def origin() -> Iterator[Origin]:
    with failing_origin("models") as running:
        yield running


@pytest.fixture
def headrace(tmp_path: Path, origin: Origin) -> Iterator[Headrace]:
    with beside(tmp_path, origin) as own:
        yield own


def walked(root: Path) -> tuple[set[str], set[str]]:
    """Files and directories below a directory, as paths from there."""
    files, directories = set(), set()
    for here, below, names in os.walk(root):
        relative = os.path.relpath(here, root)
        files |= {os.path.normpath(os.path.join(relative, name)) for name in names}
        directories |= {os.path.normpath(os.path.join(relative, name)) for name in below}
    return files, directories


@pytest.mark.parametrize("prefix", ["", "m/"])
def test_every_key_is_a_path_or_skipped_by_rule(headrace: Headrace, origin: Origin, prefix: str) -> None:
    bucket = origin.bucket("models")
    for key in [*PATHS, *SKIPPED]:
        bucket.put(prefix + key, key.encode())
    if prefix:
        bucket.put("m2/neighbour", b"not below m")
        bucket.put("m", b"an object beside the prefix")
    root = headrace.mount(f"s3://models/{prefix}")
    files, directories = walked(root)
    assert files == set(PATHS)
    assert directories == {str(parent) for path in PATHS for parent in Path(path).parents} - {"."}
    for path in PATHS:
        assert (root / path).read_bytes() == path.encode()
        assert os.stat(root / path).st_size == len(path.encode())
    # Nothing is there under a name that was skipped, and nothing above the mount.
    assert (root / "d/e").is_dir()
    assert not (headrace.base / "up").exists()
    for name in ("up", "lead", "nul", "l" * 255 + "/x"):
        with pytest.raises(OSError, match=r"."):
            os.stat(root / name)
    mounted = headrace.status()["mounts"][0]
    assert (mounted["files"], mounted["skipped"]) == (len(PATHS), len(SKIPPED))
    reasons = {key.removeprefix(prefix): reason for key, reason in mounted["skipped_keys"]}
    assert set(reasons) == set(SKIPPED)
    assert all(word in reasons[key] for key, word in SKIPPED.items()), reasons
    shown = headrace.run("status").stdout
    assert "../up" in shown
    assert "\0" not in shown


def test_markers_are_directories_also_empty_ones(headrace: Headrace, origin: Origin) -> None:
    bucket = origin.bucket("models")
    for key, data in {
        "m/": b"",
        "m/empty/": b"",
        "m/a/b/c/": b"",
        "m/full/": b"",
        "m/full/x": b"x",
        "m/bytes/": b"ignored",
        "m/beside": b"1",
    }.items():
        bucket.put(key, data, modified=1_700_000_000)
    bucket.put("m/beside/", b"")
    root = headrace.mount("s3://models/m")
    assert walked(root) == ({"full/x"}, {"empty", "a", "a/b", "a/b/c", "full", "bytes", "beside"})
    assert os.stat(root / "empty").st_mtime == 1_700_000_000
    assert headrace.status()["mounts"][0]["skipped_keys"] == [["m/beside", "a directory has the same path"]]


def test_old_versions_stay_readable_where_the_bucket_keeps_them(headrace: Headrace, origin: Origin) -> None:
    bucket = origin.bucket("models")
    bucket.versioning = "Enabled"
    for key in ("m/before", "m/replaced", "m/deleted", "m/same"):
        bucket.put(key, Body(SIZE, seed=1))
    root = headrace.mount("s3://models/m")
    with (root / "replaced").open("rb", buffering=0) as open_before:
        assert open_before.read(10) == content(1, 0, 10)
        bucket.put("m/replaced", Body(SIZE + 5, seed=2))
        bucket.delete("m/deleted")
        for path in ("replaced", "deleted", "same"):
            assert (root / path).read_bytes() == content(1, 0, SIZE)
        headrace.run("cache", "evict", "--all")
        headrace.run("refresh", str(root))
        assert (root / "replaced").read_bytes() == content(2, 0, SIZE + 5)
        assert not (root / "deleted").exists()
        assert os.pread(open_before.fileno(), 10, SIZE - 10) == content(1, SIZE - 10, 10)
    headrace.run("rollback", str(root), "v1")
    headrace.run("cache", "evict", "--all")
    assert (root / "replaced").read_bytes() == content(1, 0, SIZE)
    assert (root / "deleted").read_bytes() == content(1, 0, SIZE)
    assert headrace.counters()["replaced_objects_total"] == 0


@pytest.mark.parametrize("gone", ["replaced", "deleted"])
def test_without_versions_what_is_held_stays_and_the_rest_says_why(headrace: Headrace, origin: Origin, gone: str) -> None:
    bucket = origin.bucket("models")
    bucket.put("m/big", Body(SIZE, seed=1))
    bucket.put("m/other", b"other")
    root = headrace.mount("s3://models/m")
    with (root / "big").open("rb", buffering=0) as file:
        assert os.pread(file.fileno(), 4096, 0) == content(1, 0, 4096)
        wait_until("quiet", lambda: headrace.counters()["flights_queued"] == 0)
        if gone == "replaced":
            bucket.put("m/big", Body(SIZE, seed=2))
        else:
            bucket.delete("m/big")
        with pytest.raises(OSError, match=r".") as caught:
            os.pread(file.fileno(), 4096, SIZE - 4096)
        assert caught.value.errno in (errno.ESTALE, errno.EIO)
        code = "import mmap, sys; f = open(sys.argv[1], 'rb'); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[-1]"
        done = subprocess.run([sys.executable, "-c", code, str(root / "big")], check=False, timeout=60)
        assert done.returncode == -7  # SIGBUS
        assert os.pread(file.fileno(), 4096, 0) == content(1, 0, 4096)
    events = [event for event in headrace.status()["events"] if event["object"] == "m/big"]
    assert any("headrace refresh" in event["message"] for event in events), events
    if gone == "replaced":
        assert [event["kind"] for event in events] == ["replaced"]
        assert headrace.counters()["replaced_objects_total"] == 1
    assert (root / "other").read_bytes() == b"other"
    headrace.run("refresh", str(root))
    if gone == "replaced":
        assert (root / "big").read_bytes() == content(2, 0, SIZE)
    else:
        assert os.listdir(root) == ["other"]


def test_archived_objects_are_listed_and_refused_at_open(headrace: Headrace, origin: Origin) -> None:
    bucket = origin.bucket("models")
    for storage_class in ("GLACIER", "DEEP_ARCHIVE"):
        bucket.put(f"m/{storage_class}", b"frozen", storage_class=storage_class)
    bucket.put("m/STANDARD_IA", b"warm", storage_class="STANDARD_IA")
    root = headrace.mount("s3://models/m")
    assert {path.name: path.stat().st_size for path in root.iterdir()} == {"GLACIER": 6, "DEEP_ARCHIVE": 6, "STANDARD_IA": 4}
    assert (root / "STANDARD_IA").read_bytes() == b"warm"
    for name in ("GLACIER", "DEEP_ARCHIVE"):
        with pytest.raises(OSError, match="Input/output error"):
            (root / name).open("rb")
    event = next(event for event in headrace.status()["events"] if event["kind"] == "archived")
    assert event["object"] in ("m/GLACIER", "m/DEEP_ARCHIVE")
    assert "restore it in the bucket" in event["message"]
    done = headrace.run("warm", str(root), check=False)
    assert done.returncode == 1
    assert "archive storage class" in done.stderr
    assert origin.counters.requests["range"] == 1
    bucket.put("m/GLACIER", b"thawed")
    headrace.run("refresh", str(root))
    assert (root / "GLACIER").read_bytes() == b"thawed"


def test_a_stored_encoding_is_not_undone(headrace: Headrace, origin: Origin) -> None:
    packed = gzip.compress(content(1, 0, 100_000))
    origin.bucket("models").put("m/x.gz", packed, content_encoding="gzip")
    root = headrace.mount("s3://models/m")
    assert (root / "x.gz").stat().st_size == len(packed)
    assert (root / "x.gz").read_bytes() == packed


def test_a_directory_that_is_held_never_shows_two_versions(headrace: Headrace, origin: Origin) -> None:
    """Two files that belong together are replaced together, again and again, under readers that open a directory and then both."""
    models = origin.bucket("models")
    models.versioning = "Enabled"

    def publish(number: int) -> None:
        for name in ("config", "weights"):
            models.put(f"m/qwen/{name}", content(number, 0, 40_000))

    publish(0)
    mount = headrace.mount("s3://models/m")
    stop = threading.Event()
    seen: set[bytes] = set()

    def read(name: str, at: int) -> bytes:
        with open(os.open(name, os.O_RDONLY, dir_fd=at), "rb") as file:
            return file.read()

    def look() -> None:
        while not stop.is_set():
            held = os.open(mount / "qwen", os.O_RDONLY | os.O_DIRECTORY)
            config, weights = read("config", held), read("weights", held)
            os.close(held)
            assert config == weights
            seen.add(config)

    with ThreadPoolExecutor(4) as pool:
        looking = [pool.submit(look) for _ in range(4)]
        try:
            for number in range(1, 9):
                publish(number)
                headrace.run("refresh", str(mount))
                wait_until("somebody has seen it", lambda number=number: content(number, 0, 40_000) in seen or any(f.done() for f in looking))
        finally:
            stop.set()
        for each in looking:
            each.result()
    assert seen <= {content(number, 0, 40_000) for number in range(9)}

"""What a volume tells of its files, and what it says when there is none."""

from __future__ import annotations

import errno

import pytest

import headrace as sdk
from support.bucket import Bucket
from support.headrace import Headrace


def test_entries_as_the_bucket_has_them(here: Headrace, bucket: Bucket) -> None:
    for key in ("m/a", "m/sub/ü name.txt", "m/sub/deep/c", "m2/not-mine"):
        bucket.put(key, key.encode())
    with sdk.Volume(bucket.uri("m")) as volume:
        assert [e.path for e in volume.list()] == ["a", "sub"]
        assert [e.path for e in volume.list("/sub/")] == ["sub/deep", "sub/ü name.txt"]
        assert [e.path for e in volume.list(recursive=True)] == ["a", "sub", "sub/deep", "sub/deep/c", "sub/ü name.txt"]
        entry = volume.stat("sub/deep/c")
        head = bucket.client.head_object(Bucket=bucket.name, Key="m/sub/deep/c")
        assert (entry.name, entry.is_file, entry.size, entry.etag) == ("c", True, 12, head["ETag"])
        assert entry.modified.replace(microsecond=0) == head["LastModified"]
        assert (volume.stat("").is_dir, volume.exists("sub"), volume.exists("not-mine")) == (True, True, False)


def test_a_directory_larger_than_one_answer(here: Headrace, bucket: Bucket) -> None:
    names = [f"{index:04}" for index in range(1203)]
    for name in names:
        bucket.client.put_object(Bucket=bucket.name, Key=f"m/{name}", Body=b"x")
    with sdk.Volume(bucket.uri("m")) as volume:
        assert [e.name for e in volume.list()] == names


def test_a_version_stays_and_another_can_be_chosen(here: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", b"old")
    with sdk.Volume(bucket.uri("m")) as old:
        bucket.put("m/b", b"new")
        with sdk.Volume(bucket.uri("m")) as new:
            assert (old.snapshot, new.snapshot) == ("v1", "v2")
            assert ([e.name for e in old.list()], [e.name for e in new.list()]) == (["a"], ["a", "b"])
    with sdk.Volume(bucket.uri("m"), "v1") as chosen:
        assert [e.name for e in chosen.list()] == ["a"]
    with pytest.raises(sdk.NotFound, match="held: v1, v2"):
        sdk.Volume(bucket.uri("m"), "v9")


def test_what_is_held_can_be_read_while_the_bucket_is_away(here: Headrace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bucket.put("m/a", 70_000)
    with sdk.Volume(bucket.uri("m")) as volume:
        volume.warm()
    # The right key, and nothing answers: the listing would fail.
    bucket.delete("m/a")
    with sdk.Volume(bucket.uri("m"), "current") as volume, volume.open("a") as file:
        assert file.read() == data


def test_each_mistake_has_its_error(here: Headrace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("m/sub/a", b"1")
    with sdk.Volume(bucket.uri("m")) as volume:
        for call in (volume.open, volume.stat, volume.list, volume.map, volume.warm):
            with pytest.raises(FileNotFoundError) as missing:
                call("sub/b")
            assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, bucket.uri("m/sub/b"))
            assert isinstance(missing.value, sdk.NotFound)
        with pytest.raises(IsADirectoryError):
            volume.open("sub")
        with pytest.raises(NotADirectoryError):
            volume.list("sub/a")
        for mode in ("r", "wb", "r+b"):
            with pytest.raises(sdk.UsageError, match="mode"):
                volume.open("sub/a", mode)
        file = volume.open("sub/a")
        file.close()
        for use in (file.read, file.fileno, file.tell, lambda: file.seek(0)):
            with pytest.raises(ValueError, match="closed"):
                use()
    with pytest.raises(ValueError, match="volume is closed"):
        volume.list()
    with pytest.raises(sdk.NotFound, match="there is nothing under"):
        sdk.Volume(bucket.uri("empty"))
    with pytest.raises(sdk.OriginFailure, match="no-such-bucket-here"):
        sdk.Volume("s3://no-such-bucket-here/m")
    with pytest.raises(sdk.UsageError, match="source"):
        sdk.open("s3://bucket")
    with pytest.raises(sdk.UsageError, match="cache_dir"):
        sdk.Volume(bucket.uri("m"), node=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(sdk.CredentialFailure):
        sdk.Volume(bucket.uri("m"))


def test_a_cache_directory_belongs_to_one_process(here: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", b"1")
    here.mount(bucket.uri("m"))
    with pytest.raises(sdk.CacheFailure, match="cache_dir"):
        sdk.Volume(bucket.uri("m"), node=False, cache_dir=here.base / "cache")

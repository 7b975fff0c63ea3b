"""Every byte through the SDK is the bucket's, at every size around the borders of chunks and blocks."""

from __future__ import annotations

import io
import random
import threading
from typing import Any

import pytest

import headrace as sdk
from support.bucket import Bucket
from support.headrace import Headrace

KIB, MIB = 1 << 10, 1 << 20
SIZES = [0, 1, 16 * KIB - 1, 16 * KIB, 16 * KIB + 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 7]


@pytest.fixture(params=["node", "own engine"])
def options(request: pytest.FixtureRequest, here: Headrace) -> dict[str, Any]:
    """Both grounds a volume can stand on."""
    if request.param == "node":
        return {}
    return {"node": False, "cache_dir": here.base / "own", "cache_size": "1Gi", "memory": "32Mi"}


def test_every_size_by_every_way_of_reading(here: Headrace, bucket: Bucket, options: dict[str, Any]) -> None:
    for size in SIZES:
        bucket.put(f"m/{size}", size)
    with sdk.Volume(bucket.uri("m"), **options) as volume:
        for size in SIZES:
            data = bucket.objects[f"m/{size}"]
            with volume.open(str(size)) as file:
                assert file.read() == data
            with volume.open(str(size), buffering=0) as raw:
                assert raw.read() == data
                assert (raw.tell(), raw.read(1), raw.pread(5, size)) == (size, b"", b"")
            with volume.open(str(size), buffering=777) as small:
                assert b"".join(iter(lambda f=small: f.read(100_001), b"")) == data
            view = volume.map(str(size))
            assert view.readonly
            assert view == data


def test_one_object_opens_like_a_local_file(here: Headrace, bucket: Bucket, options: dict[str, Any]) -> None:
    data = bucket.put("m/deep/model", 3 * MIB + 7)
    with sdk.open(bucket.uri("m/deep/model"), **options) as file:
        assert isinstance(file, io.BufferedReader)
        assert isinstance(file.raw, sdk.File)
        assert (file.name, file.mode, file.raw.size) == (bucket.uri("m/deep/model"), "rb", len(data))
        assert file.read(10) == data[:10]
        assert file.seek(-7, io.SEEK_END) == len(data) - 7
        assert file.read() == data[-7:]
        file.seek(MIB - 3)
        target = bytearray(6)
        assert file.readinto(target) == 6
        assert target == data[MIB - 3 : MIB + 3]
        assert file.seek(5, io.SEEK_CUR) == MIB + 8


def test_threads_read_at_random_from_one_file(here: Headrace, bucket: Bucket, options: dict[str, Any]) -> None:
    data = bucket.put("m/big", 24 * MIB)
    wrong: list[int] = []
    with sdk.Volume(bucket.uri("m"), **options) as volume, volume.open("big", buffering=0) as file:
        assert isinstance(file, sdk.File)

        def read(seed: int) -> None:
            chosen = random.Random(seed)
            for _ in range(40):
                offset = chosen.randrange(len(data))
                length = chosen.choice([1, 4096, 70_000, 5 * MIB])
                if file.pread(length, offset) != data[offset : offset + length]:
                    wrong.append(offset)

        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(12)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(60)
        assert not any(reader.is_alive() for reader in readers)
    assert wrong == []

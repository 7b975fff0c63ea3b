"""One file, many doors: what one has fetched, no other fetches again, and all show the same inode."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
from safetensors.numpy import save

import headrace as sdk
from support.bucket import Bucket
from support.headrace import Headrace, wait_until

MIB = 1 << 20


def origin_bytes(headrace: Headrace) -> float:
    return headrace.counters()["origin_body_bytes_total"]


def through_the_mount(directory: Path, _: sdk.Volume) -> bytes:
    return (directory / "big").read_bytes()


def through_the_sdk(_: Path, volume: sdk.Volume) -> bytes:
    with volume.open("big") as file:
        return file.read()


@pytest.mark.parametrize(("first", "second"), [(through_the_mount, through_the_sdk), (through_the_sdk, through_the_mount)])
def test_the_second_door_fetches_nothing(here: Headrace, bucket: Bucket, first: Callable[..., bytes], second: Callable[..., bytes]) -> None:
    data = bucket.put("m/big", 9 * MIB + 5)
    directory = here.mount(bucket.uri("m"))
    with sdk.Volume(bucket.uri("m")) as volume:
        assert first(directory, volume) == data
        fetched = origin_bytes(here)
        assert fetched == len(data)
        assert second(directory, volume) == data
        assert origin_bytes(here) == fetched


def test_a_complete_file_is_the_cache_file_itself(here: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/big", 9 * MIB + 5)
    directory = here.mount(bucket.uri("m"))
    assert (directory / "big").read_bytes() == data
    wait_until("completion", lambda: here.status()["mounts"][0]["files_complete"] == 1)
    inodes = {(s.st_dev, s.st_ino) for s in (p.stat() for p in (here.base / "cache").rglob("*") if p.is_file())}
    with sdk.Volume(bucket.uri("m")) as volume, volume.open("big") as file:
        status = os.fstat(file.fileno())
        assert (status.st_dev, status.st_ino) in inodes
        assert status.st_size == len(data)
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
            assert view[:] == data
        for way in (os.O_RDWR, os.O_WRONLY):
            with pytest.raises(OSError):
                os.open(f"/proc/self/fd/{file.fileno()}", way)


def test_an_incomplete_file_has_no_descriptor(here: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/big", 96 * MIB)
    with sdk.Volume(bucket.uri("m")) as volume, volume.open("big", buffering=0) as file:
        assert isinstance(file, sdk.File)
        assert file.read(4096) == data[:4096]
        assert not file.complete
        with pytest.raises(OSError, match="not complete"):
            file.fileno()
        volume.warm("big")
        assert os.pread(file.fileno(), 4096, 50 * MIB) == data[50 * MIB : 50 * MIB + 4096]


def test_memory_outlives_the_volume_and_the_eviction_of_its_file(here: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/big", 5 * MIB + 1)
    volume = sdk.Volume(bucket.uri("m"))
    view = volume.map("big")
    volume.close()
    here.run("cache", "evict", "--all")
    assert here.status()["cache"]["files"] == 0
    assert view == data


def test_warm_tells_how_far_it_is_and_fetches_once(here: Headrace, bucket: Bucket) -> None:
    for index in range(8):
        bucket.put(f"m/{index % 2}/{index}", 400_000 + index)
    total = sum(map(len, bucket.objects.values()))
    seen: list[sdk.WarmProgress] = []
    with sdk.Volume(bucket.uri("m")) as volume:
        half = volume.warm("0", seen.append)
        assert (half.files, half.files_total) == (4, 4)
        assert seen[-1].bytes == seen[-1].bytes_total == half.bytes
        done = volume.warm()
        assert (done.files, done.bytes, done.origin_bytes) == (8, total, total - half.bytes)
        assert volume.warm().origin_bytes == 0
        with pytest.raises(sdk.PathNotFound):
            volume.warm(["0", "nowhere"])


def test_a_model_loads_from_memory_that_is_the_cache_file(here: Headrace, bucket: Bucket) -> None:
    weights = {
        "embedding": numpy.arange(300_000, dtype=numpy.float32).reshape(300, 1000),
        "bias": numpy.linspace(-1, 1, 1000, dtype=numpy.float64),
    }
    bucket.put("m/model.safetensors", save(weights))
    with sdk.Volume(bucket.uri("m")) as volume:
        found = tensors(volume.map("model.safetensors"))
    assert found.keys() == weights.keys()
    for name, tensor in found.items():
        assert not tensor.flags.owndata
        numpy.testing.assert_array_equal(tensor, weights[name])


def tensors(view: memoryview) -> dict[str, Any]:
    """The tensors of a safetensors file, as arrays over its own memory."""
    start = 8 + int.from_bytes(view[:8], "little")
    kinds = {"F32": numpy.float32, "F64": numpy.float64}
    found = {}
    for name, about in json.loads(bytes(view[8:start])).items():
        begin, end = about["data_offsets"]
        found[name] = numpy.frombuffer(view[start + begin : start + end], dtype=kinds[about["dtype"]]).reshape(about["shape"])
    return found

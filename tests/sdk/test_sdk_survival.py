"""The node may die, the bucket may change, the process may fork: a file goes on, or says why not."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal

import pytest

import headrace as sdk
from support.bucket import Bucket
from support.headrace import Headrace

MIB = 1 << 20


@pytest.mark.parametrize("mounted", [False, True], ids=["without a mount", "beside a mount"])
def test_the_node_is_killed_between_reads(here: Headrace, bucket: Bucket, mounted: bool) -> None:
    data = bucket.put("m/big", 80 * MIB)
    if mounted:
        here.mount(bucket.uri("m"))
    with sdk.Volume(bucket.uri("m")) as volume, volume.open("big", buffering=0) as file:
        for turn in range(5):
            os.kill(here.node_pid(), signal.SIGKILL)
            assert file.read(300_000) == data[turn * 300_000 : (turn + 1) * 300_000]
            os.kill(here.node_pid(), signal.SIGKILL)
            assert [e.name for e in volume.list()] == ["big"]
        os.kill(here.node_pid(), signal.SIGKILL)
        assert volume.warm().files == 1
        assert file.pread(len(data), 0) == data


def test_the_right_to_read_stays_when_the_mount_goes(here: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/big", 80 * MIB)
    directory = here.mount(bucket.uri("m"))
    with sdk.Volume(bucket.uri("m")) as volume, volume.open("big", buffering=0) as file:
        assert file.read(1000) == data[:1000]
        here.run("umount", str(directory))
        assert file.pread(1000, 60 * MIB) == data[60 * MIB : 60 * MIB + 1000]
        assert here.status()["volumes"] == [{"source": bucket.uri("m"), "snapshot": "v1", "users": 1}]


def test_an_object_replaced_in_the_bucket(here: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", 80 * MIB)
    with sdk.Volume(bucket.uri("m")) as volume, volume.open("a", buffering=0) as file:
        assert isinstance(file, sdk.File)
        assert file.read(4096) == data[:4096]
        bucket.put("m/a", 80 * MIB, seed=9)
        with pytest.raises(sdk.Replaced, match="open the volume again") as failure:
            file.pread(4096, 79 * MIB)
        assert (failure.value.errno, failure.value.filename) == (errno.ESTALE, "a")
        assert isinstance(pickle.loads(pickle.dumps(failure.value)), sdk.Replaced)
        with pytest.raises(sdk.OriginFailure, match="1 of 1 files"):
            volume.map("a")
        assert file.pread(4096, 0) == data[:4096], "what was held stays readable"
    with sdk.Volume(bucket.uri("m")) as volume, volume.open("a") as fresh:
        assert fresh.read() == bucket.objects["m/a"]


def test_a_forked_child_reads_beside_its_parent(here: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/big", 80 * MIB)
    with sdk.Volume(bucket.uri("m")) as volume, volume.open("big", buffering=0) as file:
        assert isinstance(file, sdk.File)
        assert file.pread(1000, 0) == data[:1000]
        child = os.fork()
        if child == 0:
            right = all(file.pread(1000, at) == data[at : at + 1000] for at in range(0, 70 * MIB, 7 * MIB))
            file.close()
            os._exit(0 if right and volume.exists("big") else 1)
        for at in range(0, 70 * MIB, 5 * MIB):
            assert file.pread(1000, at) == data[at : at + 1000]
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert file.pread(1000, 75 * MIB) == data[75 * MIB : 75 * MIB + 1000]


def test_an_engine_of_its_own_does_not_cross_a_fork(here: Headrace, bucket: Bucket) -> None:
    bucket.put("m/a", b"1")
    with sdk.Volume(bucket.uri("m"), node=False, cache_dir=here.base / "own", cache_size="64Mi") as volume:
        child = os.fork()
        if child == 0:
            try:
                volume.list()
            except sdk.NodeFailure:
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert volume.exists("a")


def test_a_volume_travels_to_another_process_without_credentials(here: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", 70_000)
    with sdk.Volume(bucket.uri("m")) as volume:
        bucket.put("m/b", b"later")
        packed = pickle.dumps(volume)
        assert here.environment["AWS_SECRET_ACCESS_KEY"].encode() not in packed
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert pool.apply(read, (volume, "a")) == data
            with pytest.raises(sdk.PathNotFound):
                pool.apply(read, (volume, "b"))
        with volume.open("a") as file, pytest.raises(TypeError):
            pickle.dumps(file)


def read(volume: sdk.Volume, path: str) -> bytes:
    with volume, volume.open(path) as file:
        return file.read()

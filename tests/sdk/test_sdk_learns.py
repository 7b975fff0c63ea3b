"""The order of a load is learned through the SDK too, where the list of files is opened for each file anew."""

from __future__ import annotations

import pytest

import headrace as sdk
from support.bucket import Bucket
from support.headrace import Headrace

MIB = 1 << 20
SIZE = 48 * MIB
TENSOR = 12 * MIB
NAMES = ("one.bin", "two.bin")


def load(here: Headrace, bucket: Bucket, keep_open: bool) -> dict[str, float]:
    """Takes tensors from both files by turns, cold; gives what the node counted."""
    if here.processes():
        here.run("cache", "evict", "--all")
        here.run("node", "--stop")
    with sdk.Volume(bucket.uri("m")) as volume:
        held = {name: volume.open(f"llm/{name}", buffering=0) for name in NAMES if keep_open}
        for start in range(0, SIZE, TENSOR):
            for name in NAMES:
                file = held.get(name) or volume.open(f"llm/{name}", buffering=0)
                assert isinstance(file, sdk.File)
                for at in range(start, start + TENSOR, MIB):
                    assert file.pread(MIB, at) == bucket.objects[f"m/llm/{name}"][at : at + MIB]
                if not keep_open:
                    file.close()
        for file in held.values():
            file.close()
        return here.counters()


@pytest.mark.parametrize("keep_open", [True, False])
def test_the_second_cold_load_is_fetched_ahead(here: Headrace, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, keep_open: bool) -> None:
    """With an order it used to be worse than without: parts of the other file were lost, and the file's own streams were not asked."""
    monkeypatch.setenv("HEADRACE_MEMORY", "256Mi")  # room for windows that reach into the other file
    here.environment["HEADRACE_MEMORY"] = "256Mi"
    for seed, name in enumerate(NAMES):
        bucket.put(f"m/llm/{name}", SIZE, seed=seed)
    load(here, bucket, keep_open)
    counters = load(here, bucket, keep_open)
    assert counters["origin_body_bytes_total"] == len(NAMES) * SIZE, "each byte came once"
    # A reader may come before the errand for it. Without a way to the other file, every fourth read and more waited for a request of its own.
    assert counters["prefetched_bytes_total"] > 0.85 * len(NAMES) * SIZE
    assert counters["demand_flights_total"] < 16


def test_an_engine_of_its_own_learns_nothing(here: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/llm/one.bin", 4 * MIB)
    own = here.base / "own"
    with sdk.Volume(bucket.uri("m"), node=False, cache_dir=own, cache_size="1Gi", memory="32Mi") as volume, volume.open("llm/one.bin") as file:
        assert file.read() == data
    assert not list(own.rglob("orders"))

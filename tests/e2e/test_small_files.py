"""Many small files: read one after the other they are fetched ahead, each once; read here and there they are not."""

from __future__ import annotations

import random

from support.bucket import Bucket
from support.headrace import Headrace, wait_until

COUNT = 300
SIZE = 5000


def _fill(bucket: Bucket) -> dict[str, bytes]:
    return {name: bucket.put(f"m/{name}", SIZE + index, seed=index) for index, name in enumerate(f"d{n // 100}/f{n:03}" for n in range(COUNT))}


def test_files_read_in_order_are_fetched_ahead_and_each_once(headrace: Headrace, bucket: Bucket) -> None:
    files = _fill(bucket)
    directory = headrace.mount(bucket.uri("m"))
    for name, data in files.items():
        assert (directory / name).read_bytes() == data
    counters = headrace.counters()
    assert counters["origin_body_bytes_total"] == sum(map(len, files.values()))
    # All but the first files, and some where a directory begins, were asked for before their reader came.
    assert counters["prefetch_flights_total"] > COUNT * 0.9
    # The kernel has their pages now, and what a restart needs is on the disk.
    for name, data in files.items():
        assert (directory / name).read_bytes() == data
    assert headrace.counters()["origin_body_bytes_total"] == sum(map(len, files.values()))


def test_files_read_here_and_there_cost_what_they_are(headrace: Headrace, bucket: Bucket) -> None:
    files = _fill(bucket)
    directory = headrace.mount(bucket.uri("m"))
    names = random.Random(7).sample(sorted(files)[::20], 12)
    for name in names:
        assert (directory / name).read_bytes() == files[name]
    wait_until("nothing more is on its way", lambda: headrace.counters()["flights_queued"] == 0)
    assert headrace.counters()["origin_body_bytes_total"] == sum(len(files[name]) for name in names)


def test_an_evicted_small_file_that_is_open_reads_on(headrace: Headrace, bucket: Bucket) -> None:
    data = bucket.put("m/a", 100_000)
    directory = headrace.mount(bucket.uri("m"))
    with (directory / "a").open("rb", buffering=0) as file:
        assert file.read(10) == data[:10]
        headrace.run("cache", "evict", "--all")
        assert file.read() == data[10:]
    assert (directory / "a").read_bytes() == data

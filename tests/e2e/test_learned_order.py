"""The order of a load is learned, kept, carried to another node, and fetched in ahead of the next cold load."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing.access import Access
from support.bucket import Bucket
from support.headrace import Headrace

MIB = 1 << 20
TENSOR = 3 * MIB
TENSORS = 12
Model = dict[str, bytes]


@pytest.fixture
def model(bucket: Bucket) -> Model:
    return {name: bucket.put(f"m/llm/{name}", TENSORS * TENSOR, seed=seed) for seed, name in enumerate(("one.bin", "two.bin"))}


@pytest.fixture
def other(tmp_path: Path, server: Access) -> Iterator[Headrace]:
    """Another machine: nothing in common but the bucket."""
    base = tmp_path / "other"
    base.mkdir()
    own = Headrace(base, server.environment())
    yield own
    own.stop()


def load(directory: Path, model: Model, seed: int = 7) -> None:
    """Takes tensors from both files in an order of its own, and compares every byte."""
    places = [(name, start) for name in model for start in range(0, TENSORS * TENSOR, TENSOR)]
    random.Random(seed).shuffle(places)
    files = {name: os.open(directory / name, os.O_RDONLY) for name in model}
    for fd in files.values():
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    for name, start in places:
        assert os.pread(files[name], TENSOR, start) == model[name][start : start + TENSOR]
    for fd in files.values():
        os.close(fd)


def cold(headrace: Headrace, bucket: Bucket) -> Path:
    """A mount of a node that has just been started, with an empty cache."""
    if headrace.processes():
        headrace.run("cache", "evict", "--all")
        headrace.run("node", "--stop")
    return headrace.mount(bucket.uri("m")) / "llm"


def share_ahead(headrace: Headrace, model: Model) -> float:
    """The share of the model that was asked for before a reader came for it. All of that was of use."""
    counters = headrace.counters()
    assert counters["origin_body_bytes_total"] == sum(map(len, model.values())), "each byte came once"
    assert counters["prefetched_used_bytes_total"] == counters["prefetched_bytes_total"]
    return float(counters["prefetched_bytes_total"] / sum(map(len, model.values())))


def test_the_second_cold_load_is_fetched_in_the_order_of_the_first(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    load(cold(headrace, bucket), model)
    assert share_ahead(headrace, model) < 0.7
    load(cold(headrace, bucket), model)
    assert share_ahead(headrace, model) > 0.9
    # And what that one was like is known to the third.
    load(cold(headrace, bucket), model)
    assert share_ahead(headrace, model) > 0.9


def test_an_order_is_carried_to_another_machine(headrace: Headrace, other: Headrace, bucket: Bucket, model: Model, tmp_path: Path) -> None:
    load(cold(headrace, bucket), model)
    file = str(tmp_path / "llm.order")
    (steps,) = re.findall(r"(\d+) steps", headrace.run("order", "export", str(headrace.base / "mnt/llm"), file).stdout)
    assert len(model) * TENSORS * 0.7 < int(steps) <= len(model) * TENSORS
    directory = cold(other, bucket)
    assert "nothing was learned" in other.run("order", "ls", str(directory)).stdout
    other.run("order", "import", str(directory), file)
    load(directory, model)
    assert share_ahead(other, model) > 0.9


def test_a_load_in_another_order_is_right_and_costs_no_more(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    load(cold(headrace, bucket), model)
    load(cold(headrace, bucket), model, seed=8)
    assert headrace.counters()["origin_body_bytes_total"] == sum(map(len, model.values()))


def test_a_look_into_a_model_does_not_replace_its_order(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    directory = cold(headrace, bucket)
    load(directory, model)
    headrace.run("order", "ls", str(directory))
    directory = cold(headrace, bucket)
    assert (directory / "one.bin").open("rb", buffering=0).read(100) == model["one.bin"][:100]
    (known,) = json.loads(headrace.run("order", "ls", str(directory), "--json").stdout)
    assert (known["directory"], known["files"], known["bytes"]) == ("m/llm", 2, 2 * TENSORS * TENSOR)


def test_an_order_of_a_kill_ago_is_gone_by(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    load(cold(headrace, bucket), model)
    directory = cold(headrace, bucket)
    before = headrace.node_pid()
    os.kill(before, 9)
    load(directory, model)
    assert headrace.node_pid() != before
    assert share_ahead(headrace, model) > 0.9


def test_an_order_that_cannot_be_read_ends_neither_mount_nor_node(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    """The node used to die of it at each start, and readers waited."""
    directory = cold(headrace, bucket)
    load(directory, model)
    headrace.run("order", "ls", str(directory))  # which keeps what was learned
    (file,) = headrace.base.rglob("orders/*/*.json")
    file.unlink()
    file.mkdir()  # stands for any error of the disk
    before = headrace.node_pid()
    os.kill(before, 9)
    assert sorted(os.listdir(directory)) == sorted(model)
    load(directory, model)
    assert headrace.node_pid() != before
    assert "cannot read the learned order" in headrace.log()
    headrace.mount(bucket.uri("m"), "second")
    load(headrace.base / "second" / "llm", model)
    headrace.run("node", "--stop")


def test_orders_can_be_forgotten_and_switched_off(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    directory = cold(headrace, bucket)
    load(directory, model)
    assert "1 orders forgotten" in headrace.run("order", "forget", str(headrace.base / "mnt")).stdout
    assert headrace.run("order", "export", str(directory), check=False).returncode == 3
    headrace.environment["HEADRACE_LEARN_ORDER"] = "0"
    directory = cold(headrace, bucket)
    load(directory, model)
    assert json.loads(headrace.run("order", "ls", str(directory), "--json").stdout) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"headrace_order":1,"files":[["a",5]],"steps":[[0,3,9]]}'])
def test_what_is_no_order_is_refused(headrace: Headrace, bucket: Bucket, tmp_path: Path, content: str) -> None:
    bucket.put("m/llm/one.bin", MIB)
    directory = cold(headrace, bucket)
    (tmp_path / "bad.order").write_text(content)
    done = headrace.run("order", "import", str(directory), str(tmp_path / "bad.order"), check=False)
    assert done.returncode == 2
    assert "order" in done.stderr
    assert "export" in done.stderr

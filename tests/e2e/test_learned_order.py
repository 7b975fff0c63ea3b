"""The order of a load is learned, kept, carried to another node, and fetched in ahead of the next cold load."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.testing.access import Access
from support.bucket import Bucket
from support.headrace import COMMAND, Headrace, wait_until

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
    places = [(name, start) for name, data in model.items() for start in range(0, len(data), TENSOR)]
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
    assert "1 order forgotten" in headrace.run("order", "forget", str(headrace.base / "mnt")).stdout
    assert headrace.run("order", "export", str(directory), check=False).returncode == 3
    headrace.environment["HEADRACE_LEARN_ORDER"] = "0"
    directory = cold(headrace, bucket)
    load(directory, model)
    assert json.loads(headrace.run("order", "ls", str(directory), "--json").stdout) == []


def test_an_order_is_gone_by_while_another_file_is_warmed(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    """A warm-up lists the files with a list of its own, which is gone when it ends."""
    bucket.put("m/llm/three.bin", 2 * MIB)
    load(cold(headrace, bucket), model)
    directory = cold(headrace, bucket)
    files = {name: os.open(directory / name, os.O_RDONLY) for name in model}
    headrace.run("warm", str(directory / "three.bin"))
    load(directory, model)
    for fd in files.values():
        os.close(fd)
    counters = headrace.counters()
    assert counters["prefetched_bytes_total"] > 0.9 * sum(map(len, model.values()))


def test_half_a_load_leaves_the_whole_order(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    load(cold(headrace, bucket), model)
    directory = cold(headrace, bucket)
    # Three quarters of it, in another order; and somebody looks meanwhile.
    part = {name: data[: len(data) * 3 // 4] for name, data in model.items()}
    load(directory, part, seed=8)
    (known,) = json.loads(headrace.run("order", "ls", str(directory), "--json").stdout)
    assert (known["files"], known["bytes"]) == (2, 2 * TENSORS * TENSOR)


def test_a_smaller_model_of_the_same_names_is_learned(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    load(cold(headrace, bucket), model)
    small = {name: bucket.put(f"m/llm/{name}", 3 * TENSOR, seed=9) for name in model}
    directory = cold(headrace, bucket)
    for name, data in small.items():
        assert (directory / name).read_bytes() == data
    (known,) = json.loads(headrace.run("order", "ls", str(directory), "--json").stdout)
    assert (known["files"], known["bytes"]) == (2, 2 * 3 * TENSOR)


def test_a_file_replaced_by_a_smaller_one_while_it_is_open(headrace: Headrace, bucket: Bucket) -> None:
    """Both sizes used to be one file to the order: it was one that the node itself refused, and a counter fell below zero."""
    bucket.put("m/llm/one.bin", 24 * MIB, seed=1)
    directory = cold(headrace, bucket)
    old = os.open(directory / "one.bin", os.O_RDONLY)
    os.posix_fadvise(old, 0, 0, os.POSIX_FADV_RANDOM)
    os.pread(old, MIB, 0)
    small = bucket.put("m/llm/one.bin", 6 * MIB, seed=2)
    headrace.run("refresh", str(headrace.base / "mnt"))
    assert (directory / "one.bin").read_bytes() == small
    for at in (1, 2, 3, 20, 21):
        with contextlib.suppress(OSError):  # what is not cached of the old version is gone
            os.pread(old, MIB, at * MIB)
    os.close(old)
    assert headrace.counters()["prefetched_bytes_total"] <= 30 * MIB
    (known,) = json.loads(headrace.run("order", "ls", str(directory), "--json").stdout)
    assert (known["files"], known["bytes"]) == (1, 6 * MIB)
    assert "dropping the learned order" not in headrace.log()


def test_what_is_forgotten_comes_back_through_no_mount(headrace: Headrace, bucket: Bucket, model: Model) -> None:
    directory = cold(headrace, bucket)
    other = headrace.mount(bucket.uri("m"), "second") / "llm"
    files = [os.open(place / "one.bin", os.O_RDONLY) for place in (directory, other)]
    for fd in files:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(fd, MIB, 5 * MIB)
    headrace.run("order", "forget", str(directory))
    for place in (directory, other):
        assert json.loads(headrace.run("order", "ls", str(place), "--json").stdout) == []
    # What is read from now on is learned, and no more.
    for fd in files:
        os.pread(fd, MIB, 20 * MIB)
        os.close(fd)
    for place in (directory, other):
        (known,) = json.loads(headrace.run("order", "ls", str(place), "--json").stdout)
        assert known["bytes"] == MIB


def test_an_import_reaches_every_mount_and_is_gone_by_without_learning(headrace: Headrace, bucket: Bucket, model: Model, tmp_path: Path) -> None:
    load(cold(headrace, bucket), model)
    file = str(tmp_path / "llm.order")
    headrace.run("order", "export", str(headrace.base / "mnt/llm"), file)
    headrace.run("order", "forget", str(headrace.base / "mnt"))
    headrace.environment["HEADRACE_LEARN_ORDER"] = "0"
    directory = cold(headrace, bucket)
    other = headrace.mount(bucket.uri("m"), "second") / "llm"
    assert "2 of 2 files here" in headrace.run("order", "import", str(directory), file).stdout
    load(other, model)
    assert share_ahead(headrace, model) > 0.9


def nothing_is_asked_for(headrace: Headrace) -> None:
    """Waits until two looks agree that what was fetched ahead has come or failed."""

    def agree() -> bool:
        before, now = headrace.counters(), headrace.counters()
        return now["flights_queued"] == 0 and before["prefetch_flights_total"] == now["prefetch_flights_total"]

    wait_until("nothing is asked for", agree)


def test_a_replaced_file_that_nobody_reads_is_reported_once(headrace: Headrace, bucket: Bucket) -> None:
    """Each step of it used to be a fresh attempt, with an event of its own."""
    model = {name: bucket.put(f"m/llm/{name}", 8 * MIB, seed=seed) for seed, name in enumerate(("one.bin", "two.bin"))}

    def by_turns(directory: Path, names: list[str]) -> None:
        files = {name: os.open(directory / name, os.O_RDONLY) for name in names}
        for at in range(8):
            for name, fd in files.items():
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
                assert os.pread(fd, MIB, at * MIB) == model[name][at * MIB : (at + 1) * MIB]
            nothing_is_asked_for(headrace)  # attempts ahead fail one after the other
        for fd in files.values():
            os.close(fd)

    by_turns(cold(headrace, bucket), sorted(model))
    directory = cold(headrace, bucket)
    bucket.put("m/llm/two.bin", 8 * MIB, seed=7)
    by_turns(directory, ["one.bin"])
    assert headrace.counters()["replaced_objects_total"] == 1


def test_an_export_is_whole_or_not_there(headrace: Headrace, bucket: Bucket, model: Model, tmp_path: Path) -> None:
    directory = cold(headrace, bucket)
    load(directory, model)
    target = tmp_path / "llm.order"
    target.write_text("before")
    target.chmod(0o640)
    (tmp_path / "link").symlink_to(target)
    headrace.run("order", "export", str(directory), str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert json.loads(target.read_text())["headrace_order"] == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["link", "llm.order"]
    assert headrace.run("order", "export", str(directory), "/dev/full", check=False).returncode == 2


GOOD = '{"headrace_order":1,"files":[["one.bin",1048576]],"steps":[[0,0,9]]'


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("", "is no learned order"),
        ("[]", "is no learned order"),
        ("{}", "format 1"),
        ('{"headrace_order":1,"files":[["a",5]],"steps":[[0,3,9]]}', "within the file"),
        (GOOD + ',"x":NaN}', "is no learned order"),
        (GOOD + ',"x":"' + "x" * (4 * MIB - 200) + '"}', "too large"),
        (GOOD + ',"x":"' + "\u00fc" * MIB + '"}', "too large"),
        (GOOD.replace(":1,", ":true,", 1) + "}", "format 1"),
        ('{"headrace_order":1,"files":[],"steps":[]}', "no steps"),
        ('{"headrace_order":1,"files":[["else.bin",5]],"steps":[[0,3,5]]}', "none of its files (else.bin)"),
    ],
    ids=["empty", "list", "nothing", "beyond", "nan", "large", "wide", "true", "no-steps", "another-model"],
)
def test_what_is_no_order_is_refused(headrace: Headrace, bucket: Bucket, tmp_path: Path, content: str, cause: str) -> None:
    bucket.put("m/llm/one.bin", MIB)
    directory = cold(headrace, bucket)
    (tmp_path / "bad.order").write_text(content)
    done = headrace.run("order", "import", str(directory), str(tmp_path / "bad.order"), check=False)
    assert done.returncode == 2
    assert cause in done.stderr
    assert "order" in done.stderr
    assert "export" in done.stderr or "import it into" in done.stderr


def test_an_import_names_where_it_can_not_go_or_come_from(headrace: Headrace, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("m/llm/one.bin", MIB)
    directory = cold(headrace, bucket)
    good = tmp_path / "good.order"
    good.write_text(GOOD + "}")
    for nowhere in (directory / "gone", directory / "one.bin"):
        done = headrace.run("order", "import", str(nowhere), str(good), check=False)
        assert (done.returncode, "is no directory in" in done.stderr) == (3, True)
    closed = subprocess.run(
        [sys.executable, "-c", "import os, sys; os.close(0); os.execv(sys.argv[1], sys.argv[1:])", COMMAND, "order", "import", str(directory), "-"],
        env=headrace.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (closed.returncode, "the standard input is closed" in closed.stderr) == (2, True)
    nothing = headrace.run("order", "import", str(directory), "-", check=False)  # from /dev/null
    assert "the standard input is no learned order" in nothing.stderr
    assert "too large" in headrace.run("order", "import", str(directory), "/dev/zero", check=False).stderr
    assert "1 step, 9 B; 1 of 1 file here" in headrace.run("order", "import", str(directory), str(good)).stdout


def test_a_disk_that_takes_no_order_is_told_with_its_reason(headrace: Headrace, bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("m/llm/one.bin", MIB)
    directory = cold(headrace, bucket)
    good = tmp_path / "good.order"
    good.write_text(GOOD + "}")
    (headrace.base / "cache/snapshots/orders").write_text("in the way")
    done = headrace.run("order", "import", str(directory), str(good), check=False)
    assert done.returncode == 7
    assert "try again" in done.stderr

"""The file system of the node's log is full: nothing can be told, and nothing ends."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.bucket import Bucket
from support.disk import fill, fill_file
from support.headrace import Headrace, wait_until

MIB = 1 << 20


@pytest.fixture
def small(headrace: Headrace) -> Iterator[Path]:
    """The runtime directory, on 4 MiB of its own."""
    runtime = headrace.base / "run"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "none", str(runtime)], check=True)
    try:
        yield runtime
        (runtime / "filler").unlink(missing_ok=True)
        headrace.stop()
    finally:
        subprocess.run(["umount", "--lazy", str(runtime)], check=True)


@pytest.mark.parametrize("victim", ["pid", "keeper_pid"], ids=["node", "keeper"])
def test_kills_while_nothing_can_be_logged(headrace: Headrace, bucket: Bucket, small: Path, victim: str) -> None:
    """Telling of the death raised ENOSPC, and the keeper died of it with every descriptor it held; so did the node of its keeper's death."""
    data = bucket.put("m/a", 3 * MIB)
    path = headrace.mount(bucket.uri("m")) / "a"
    assert path.read_bytes() == data
    fill(small)
    fill_file(small / "node.log", 1)  # what is left of its last page
    for _ in range(3):
        status = headrace.status()["node"]
        os.kill(status[victim], signal.SIGKILL)
        wait_until("its successor", lambda old=status[victim]: headrace.status()["node"][victim] != old)
        headrace.run("cache", "evict", "--all")
        assert path.read_bytes() == data
    assert len(headrace.processes()) == 2


def test_a_log_above_its_size_on_a_full_disk(headrace: Headrace, bucket: Bucket, small: Path) -> None:
    """Cutting it keeps its older part, for which there was no room: every node died of that within half a second, and the keeper of telling it."""
    headrace.environment["HEADRACE_LOG_SIZE"] = "64Ki"
    data = bucket.put("m/a", MIB)
    path = headrace.mount(bucket.uri("m")) / "a"
    node, log, filler = headrace.node_pid(), small / "node.log", small / "filler"
    fill(small)
    os.truncate(filler, filler.stat().st_size - MIB)
    with log.open("ab", buffering=0) as file:
        assert file.write(bytes(MIB)) > MIB // 2
    fill_file(log, 1)
    (event,) = wait_until("it is told", lambda: _upkeep_failed(headrace))
    assert event["message"].startswith("keeping the log small: No space left on device")
    assert not (small / "node.log.new").exists(), "half of a copy takes the last room"
    assert path.read_bytes() == data
    filler.unlink()
    wait_until("it is cut", lambda: log.stat().st_size < 64 << 10)
    assert (small / "node.log.1").exists()
    assert not _upkeep_failed(headrace)
    assert headrace.node_pid() == node


def _upkeep_failed(headrace: Headrace) -> list[dict[str, Any]]:
    return [event for event in headrace.status()["events"] if event["kind"] == "upkeep-failed"]

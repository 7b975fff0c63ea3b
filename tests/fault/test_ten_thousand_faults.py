"""Ten thousand faults while many readers read in every way: no wrong byte, no hang, and EIO only for what fails for good."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from campaign.plan import Plan
from campaign.trials import faults
from headrace.testing.content import content
from headrace.testing.faults import LATE, POSSIBLE, Fault
from headrace.testing.origin import Origin, failing_origin
from support.headrace import Headrace, wait_until

SEED = int(os.environ.get("HEADRACE_TEST_SEED", "20250607"))


@pytest.fixture
def origin() -> Iterator[Origin]:
    with failing_origin("models", seed=SEED) as running:
        yield running


@pytest.fixture
def headrace(tmp_path: Path, origin: Origin) -> Iterator[Headrace]:
    own = Headrace(tmp_path, origin.access.environment())
    own.environment["HEADRACE_DEADLINE"] = "60"
    yield own
    origin.faults.clear()
    own.stop()


def test_ten_thousand_faults(tmp_path: Path) -> None:
    print(f"seed {SEED}; HEADRACE_TEST_SEED sets another")  # shown when the test fails
    figures = faults.run(Plan(tmp_path, SEED, share=0.1))
    print("\n".join(f"{figure.what}: {figure.values} {figure.bound or ''}" for figure in figures))
    assert [figure.what for figure in figures if figure.reached is False] == []


def test_what_fails_for_good_gives_eio_within_the_deadline_and_nothing_else_does(headrace: Headrace, origin: Origin) -> None:
    headrace.environment["HEADRACE_DEADLINE"] = "3"
    data = content(SEED, 0, 200_000)
    permanent = [fault for fault in POSSIBLE["range"] if fault not in LATE]
    for name in [*permanent, "good"]:
        origin.bucket("models").put(f"m/{name}", data)
    mount = headrace.mount("s3://models/m")
    for fault in permanent:
        origin.faults.always(fault, f"m/{fault}")

    def read_end(name: str) -> tuple[str, float]:
        """How reading the last bytes of a file ends, and after how long."""
        began = time.monotonic()
        got = bytearray()
        with (mount / name).open("rb", buffering=0) as file:
            try:
                # The kernel gives the pages before the one that failed, as a short read.
                while len(got) < 10_000 and (part := os.pread(file.fileno(), 10_000 - len(got), 190_000 + len(got))):
                    got += part
            except OSError as error:
                assert data[190_000:].startswith(got)
                return errno.errorcode[error.errno or 0], time.monotonic() - began
        return ("right" if got == data[190_000:] else "wrong bytes"), time.monotonic() - began

    def mapped_end(name: str) -> int:
        """The exit status of a program that touches the last byte of a mapping."""
        code = "import mmap, sys; f = open(sys.argv[1], 'rb'); mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)[-1]"
        return subprocess.run([sys.executable, "-c", code, str(mount / name)], check=False, timeout=30).returncode

    with ThreadPoolExecutor(len(permanent) + 2) as pool:
        failing = {fault: pool.submit(read_end, fault) for fault in permanent}
        mapped = pool.submit(mapped_end, permanent[0])
        while not all(each.done() for each in failing.values()):
            assert read_end("good")[0] == "right"
            headrace.run("cache", "evict", str(mount / "good"))
        ends = {fault: each.result() for fault, each in failing.items()}
    assert {fault: end for fault, (end, _) in ends.items()} == dict.fromkeys(permanent, "EIO")
    assert max(seconds for _, seconds in ends.values()) < 3 + 2
    assert mapped.result() == -signal.SIGBUS
    told = [event["message"] for event in headrace.status()["events"] if event["kind"] == "read-failed"]
    assert any("deadline" in message and "last" in message for message in told), told
    # Nothing of it is remembered for longer than a few seconds.
    origin.faults.clear()
    for fault in permanent:
        wait_until(f"{fault} is over", lambda fault=fault: read_end(fault)[0] == "right")


def test_a_warm_up_comes_through(headrace: Headrace, origin: Origin) -> None:
    data = {f"m/{number}": content(SEED + number, 0, 3_000_001 + number) for number in range(12)}
    for key, body in data.items():
        origin.bucket("models").put(key, body)
    mount = headrace.mount("s3://models/m")
    origin.faults.kinds = dict.fromkeys(POSSIBLE["range"], 1.0) | {Fault.STALL: 0.0}
    origin.faults.rate, origin.faults.late = 0.5, 0.2
    headrace.run("warm", str(mount))
    origin.faults.clear()
    asked = origin.counters.requests["range"]
    for key, body in data.items():
        assert (mount / key.removeprefix("m/")).read_bytes() == body
    assert origin.counters.requests["range"] == asked
    assert origin.faults.total > 0

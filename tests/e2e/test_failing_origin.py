"""An origin in trouble, seen by a person: listings that break, ranges that stall, credentials that expire, clocks that differ."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from headrace.testing.content import content
from headrace.testing.faults import Fault
from headrace.testing.origin import Origin, failing_origin
from headrace.testing.signatures import Key
from headrace.testing.store import Body
from support.headrace import Headrace, beside, wait_until

MIB = 1 << 20
KEYS = 2500  # three pages


@pytest.fixture
def origin() -> Iterator[Origin]:
    with failing_origin("models") as running:
        yield running


@pytest.fixture
def headrace(tmp_path: Path, origin: Origin) -> Iterator[Headrace]:
    with beside(tmp_path, origin) as own:
        yield own


def snapshots(headrace: Headrace) -> list[str]:
    """Names of all files that belong to snapshots."""
    return sorted(path.name for path in (headrace.base / "cache/snapshots").rglob("*") if path.is_file())


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize("fault", [Fault.REPEATED_TOKEN, Fault.MISSING_TOKEN, Fault.CUT_LISTING])
def test_a_broken_listing_publishes_nothing(headrace: Headrace, origin: Origin, fault: Fault, versioned: bool) -> None:
    bucket = origin.bucket("models")
    bucket.versioning = "Enabled" if versioned else None
    for number in range(KEYS):
        bucket.put(f"m/{number:05}", b"%d" % number)
    origin.faults.always(fault, on="list")
    target = headrace.base / "mnt"
    done = headrace.run("mount", "s3://models/m", str(target), check=False)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not target.exists()
    assert snapshots(headrace) == []
    origin.faults.clear()
    headrace.mount("s3://models/m")
    held = snapshots(headrace)
    bucket.put("m/new", b"new")
    origin.faults.always(fault, on="list")
    done = headrace.run("refresh", str(target), check=False)
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert snapshots(headrace) == held
    assert not (target / "new").exists()
    assert (target / "02499").read_bytes() == b"2499"
    origin.faults.clear()
    headrace.run("refresh", str(target))
    assert (target / "new").read_bytes() == b"new"


def test_a_listing_is_tried_again(headrace: Headrace, origin: Origin) -> None:
    for number in range(KEYS):
        origin.bucket("models").put(f"m/{number:05}", b"")
    origin.faults.script(
        *(Fault.SLOW_DOWN, Fault.TOO_MANY, None),  # each page is asked for until it is right
        *(Fault.INTERNAL, Fault.RESET_BEFORE, None),
        *(Fault.RESET_INSIDE, Fault.TRUNCATED, Fault.CUT_LISTING, Fault.CUT_LISTING, None),
        on="list",
    )
    root = headrace.mount("s3://models/m")
    assert len(os.listdir(root)) == KEYS
    assert origin.faults.total == 8
    # A reset of a connection that has served before is no failure: the server may have closed it while it was idle.
    assert headrace.counters()["origin_retries_total"] >= 5


def test_a_range_that_stalled_fails_at_once_for_a_while(headrace: Headrace, origin: Origin) -> None:
    headrace.environment["HEADRACE_DEADLINE"] = "4"
    origin.bucket("models").put("m/a", content(1, 0, MIB))
    root = headrace.mount("s3://models/m")
    origin.faults.always(Fault.STALL)
    with (root / "a").open("rb", buffering=0) as file:

        def read_end() -> bool:
            return os.pread(file.fileno(), 4096, MIB - 4096) == content(1, MIB - 4096, 4096)

        began = time.monotonic()
        with pytest.raises(OSError, match="Input/output error"):
            read_end()
        assert 3 < time.monotonic() - began < 8
        asked = origin.counters.requests["range"]
        began = time.monotonic()
        for _ in range(10):
            with pytest.raises(OSError, match="Input/output error"):
                read_end()
        assert time.monotonic() - began < 4, "one of them waited for its deadline"
        assert origin.counters.requests["range"] == asked
        event = next(event for event in headrace.status()["events"] if event["kind"] == "read-failed")
        assert event["object"] == "m/a"
        assert "deadline" in event["message"]
        origin.faults.clear()

        def heals() -> bool:
            try:
                return read_end()
            except OSError:
                return False

        wait_until("the range can be read again", heals)


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("fault", [Fault.STALL, Fault.SLOW_FIRST_BYTE])
def test_a_waiting_reader_is_interrupted_at_once(headrace: Headrace, origin: Origin, ends: signal.Signals, fault: Fault) -> None:
    origin.bucket("models").put("m/a", Body(8 * MIB, seed=1))
    root = headrace.mount("s3://models/m")
    origin.faults.late = 60
    origin.faults.always(fault)
    with subprocess.Popen(["dd", f"if={root / 'a'}", "of=/dev/null", "bs=1M", "skip=7", "status=none"]) as reader:
        wait_until("a fault", lambda: origin.faults.total > 0)
        wait_until("the reader waits", lambda: Path(f"/proc/{reader.pid}/stat").read_text().rpartition(")")[2].split()[0] in "DS")
        began = time.monotonic()
        reader.send_signal(ends)
        assert reader.wait(10) == -ends
        assert time.monotonic() - began < 5, "of a minute that the bytes take, and twenty seconds until they are given up"
    wait_until("the node to know", lambda: headrace.counters()["interrupted_reads_total"] > 0)
    origin.faults.clear()
    headrace.run("umount", str(root))


def test_expired_credentials_are_told_and_replaced_in_the_living_mount(headrace: Headrace, origin: Origin) -> None:
    signatures = origin.check_signatures()
    data = content(1, 0, 2 * MIB)
    origin.bucket("models").put("m/a", data)
    root = headrace.mount("s3://models/m")
    signatures.keys["headrace"].expired = True
    with (root / "a").open("rb", buffering=0) as file:
        with pytest.raises(OSError, match="Input/output error"):
            os.pread(file.fileno(), 4096, MIB)
        told = " ".join(event["message"] for event in headrace.status()["events"])
        assert "credentials have expired" in told
        assert "headrace credentials DIR" in told
        done = headrace.run("refresh", str(root), check=False)
        assert (done.returncode, "expired" in done.stderr) == (4, True)
        signatures.keys["fresh"] = Key("fresh-secret", token="fresh-token")
        headrace.environment |= {"AWS_ACCESS_KEY_ID": "fresh", "AWS_SECRET_ACCESS_KEY": "fresh-secret", "AWS_SESSION_TOKEN": "fresh-token"}
        headrace.run("credentials", str(root))

        def heals() -> bool:
            try:
                return os.pread(file.fileno(), 4096, MIB) == data[MIB : MIB + 4096]
            except OSError:
                return False

        wait_until("the same open file to read again", heals)
    headrace.run("refresh", str(root))
    assert (root / "a").read_bytes() == data
    secrets = ("headrace-secret", "fresh-secret", "fresh-token")
    shown = (
        headrace.log()
        + headrace.run("status", "--json").stdout
        + "".join(p.read_text(errors="replace") for p in (headrace.base / "run").glob("*.log"))
    )
    assert not any(secret in shown for secret in secrets)


def test_what_only_a_strict_server_refuses(headrace: Headrace, origin: Origin) -> None:
    signatures = origin.check_signatures()
    origin.bucket("models").put("m/a", b"1")
    target = headrace.base / "mnt"
    signatures.clock = timedelta(hours=1)
    skewed = headrace.run("mount", "s3://models/m", str(target), check=False)
    signatures.clock = timedelta()
    signatures.region = "eu-west-7"
    elsewhere = headrace.run("mount", "s3://models/m", str(target), check=False)
    for done, code, words in ((skewed, 5, ["clock", "3600 s", "NTP"]), (elsewhere, 5, ["region", "eu-west-7", "--region"])):
        assert done.returncode == code, done.stderr
        assert all(word in done.stderr for word in words), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not target.exists()
    assert headrace.run("mount", "s3://models/m", str(target), "--region", "eu-west-7").returncode == 0

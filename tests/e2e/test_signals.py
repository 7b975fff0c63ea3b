"""Signals to a program that waits for bytes: one that it handles costs it nothing, as with a local file; one that it dies of ends it at once."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headrace.testing.content import content
from headrace.testing.faults import Fault
from headrace.testing.origin import Origin, failing_origin
from support.headrace import EVERYTHING, Headrace, beside, wait_until

MIB = 1 << 20
# A read of this goes past the page cache, and waits for the node itself; one of a smaller file waits for a page.
LARGE = 8 * MIB
SMALL = 300_000
# Of a busy machine. The bytes come after a minute, and a read is given up after twenty seconds.
AT_ONCE_SECONDS = 5.0
# With everything masked a read waits for a page, as of a local file. The kernel ends that wait for what kills at once; a signal that dumps
# core, and one beside a signal that is handled, it leaves until the page is there.
ENDS = [(number, "") for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL)]
ENDS += [(number, EVERYTHING) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)]
ENDS_AFTER_ONE_THAT_IS_HANDLED = [(signal.SIGTERM, ""), (signal.SIGKILL, ""), (signal.SIGKILL, EVERYTHING)]
MASKS = pytest.mark.parametrize("mask", ["", EVERYTHING], ids=["", "everything masked"])

# The system's own read: Python's would try again by itself.
READS = """
import ctypes, hashlib, os, signal, sys
path, size, restart, interval = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "restart", float(sys.argv[4])
ticks = 0
def tick(number, frame):
    global ticks
    ticks += 1
signal.signal(signal.SIGALRM, tick)
signal.siginterrupt(signal.SIGALRM, not restart)
libc = ctypes.CDLL(None, use_errno=True)
fd = os.open(path, os.O_RDONLY)
buffer = ctypes.create_string_buffer(size)
signal.setitimer(signal.ITIMER_REAL, interval, interval)
count = libc.read(fd, buffer, ctypes.c_size_t(size))
error = ctypes.get_errno()
signal.setitimer(signal.ITIMER_REAL, 0)
print(count, error if count < 0 else 0, hashlib.sha256(buffer.raw[:max(count, 0)]).hexdigest(), ticks)
"""


@pytest.fixture
def origin() -> Iterator[Origin]:
    with failing_origin("models") as running:
        yield running


@pytest.fixture
def headrace(tmp_path: Path, origin: Origin) -> Iterator[Headrace]:
    with beside(tmp_path, origin) as own:
        yield own


def mounted(headrace: Headrace, origin: Origin, size: int, mask: str, late: float) -> Path:
    """A file whose bytes come late."""
    if mask:
        headrace.environment["HEADRACE_KERNEL_MASK"] = mask
    origin.bucket("models").put("m/a", content(1, 0, size))
    path = headrace.mount("s3://models/m") / "a"
    origin.faults.late = late
    origin.faults.always(Fault.SLOW_FIRST_BYTE, on="range")
    return path


def waits(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "DS" and _reads(pid)


def _reads(pid: int) -> bool:
    """Whether a thread is in read(2), whose number is 0 or, elsewhere, 63."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[0] in ("0", "63")


@contextmanager
def a_waiting_reader(path: Path, origin: Origin, *, handles: str = "no") -> Iterator[subprocess.Popen[str]]:
    """A program that waits in read(2); with `handles` it handles SIGALRM."""
    interval = "1000" if handles == "yes" else "0"
    default = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    command = [sys.executable, "-c", default + READS, str(path), str(LARGE), "restart", interval]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as reader:
        wait_until("the reader waits", lambda: origin.faults.total > 0 and waits(reader.pid))
        yield reader


def assert_ends(reader: subprocess.Popen[str], number: signal.Signals) -> None:
    began = time.monotonic()
    reader.send_signal(number)
    assert reader.wait(10) == -number
    assert time.monotonic() - began < AT_ONCE_SECONDS


@MASKS
@pytest.mark.parametrize("restart", ["restart", "no restart"])
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_a_signal_that_is_handled_ends_no_read(headrace: Headrace, origin: Origin, size: int, restart: str, mask: str) -> None:
    """A timer of ten milliseconds, as profilers have. It used to end reads of large files with EINTR, also with SA_RESTART."""
    path = mounted(headrace, origin, size, mask, late=1.5)
    done = subprocess.run(
        [sys.executable, "-c", READS, str(path), str(size), restart, "0.01"], capture_output=True, text=True, check=True, timeout=60
    )
    count, error, digest, ticks = done.stdout.split()
    assert (int(count), int(error)) == (size, 0)
    assert int(ticks) > 0, "no signal came while it read"
    assert digest == hashlib.sha256(content(1, 0, size)).hexdigest()
    assert headrace.counters()["interrupted_reads_total"] == 0


@pytest.mark.parametrize(("ends", "mask"), ENDS)
def test_a_signal_that_a_waiting_reader_dies_of_ends_it_at_once(headrace: Headrace, origin: Origin, ends: signal.Signals, mask: str) -> None:
    path = mounted(headrace, origin, LARGE, mask, late=60)
    with a_waiting_reader(path, origin) as reader:
        assert_ends(reader, ends)
    if not mask:
        # With the features masked it waited for a page, which the kernel ends by itself, and the node's read was read-ahead.
        wait_until("the node to know", lambda: headrace.counters()["interrupted_reads_total"] > 0)


def test_ctrl_c_ends_a_read_of_a_program_that_handles_it(headrace: Headrace, origin: Origin) -> None:
    """As every Python program does: it gets its KeyboardInterrupt at once, not when the bytes have come."""
    path = mounted(headrace, origin, LARGE, "", late=60)
    program = "import sys\ntry: open(sys.argv[1], 'rb').read()\nexcept KeyboardInterrupt: sys.exit(77)"
    with subprocess.Popen([sys.executable, "-c", program, str(path)]) as reader:
        wait_until("the reader waits", lambda: origin.faults.total > 0 and waits(reader.pid))
        began = time.monotonic()
        reader.send_signal(signal.SIGINT)
        assert reader.wait(10) == 77
        assert time.monotonic() - began < AT_ONCE_SECONDS


@pytest.mark.parametrize(("ends", "mask"), ENDS_AFTER_ONE_THAT_IS_HANDLED)
def test_a_reader_that_handled_a_signal_can_still_be_killed(headrace: Headrace, origin: Origin, ends: signal.Signals, mask: str) -> None:
    """The kernel asks for a read only once, at the first signal: the node has to look by itself for those that come after it."""
    path = mounted(headrace, origin, LARGE, mask, late=60)
    with a_waiting_reader(path, origin, handles="yes") as reader:
        reader.send_signal(signal.SIGALRM)
        time.sleep(0.5)  # nothing tells when the node has looked at it
        assert waits(reader.pid)
        assert_ends(reader, ends)


@pytest.mark.parametrize(("number", "handles"), [(signal.SIGQUIT, "no"), (signal.SIGTERM, "yes")])
def test_a_signal_that_waits_for_the_page(headrace: Headrace, origin: Origin, number: signal.Signals, handles: str) -> None:
    """As of a local file: the kernel leaves one that dumps core, and one beside a signal that is handled, until the page is there."""
    path = mounted(headrace, origin, SMALL, "", late=3)
    with a_waiting_reader(path, origin, handles=handles) as reader:
        if handles == "yes":
            reader.send_signal(signal.SIGALRM)
        reader.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.5)
        assert reader.wait(10) == -number


@pytest.mark.parametrize("mask", ["", "resend"])
def test_a_reader_that_handled_a_signal_can_be_killed_after_the_node_was(headrace: Headrace, origin: Origin, mask: str) -> None:
    path = mounted(headrace, origin, LARGE, mask, late=60)
    with a_waiting_reader(path, origin, handles="yes") as reader:
        reader.send_signal(signal.SIGALRM)
        time.sleep(0.5)  # nothing tells when the node has looked at it
        node = headrace.node_pid()
        os.kill(node, signal.SIGKILL)
        wait_until("its successor", lambda: headrace.node_pid() != node)
        wait_until("the read reaches it", lambda: headrace.counters()["reads_waiting"] > 0)
        assert waits(reader.pid)
        assert_ends(reader, signal.SIGKILL)


@contextmanager
def elsewhere() -> Iterator[int]:
    """A process in a pid and mount namespace of its own, which sees itself and what is started beside it, and nothing else."""
    command = ["unshare", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child", "sh", "-c", "echo begun; exec sleep 600"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        assert outer.stdout.readline() == "begun\n"
        yield int(Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text())
        outer.kill()


def test_a_reader_that_the_node_cannot_see_is_let_go_at_any_signal(headrace: Headrace, origin: Origin) -> None:
    """It is of another pid namespace. Whether it dies of the signal the node can't find out, and one that can't be killed would be worse."""
    with elsewhere() as inside:
        headrace.prefix = ["nsenter", f"--target={inside}", "--mount", "--pid", "--"]
        path = mounted(headrace, origin, LARGE, "", late=60)
        enter = ["nsenter", f"--target={inside}", "--mount", "--"]
        done = subprocess.run(
            [*enter, sys.executable, "-c", READS, str(path), str(LARGE), "restart", "0.3"], capture_output=True, text=True, check=True, timeout=30
        )
        assert done.stdout.split()[:2] == ["-1", str(errno.EINTR)]
        assert headrace.counters()["interrupted_reads_total"] >= 1
        headrace.run("umount", str(path.parent))
        wait_until("the end of node and keeper", lambda: not headrace.processes())
        headrace.prefix = []

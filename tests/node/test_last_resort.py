"""What node and keeper say never raises, whatever has become of their log."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from headrace.node.last_resort import never_failing

# Everything that speaks there; its exit code tells whether anything of it raised, the last flush included.
_TALKATIVE = """
import logging, sys, threading, warnings
from headrace.node.last_resort import swallow_errors_of_stderr
swallow_errors_of_stderr()
def fail():
    raise ValueError("x" * 100_000)
for _ in range(3):
    print("a line", file=sys.stderr, flush=True)
    sys.stderr.write("x" * 100_000)
    logging.warning("a warning")
    warnings.warn("another " + "x" * 100_000)
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    sys.excepthook(*(type(e := OSError("z")), e, None))
sys.stderr.write("unfinished")
"""


@pytest.mark.parametrize("log", ["a full disk", "a pipe without a reader", "nothing"])
def test_whatever_becomes_of_the_log_nothing_raises(log: str) -> None:
    if log == "a full disk":
        descriptor = os.open("/dev/full", os.O_WRONLY)
    else:
        read, descriptor = os.pipe()
        os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", _TALKATIVE], stderr=descriptor, check=False, preexec_fn=(lambda: os.close(2)) if log == "nothing" else None
    )
    os.close(descriptor)
    assert done.returncode == 0


def test_what_can_be_written_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    stream = never_failing(2)
    print("a line that ends, and \udcff", file=stream)
    stream.write("one that does not")
    assert capfd.readouterr().err == "a line that ends, and \\udcff\n"
    stream.flush()
    assert capfd.readouterr().err == "one that does not"


def test_a_pipe_that_would_block_loses_lines_and_raises_nothing() -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    stream = never_failing(write)
    for _ in range(100):
        print("x" * 10_000, file=stream, flush=True)
    os.close(read)
    os.close(write)

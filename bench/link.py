"""Links of a known rate: a network namespace for whoever reads, and a pair of veth to it, shaped on the server's side.

The server stays in the namespace of the bench. What it sends is held to the rate by a token bucket (tbf); requests are
not limited. The rate is of frames, so at an MTU of 1500 bytes 95.7 % of it can be bytes of files. This kernel has no
netem: distance is `headrace.testing.delay`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

MTU = 1500
GIGABIT = 10**9
_NETWORK = "10.213"
_BURST = 256 << 10  # bytes; a frame before segmentation has up to 64 KiB
_QUEUE_SECONDS = 0.02  # what a switch holds before it drops


@dataclass(frozen=True)
class Link:
    """One or more lines between the bench (`server_address` on the first) and a namespace."""

    namespace: str
    bits_per_second: int  # of each line
    lines: int

    @property
    def server_address(self) -> str:
        return f"{_NETWORK}.0.1"

    @property
    def addresses(self) -> list[str]:
        """In the namespace, one a line."""
        return [f"{_NETWORK}.{line}.2" for line in range(self.lines)]

    def __str__(self) -> str:
        return f"{self.lines} × veth, tbf {self.bits_per_second / GIGABIT:g} Gbit/s burst {_BURST >> 10} KiB, MTU {MTU}"


@contextmanager
def link(bits_per_second: int, lines: int = 1) -> Iterator[Link]:
    """Everything is gone at the end; one at a time on a machine, for the addresses are fixed."""
    name = f"bench-{os.getpid()}"
    _ip("netns", "add", name)
    try:
        for line in range(lines):
            _line(name, line, bits_per_second)
        yield Link(name, bits_per_second, lines)
    finally:
        for line in range(lines):  # with its peer; deleting the namespace would do so later
            subprocess.run(["ip", "link", "delete", f"bench{line}"], check=False, capture_output=True)
        _ip("netns", "delete", name)


def _line(name: str, line: int, bits_per_second: int) -> None:
    near, far = f"bench{line}", "line" + str(line)
    gateway, address, table = f"{_NETWORK}.{line}.1", f"{_NETWORK}.{line}.2", str(100 + line)
    _ip("link", "add", near, "mtu", str(MTU), "type", "veth", "peer", "name", far, "mtu", str(MTU), "netns", name)
    _ip("address", "add", f"{gateway}/24", "dev", near)
    _ip("link", "set", near, "up")
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", name, "address", "add", f"{address}/24", "dev", far)
    _ip("-n", name, "link", "set", far, "up")
    # What is sent from an address leaves on its line, wherever it goes: or all lines would answer through the first.
    _ip("-n", name, "rule", "add", "from", address, "table", table)
    _ip("-n", name, "route", "add", "default", "via", gateway, "dev", far, "table", table)
    queue = int(bits_per_second / 8 * _QUEUE_SECONDS) + _BURST
    shape = ["rate", f"{bits_per_second}bit", "burst", f"{_BURST}b", "limit", f"{queue}b"]
    subprocess.run(["tc", "qdisc", "add", "dev", near, "root", "tbf", *shape], check=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)

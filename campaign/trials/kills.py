"""Node and keeper are killed, again and again, under eight programs that read: none of them may notice anything but a pause.

The node is also killed while it tells the kernel that a mount has switched: the notification waits for locks that readers hold.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Figure, at_least, at_most
from campaign.plan import Plan
from campaign.readers import Readers
from headrace import settings as configuration
from headrace.errors import HeadraceError
from headrace.node.client import connect
from headrace.testing.content import content
from headrace.testing.origin import Origin, failing_origin
from support.headrace import Headrace, wait_until

TITLE = "kills of node and keeper under eight programs that read"
KILLS = 100  # of the node, and as many of the keeper, and as many of both in turn
WHILE_SWITCHING = 100
_WAYS = {**{f"random {n}": 1 for n in range(3)}, **{f"sequential {n}": 1 for n in range(3)}, **{f"mapped {n}": 1 for n in range(2)}}
_SIZES = [100_000, (1 << 20) - 1, *[3 << 20] * 4, *[5_000_003] * 4, 24 << 20]
_STALL = 30  # seconds that no read may take
_FINISH = 60.0


class Victims:
    """Kills, waits for the successor, and remembers how long it took."""

    def __init__(self, headrace: Headrace) -> None:
        self._settings = configuration.load(environ=headrace.environment)
        self.pauses: dict[str, list[float]] = {"pid": [], "keeper_pid": []}

    def pid(self, victim: str) -> int:
        """Of `pid`, the node, or `keeper_pid`."""
        client = connect(self._settings)
        assert client is not None
        with client:
            return int(client.call("status")["node"][victim])

    def forget(self) -> None:
        """Drops what is cached, so that reads are cold again."""
        client = connect(self._settings)
        assert client is not None
        with client:
            client.call("cache.evict", paths=[], all=True)

    def kill(self, victim: str, delay: float = 0.0) -> None:
        old = self.pid(victim)
        time.sleep(delay)
        os.kill(old, signal.SIGKILL)
        began = time.monotonic()
        wait_until(f"a successor of {victim}", lambda: self._answers(victim) not in (None, old), _STALL)
        self.pauses[victim].append(time.monotonic() - began)

    def _answers(self, victim: str) -> int | None:
        try:
            return self.pid(victim)
        except HeadraceError:  # it broke off: the one that was killed
            return None


def run(plan: Plan) -> list[Figure]:
    chance = random.Random(plan.seed)
    with failing_origin("models", seed=plan.seed) as origin:
        headrace = Headrace(plan.directory, origin.access.environment())
        headrace.environment["HEADRACE_DEADLINE"] = "120"
        try:
            reference = _fill(plan, origin)
            mount = headrace.mount("s3://models/m")
            victims = Victims(headrace)
            with Readers(mount, reference, _WAYS, plan.seed) as readers:
                _kill(plan.count(KILLS), victims, lambda _: "pid", chance)
                _kill(plan.count(KILLS), victims, lambda _: "keeper_pid", chance)
                _kill(plan.count(KILLS), victims, lambda turn: ("pid", "keeper_pid")[turn % 2], chance)
                with _switching(headrace, origin, mount) as switches:
                    _kill(plan.count(WHILE_SWITCHING), victims, lambda _: "pid", chance)
                report = readers.finish(_FINISH)
            assert switches, "the mount was never switched"
        finally:
            headrace.stop()
    return [
        Figure("kills of the node", "", (len(victims.pauses["pid"]),), at_least(plan.count(KILLS) + plan.count(WHILE_SWITCHING))),
        Figure("kills of the keeper", "", (len(victims.pauses["keeper_pid"]),), at_least(plan.count(KILLS))),
        Figure("switches of the mount meanwhile", "", (len(switches),)),
        Figure("programs that read", "", (report.processes,)),
        Figure("opens", "", (report.opens,)),
        Figure("reads", "", (report.reads,)),
        Figure("bytes compared", "MB", (report.bytes / 1e6,)),
        Figure("calls with wrong bytes", "", (report.wrong_bytes,), at_most(0)),
        Figure("calls that failed", "", (report.errors,), at_most(0)),
        Figure("longest call", "s", (report.longest,), at_most(_STALL)),
        *_pauses("from the kill of the node to its successor's answer", victims.pauses["pid"]),
        *_pauses("from the kill of the keeper to its successor's", victims.pauses["keeper_pid"]),
    ]


def _pauses(what: str, seconds: list[float]) -> list[Figure]:
    return [Figure(what, "s", tuple(seconds)), Figure("… at most", "s", tuple(seconds), at_most(_STALL), worst=True)]


def _fill(plan: Plan, origin: Origin) -> Path:
    reference = plan.directory / "reference"
    reference.mkdir()
    for number, size in enumerate(_SIZES):
        data = content(plan.seed + number, 0, size)
        (reference / f"f{number}").write_bytes(data)
        origin.bucket("models").put(f"m/f{number}", data)
    return reference


def _kill(count: int, victims: Victims, whom: Callable[[int], str], chance: random.Random) -> None:
    for turn in range(count):
        if turn % 3 == 0:
            victims.forget()
        victims.kill(whom(turn), delay=chance.uniform(0, 0.05))


@contextmanager
def _switching(headrace: Headrace, origin: Origin, mount: Path) -> Iterator[list[str]]:
    """Refreshes the mount all the time, with another small object each time; gives the snapshots it was switched to."""
    stop = threading.Event()
    switched: list[str] = []
    settings = configuration.load(environ=headrace.environment)

    def refresh() -> None:
        while not stop.is_set():
            origin.bucket("models").put("m/other", b"%d" % len(switched))
            try:
                client = connect(settings)
                assert client is not None
                with client:
                    switched.append(client.call("refresh", directory=str(mount))["snapshot"])
            except HeadraceError:  # the node was killed meanwhile
                stop.wait(0.01)

    thread = threading.Thread(target=refresh)
    thread.start()
    try:
        yield switched
    finally:
        stop.set()
        thread.join(_FINISH)
        assert not thread.is_alive(), "a refresh hangs"

"""A Headrace with an origin that can fail, shared by all sequences of a run: each has a bucket of its own."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace import settings as configuration
from headrace.node.client import connect
from headrace.testing.faults import POSSIBLE, Fault
from headrace.testing.origin import Origin, failing_origin
from support.headrace import Headrace, wait_until

# What a thousand operations must bring at least, so that luck, or a rule that never applies, empties no trial.
MINIMA = {
    "faults given": 150,
    "reads: pread": 200,
    "reads: direct pread": 100,
    "reads: sendfile": 200,
    "reads: mapped": 200,
    "reads: held mapping": 300,
    "reads: whole": 200,
    "reads: headrace.open": 10,
    "reads unanswered at a kill": 25,
    "kill of the node": 25,
    "kill of the keeper": 12,
    "evict": 20,
    "refresh": 20,
    "rollback": 20,
    "restart": 3,
}


def minima(operations: int) -> dict[str, int]:
    """Half of `MINIMA` for so many operations: the suite goes on until it has them, a trial ends when its time is up."""
    return {what: least * operations // 2000 for what, least in MINIMA.items()}


class World:
    """Made by `world()`."""

    def __init__(self, headrace: Headrace, origin: Origin) -> None:
        self.headrace = headrace
        self.origin = origin
        self.done: Counter[str] = Counter()  # operations by name
        self.compared: Counter[str] = Counter()  # reads by way
        self.unanswered = 0  # reads that the node had taken and not answered when it, or the keeper, was killed
        self._settings = configuration.load(environ=headrace.environment)
        self._buckets = 0
        self._versions = 0

    def bucket(self) -> str:
        """A new bucket."""
        self._buckets += 1
        name = f"models-{self._buckets}"
        self.origin.bucket(name)
        return name

    def version(self) -> int:
        """A number that no version had before."""
        self._versions += 1
        return self._versions

    def call(self, method: str, **params: Any) -> Any:
        """Asks the node, as commands do."""
        client = connect(self._settings)
        assert client is not None, f"no node runs\n{self.headrace.log()}"
        with client:
            return client.call(method, **params)

    def told(self) -> str:
        """What the node says of itself, for whoever looks for a cause."""
        events = [f"{event['kind']}: {event['object']}: {event['message']}" for event in self.call("status")["events"]]
        return "\n".join([*events, self.headrace.log()])

    def waiting(self) -> int:
        """Reads that the node has taken and not answered."""
        return int(self.call("status")["counters"]["reads_waiting"])

    def kill(self, victim: str) -> None:
        """Kills `pid`, the node, or `keeper_pid`, and waits for the successor."""
        old = self.call("status")["node"][victim]
        os.kill(old, signal.SIGKILL)
        wait_until(f"a successor of {victim}", lambda: self.call("status")["node"][victim] != old)

    def tally(self) -> dict[str, int]:
        """How often each thing that `MINIMA` names has come about."""
        return {
            **{f"reads: {way}": count for way, count in self.compared.items()},
            **self.done,
            "reads unanswered at a kill": self.unanswered,
            "faults given": self.origin.faults.total,
        }

    def missing(self) -> dict[str, int]:
        """What came about less often than `MINIMA` says."""
        tally = self.tally()
        return {what: tally.get(what, 0) for what, least in MINIMA.items() if tally.get(what, 0) < least}

    def end(self) -> None:
        """Ends keeper and node in good order; nothing may be mounted."""
        self.call("stop")
        wait_until("the end of the node", lambda: not self.headrace.processes())


@contextmanager
def world(directory: Path, seed: int) -> Iterator[World]:
    """A world below `directory`; its origin gives temporary faults by `seed` when told to."""
    with failing_origin(seed=seed) as origin:
        # A stall costs the client's patience, many seconds each: the trial `faults` has them.
        origin.faults.kinds = dict.fromkeys(POSSIBLE["range"], 1.0) | {Fault.STALL: 0.0}
        origin.faults.late, origin.faults.cap = 0.05, 16 << 20
        headrace = Headrace(directory, origin.access.environment())
        headrace.environment |= {"HEADRACE_DEADLINE": "60", "HEADRACE_IDLE": "600"}
        ours = {name: value for name, value in headrace.environment.items() if name.startswith(("AWS_", "HEADRACE_"))}
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)  # the Python door speaks for the process it is in
        try:
            yield World(headrace, origin)
        finally:
            origin.faults.clear()
            headrace.stop()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value

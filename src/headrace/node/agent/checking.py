"""Checking a connection because the control plane asks this node to: an endpoint may be within reach of the region only.

The question holds keys: it goes from the control plane to the process that checks, through memory, and is kept nowhere. While that runs, the
lease is renewed; a refusal says that another node checks by now, or that nobody waits any more, and ends it.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from headrace.checking.apart import Apart
from headrace.node.agent.backoff import Backoff
from headrace.node.agent.desired import Check, Desired
from headrace.node.agent.listing import PASSING
from headrace.node.agent.workers import Workers

if TYPE_CHECKING:
    from headrace.client import ControlClient

_LOOK_SECONDS = 0.2
# What the check itself needs to end: to remove what it wrote.
_TIDY_SECONDS = 15.0

Findings = list[dict[str, Any]]


class Checking:
    """One check, until it is answered or nobody asks any more."""

    def __init__(self, control: ControlClient, asked: Check) -> None:
        self.asked = asked
        self.stop = threading.Event()
        self._control = control

    def run(self) -> None:
        from headrace.client import ControlFailure

        backoff, findings = Backoff(), None
        while not self.stop.is_set():
            try:
                if findings is None:
                    findings = self._found(self._control.node_check(self.asked.id, self.asked.lease))
                if findings is not None:
                    passed = all(one["level"] != "error" for one in findings)
                    self._control.answer_check(self.asked.id, {"lease": self.asked.lease, "passed": passed, "findings": findings})
                return
            except ControlFailure as failure:
                if failure.status not in PASSING:
                    print(f"node: the check {self.asked.id} is not wanted: {failure.message}", file=sys.stderr, flush=True)
                    return
                self.stop.wait(backoff.next())

    def _found(self, question: dict[str, Any]) -> Findings | None:
        """What was found; None where it was broken off."""
        renew, until = question["renew_seconds"], time.monotonic() + question["seconds"] + _TIDY_SECONDS
        due = time.monotonic()
        work = Apart(question)
        try:
            while not self.stop.is_set() and time.monotonic() < until:
                if (found := work.wait(_LOOK_SECONDS)) is not None:
                    return found
                if time.monotonic() >= due:
                    due = time.monotonic() + renew
                    self._renew()
        finally:
            work.end()
        return None

    def _renew(self) -> None:
        """Raises ControlFailure where it is refused. One that is not heard changes nothing yet."""
        from headrace.client import ControlFailure

        try:
            self._control.renew_check(self.asked.id, self.asked.lease)
        except ControlFailure as failure:
            if failure.status not in PASSING:
                raise


class Checks:
    """Those that this node is asked for."""

    def __init__(self, control: ControlClient, workers: Workers) -> None:
        self._control = control
        self._workers = workers
        self._jobs: dict[Check, Checking] = {}

    def apply(self, desired: Desired) -> None:
        """Begins what is asked for, and ends what no longer is."""
        for known in [one for one in self._jobs if one not in desired.checks]:
            self._jobs.pop(known).stop.set()
        for one in desired.checks:
            if one not in self._jobs:
                self._jobs[one] = job = Checking(self._control, one)
                self._workers.submit(job.run)

    def stop(self) -> None:
        for job in list(self._jobs.values()):
            job.stop.set()

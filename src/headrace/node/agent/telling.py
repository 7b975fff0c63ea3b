"""What the node tells: that it lives, with every heartbeat, how far it is, about every two seconds while that changes, and what it has moved, about
once a minute."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from headrace.node.agent.backoff import Backoff
from headrace.node.agent.contact import Contact

if TYPE_CHECKING:
    from headrace.client import ControlClient
    from headrace.node.agent.traffic import Traffic

_EVERY_SECONDS = 2.0
# What has changed for the better is told at once, but not more often than this.
_LEAST_SECONDS = 0.2
# Everything is told again now and then: the control plane may have lost it, or have let go of it meanwhile.
_AGAIN_SECONDS = 60.0
_HELD_MAX = 500
_HEARTBEAT_SECONDS_MAX = 300.0
# What was moved is told, when that has changed, after about so many heartbeats: a minute. Nodes that move the same volumes add to the same
# rows, so no two are in step.
_BEATS_OF_TRAFFIC = (5.0, 7.0)

Document = dict[str, Any]


class Telling:
    """A thread of its own, so that a pull never waits for an answer."""

    def __init__(
        self,
        control: ControlClient,
        contact: Contact,
        report: Callable[[], Document],
        held: Callable[[], list[Document]],
        listing: Callable[[], list[str]],
        kept: Callable[[], dict[str, list[Document]]],
        traffic: Traffic,
    ) -> None:
        self._control = control
        self._contact = contact
        self._report = report
        self._held = held
        self._listing = listing
        self._kept = kept
        self._traffic = traffic
        self._traffic_due = 0.0
        self._wake = threading.Event()
        self._told: dict[str, Document] = {}
        self._told_kept: dict[str, list[Document]] = {}
        self._told_all = float("-inf")
        self._beat_due = 0.0
        self._every = 10.0

    def soon(self) -> None:
        """Something has changed that is worth telling now."""
        self._wake.set()

    def again(self) -> None:
        """Tells everything anew."""
        self._told_all = float("-inf")

    def tell_end(self, seconds: float) -> None:
        """At the agent's end: what was moved since it was told last. Waits so long for the answer and no longer."""
        telling = threading.Thread(target=self._tell_at_end, daemon=True)
        telling.start()
        telling.join(seconds)

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`. Failures are tried again, ever more slowly."""
        from headrace.client import ControlFailure

        backoff = Backoff()
        while not stopping.is_set():
            pause = _EVERY_SECONDS
            try:
                self._tell()
                backoff.reset()
            except ControlFailure as failure:
                self._contact.failed(failure.message)
                self._told.clear()
                self._told_kept.clear()
                pause = backoff.next()
            if self._wake.wait(pause):
                self._wake.clear()
                stopping.wait(_LEAST_SECONDS)

    def _tell(self) -> None:
        if time.monotonic() >= self._beat_due:
            answer = self._control.heartbeat(self._report())
            self._every = min(max(float(answer["heartbeat_seconds"]), 1.0), _HEARTBEAT_SECONDS_MAX)
            self._beat_due = time.monotonic() + self._every
            self._contact.heard()
        self._tell_progress()
        if time.monotonic() >= self._traffic_due:
            self._traffic.tell(self._tell_traffic)

    def _tell_traffic(self, epoch: str, volumes: list[Document]) -> None:
        # Also where it fails: the sums are told as well a minute later, and nothing else waits for them.
        beats = random.uniform(*_BEATS_OF_TRAFFIC)  # noqa: S311 - spread, no secret
        self._traffic_due = time.monotonic() + beats * self._every
        self._control.tell_traffic(epoch, volumes)

    def _tell_at_end(self) -> None:
        from headrace.client import ControlFailure

        try:
            self._traffic.tell(self._control.tell_traffic)
        except ControlFailure as failure:
            print(f"node: what was moved last is not counted: {failure.message}", file=sys.stderr, flush=True)

    def _tell_progress(self) -> None:
        if time.monotonic() - self._told_all > _AGAIN_SECONDS:
            self._told.clear()
            self._told_kept.clear()
            self._told_all = time.monotonic()
        held = self._held()
        news = [document for document in held if self._told.get(document["acceleration"]) != document]
        listing = self._listing()
        for some in _pieces(news, _HELD_MAX):
            self._control.progress(some)
            self._contact.heard()
            self._told |= {document["acceleration"]: document for document in some}
        if listing:
            self._control.progress([], listing[:_HELD_MAX])
        self._tell_kept()
        names = {document["acceleration"] for document in held}
        self._told = {name: document for name, document in self._told.items() if name in names}

    def _tell_kept(self) -> None:
        kept = self._kept()
        for name, documents in kept.items():
            if self._told_kept.get(name) != documents:
                self._control.progress([], [], documents[:_HELD_MAX])
                self._told_kept[name] = documents
        self._told_kept = {name: documents for name, documents in self._told_kept.items() if name in kept}


def _pieces(documents: Sequence[Document], most: int) -> list[list[Document]]:
    rest = iter(documents)
    pieces = []
    while piece := list(islice(rest, most)):
        pieces.append(piece)
    return pieces

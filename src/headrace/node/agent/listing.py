"""Listing an origin because the control plane asks this node to, and publishing what was found.

A listing has a number, which is its fencing token: an answer that comes late is refused, and that is the end of it. While the control plane
is away, what was found is kept and published when it is back, unless another node was asked meanwhile.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace._engine import Engine, EngineError
from headrace.errors import HeadraceError
from headrace.node.agent.backoff import Backoff
from headrace.node.agent.contact import plain
from headrace.node.agent.desired import Desired, Item, Origin
from headrace.node.agent.origins import REFUSED, Origins
from headrace.node.agent.snapshots import PART_BYTES, Snapshots, digest_of, parts_of
from headrace.node.agent.workers import Workers
from headrace.node.listing import nothing_under, spoken

if TYPE_CHECKING:
    from headrace.client import ControlClient

_LIST_WORKERS = 8
_REASON_MAX = 255
# Answers to which the same question will be answered otherwise later.
PASSING = frozenset({0, 401, 408, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Tools:
    """What a listing works with."""

    engine: Engine
    control: ControlClient
    origins: Origins
    snapshots: Snapshots


def list_origin(tools: Tools, origin: Origin, target: Path, stop: threading.Event) -> dict[str, Any]:
    """Lists an origin into a file; how many files and bytes there are. Raises EngineError or HeadraceError, also where there is nothing."""
    name = tools.origins.open(origin)

    def walk() -> dict[str, Any]:
        return tools.engine.list(name, origin.prefix, str(target), _LIST_WORKERS, lambda _files, _bytes: not stop.is_set())

    try:
        report = walk()
    except EngineError as error:
        if error.code not in REFUSED:
            raise spoken(error, origin.endpoint) from error
        # They may have been replaced since they were fetched.
        tools.origins.open(origin, anew=True)
        report = walk()
    if report["files"] == 0:
        raise nothing_under(tools.engine, name, {"bucket": origin.bucket, "prefix": origin.prefix})
    return report


class Listing:
    """One listing of one acceleration."""

    def __init__(self, tools: Tools, item: Item) -> None:
        self.item = item
        self.number = item.list
        self.done = False
        self.stop = threading.Event()
        self._tools = tools
        self._candidate = tools.snapshots.directory / f"candidate-{item.id}-{item.list}.snap"
        self._report: dict[str, Any] | None = None
        self._reason = ""

    def run(self) -> None:
        """Until it is answered, or nobody asks any more."""
        from headrace.client import ControlFailure

        backoff = Backoff()
        try:
            while not self.stop.is_set():
                try:
                    self._answer()
                    return
                except ControlFailure as failure:
                    if failure.status not in PASSING:
                        _log(f"the listing of {self.item.origin.volume} is not wanted: {failure.message}")
                        return
                    self.stop.wait(backoff.next())
        finally:
            self._candidate.unlink(missing_ok=True)
            self.done = True

    def _answer(self) -> None:
        from headrace.client import ControlFailure

        if self._report is None and not self._reason:
            try:
                self._report = self._list()
            except ControlFailure:
                raise
            except (EngineError, HeadraceError) as error:
                if self.stop.is_set():
                    return
                self._reason = plain(error.message, _REASON_MAX)
                _log(f"listing {self.item.origin.uri} for {self.item.origin.volume}: {error.message}")
        if self._report is None:
            self._tools.control.listing_failed(self.item.id, self.number or 0, self._reason)
        else:
            self._publish(self._report)

    def _list(self) -> dict[str, Any]:
        report = list_origin(self._tools, self.item.origin, self._candidate, self.stop)
        parts_of(self._candidate)
        return report

    def _publish(self, report: dict[str, Any]) -> None:
        """A list with the same files as the current version's is that one: it is told again, and nothing is sent."""
        path = self._same_as_current() or self._candidate
        digest, parts = digest_of(path), parts_of(path)
        if path == self._candidate:
            self._send(digest, parts)
        counts = {name: report[name] for name in ("files", "bytes", "skipped")}
        self._tools.control.publish_snapshot(self.item.id, {"listing": self.number, "digest": digest, "parts": parts, **counts})

    def _same_as_current(self) -> Path | None:
        current = self.item.version(self.item.current)
        if current is None:
            return None
        try:
            path = self._tools.snapshots.get(current, self.item.origin)
            change = Engine.diff(path, str(self._candidate), 0)
        except (EngineError, HeadraceError) as error:
            # Then it is published as something new, which is never wrong.
            _log(f"the current list of {self.item.origin.volume} can't be compared: {error.message}")
            return None
        return None if change["new"] or change["changed"] or change["gone"] else Path(path)

    def _send(self, digest: str, parts: int) -> None:
        with self._candidate.open("rb") as file:
            for part in range(parts):
                if self.stop.is_set():
                    return
                self._tools.control.send_snapshot_part(self.item.id, self.number or 0, digest, part, file.read(PART_BYTES))


class Listings:
    """Those that this node is asked for; a few at a time."""

    def __init__(self, tools: Tools, workers: Workers, told: Callable[[], None]) -> None:
        self._tools = tools
        self._workers = workers
        self._told = told
        self._jobs: dict[str, Listing] = {}

    def apply(self, desired: Desired) -> None:
        """Begins what is asked for, and ends what no longer is."""
        asked = {item.id: item for item in desired.items if item.list is not None}
        for identifier, job in list(self._jobs.items()):
            item = asked.get(identifier)
            if item is None or item.list != job.number:
                job.stop.set()
                del self._jobs[identifier]
        for identifier, item in asked.items():
            if identifier not in self._jobs:
                self._jobs[identifier] = job = Listing(self._tools, item)
                self._workers.submit(job.run)
                self._told()

    def active(self) -> list[str]:
        """Ids of accelerations that are listed now, or wait for it."""
        return [identifier for identifier, job in list(self._jobs.items()) if not job.done]

    def stop(self) -> None:
        for job in list(self._jobs.values()):
            job.stop.set()


def _log(text: str) -> None:
    print(f"node: {text}", file=sys.stderr, flush=True)

"""The agent: asks what should be, brings it about, and goes on with what it has while the control plane is away.

Four threads beside the workers. One waits in a long poll and keeps the last answer on disk; one brings about what the newest answer says,
step by step, so that a step which fails is taken again later and one that is done is not; one tells; one looks after tasks. Doing all of it once more
changes nothing, so a node that was killed begins with the last answer, as if it had just come.
"""

from __future__ import annotations

import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from headrace._engine import EngineError, __version__
from headrace.client import ControlClient, ControlFailure
from headrace.errors import HeadraceError
from headrace.node.agent import holding, listing
from headrace.node.agent.backoff import Backoff
from headrace.node.agent.checking import Checks
from headrace.node.agent.comparing import Comparisons
from headrace.node.agent.contact import Contact
from headrace.node.agent.desired import Desired, Last, parse
from headrace.node.agent.identity import Identity
from headrace.node.agent.kept import KeptVersions
from headrace.node.agent.origins import Origins, name_of
from headrace.node.agent.protecting import Protecting
from headrace.node.agent.releasing import Releasing
from headrace.node.agent.room import Room
from headrace.node.agent.snapshots import Snapshots, spelled
from headrace.node.agent.tasks import Tasks
from headrace.node.agent.telling import Telling
from headrace.node.agent.traffic import Counts, Traffic
from headrace.node.agent.workers import Workers
from headrace.node.task_door import Door
from headrace.node.task_mounts import lists_in_use

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from headrace.node.service import Node

# Less than what the control plane and proxies let a request wait.
_WAIT_SECONDS = 25.0
_STEP_SECONDS = 1.0
_SOON_SECONDS = 0.5
_LISTINGS_MAX = 4
_CHECKS_MAX = 4
# Together they share the engine's budget of memory. One that waits for its turn makes no progress, which the control plane takes for an ill sign.
_PULLS_MAX = 16
_END_SECONDS = 2.0


def report(node: Node, applied: int, counts: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a node tells of itself."""
    usage = node.engine.cache_usage()
    failed = [directory["path"] for directory in usage["directories"] if directory["failed"]]
    return {
        "version": __version__, "capacity_bytes": usage["limit_bytes"], "used_bytes": usage["allocated_bytes"], "applied": applied,
        "health": {"failed_directories": failed, **(counts or {})},
    }  # fmt: skip


class Agent:
    """One enrolled node. `before` is what its engine had counted when it joined."""

    def __init__(self, node: Node, identity: Identity, directory: Path, before: Mapping[str, Counts]) -> None:
        self._node = node
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._control = ControlClient(identity.url, identity.token, certificates=identity.certificates)
        self._contact = Contact()
        self._last = Last(directory)
        self._desired = self._last.read()
        self._applied = 0
        self._fetched: Desired | None = None
        self._missing: frozenset[tuple[str, str]] = frozenset()
        self._complaints: set[str] = set()
        self._received = 0.0
        traffic = Traffic(node.engine, before)
        self._origins = Origins(node.engine, node.settings, self._control, node.kept, traffic)
        self._snapshots = Snapshots(node.settings.snapshots, self._control)
        self._workers = [Workers("listing", _LISTINGS_MAX), Workers("holding", _PULLS_MAX), Workers("looking", 1), Workers("checking", _CHECKS_MAX)]
        listing_tools = listing.Tools(node.engine, self._control, self._origins, self._snapshots)
        self._listings = listing.Listings(listing_tools, self._workers[0], lambda: self._telling.soon())
        self._comparisons = Comparisons(listing_tools, self._workers[0])
        self._checks = Checks(self._control, self._workers[3])
        room = Room(node.engine, node.settings.cache_reserve)
        protecting = Protecting(node.engine, room)
        self._kept = KeptVersions(listing_tools, self._workers[2], protecting, self._wake.set)
        tools = holding.Tools(
            node.engine, node.settings, self._origins, self._snapshots, room, lambda: self._telling.soon(), protecting.planned
        )  # fmt: skip
        self._holding = holding.Holding(tools, self._workers[1])
        self._releasing = Releasing(node, self._snapshots)
        self._telling = Telling(self._control, self._contact, self._report, self._holding.told, self._listings.active, self._kept.told, traffic)
        self._tasks = Tasks(node, identity.node_id, self._control, self._contact, self._origins, self._snapshots, self._heard)
        self._door = Door(node.settings.task_socket, self._tasks, {"headrace": __version__, "node": identity.node_id, "region": identity.region})
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), name=name, daemon=True)
            for name, work in (
                ("asking", self._ask),
                ("applying", self._apply),
                ("telling", lambda: self._telling.run(self._stopping)),
                ("tasks", lambda: self._tasks.run(self._stopping)),
            )
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        try:
            self._door.open()
        except (HeadraceError, OSError) as error:
            self._tasks.happened("task-door", f"tasks can't be mounted here: {getattr(error, 'message', error)}")

    def take_no_tasks(self) -> None:
        """Closes the task door."""
        self._door.close()

    def end(self, *, stopped: bool) -> None:
        """Breaks everything off; waits a moment for it. Where the node is `stopped`, its tasks have ended."""
        self.take_no_tasks()
        self._stopping.set()
        self._wake.set()
        self._tasks.soon()
        if stopped:
            self._tasks.tell_end(_END_SECONDS)
        self._telling.soon()
        self._listings.stop()
        self._comparisons.stop()
        self._checks.stop()
        self._holding.stop()
        for workers in self._workers:
            workers.end()
        until = time.monotonic() + _END_SECONDS
        while self._holding.in_use() and time.monotonic() < until:
            time.sleep(0.02)
        self._telling.tell_end(_END_SECONDS)
        self._origins.keep_only(())
        self._control.close()

    def status(self) -> dict[str, Any]:
        """For `headrace status`."""
        desired = self._desired
        return {**self._contact.describe(), "accelerations": len(desired.items) if desired else 0, **self._holding.counts(),
                **self._tasks.counts()}  # fmt: skip

    def events(self) -> list[dict[str, Any]]:
        """Newest first."""
        return self._tasks.events()

    def _heard(self) -> tuple[Desired | None, float]:
        """What should be, and when (monotonic time) this was heard; one that comes from the disk was heard at 0."""
        return self._desired, self._received

    def _guarded(self, work: Any) -> None:
        """A thread that ends while it shouldn't is begun again, with the cause in the log."""
        backoff = Backoff()
        while not self._stopping.is_set():
            try:
                work()
            except Exception as error:
                if self._stopping.is_set():
                    return
                traceback.print_exc(file=sys.stderr)
                self._contact.failed(f"the agent failed: {type(error).__name__}; the node's log has the details")
                self._stopping.wait(backoff.next())

    def _report(self) -> dict[str, Any]:
        return report(self._node, self._applied, dict(self._holding.counts()))

    def _ask(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            known, asked = self._desired.version if self._desired else -1, time.monotonic()
            try:
                # The first question is answered at once, so that what changed meanwhile, and whether anybody is there, is soon known.
                document = self._control.desired(known, _WAIT_SECONDS if self._contact.describe()["heard"] else 0)
                desired = parse(document)
            except HeadraceError as error:
                self._contact.failed(error.message)
                self._stopping.wait(backoff.next())
                continue
            if self._stopping.is_set():
                return  # it may have left, and forgotten what should be
            backoff.reset()
            self._contact.heard()
            self._take(desired, document)
            if desired.version == known and time.monotonic() - asked < _STEP_SECONDS:
                self._stopping.wait(_STEP_SECONDS)  # whoever answers does not wait for a change

    def _take(self, desired: Desired, document: Any) -> None:
        if self._desired is None or desired.version != self._desired.version:
            self._telling.again()
        self._desired, self._received = desired, time.monotonic()
        self._tasks.soon()
        try:
            self._last.write(document)
        except OSError as error:
            # It is brought about all the same: on a full disk, letting go may be what it says.
            print(f"node: what should be is not kept on disk: {error}", file=sys.stderr, flush=True)
        self._wake.set()

    def _apply(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            desired, pause = self._desired, _STEP_SECONDS
            if desired is not None:
                missing, released = self._step(desired)
                if missing:
                    pause = backoff.next()
                else:
                    backoff.reset()
                    pause = _STEP_SECONDS if released else _SOON_SECONDS
                if released and not missing:
                    self._applied = desired.version
            self._wake.wait(pause)
            self._wake.clear()

    def _step(self, desired: Desired) -> tuple[bool, bool]:
        """Brings about what can be now. Whether lists are still missing, and whether everything is let go of that should be."""
        self._holding.end_others(desired)
        self._listings.apply(desired)
        self._comparisons.apply(desired)
        self._checks.apply(desired)
        wanted = {name_of(item.origin) for item in desired.items}
        self._origins.keep_only(wanted | self._holding.in_use())
        missing = self._missing = self._fetch(desired) if desired is not self._fetched or self._missing else frozenset()
        self._fetched = desired
        released = not self._holding.ending() and self._releasing.step(desired.digests, missing)
        for item in desired.items:
            self._origins.limit(item.origin)
        # Looked at first: what was held until now is a kept version, and is protected before anything takes its room.
        if self._kept.step(desired):
            self._holding.step(desired)
        return bool(missing), released

    def _fetch(self, desired: Desired) -> frozenset[tuple[str, str]]:
        """Fetches lists that are named and not here; the buckets of those that can't be had now."""
        missing, complaints = set(), set()
        for item in desired.items:
            for version in item.versions:
                if self._stopping.is_set():
                    break
                try:
                    self._snapshots.get(version, item.origin)
                except (HeadraceError, EngineError, OSError) as error:
                    missing.add((spelled(item.origin.endpoint), item.origin.bucket))
                    message = getattr(error, "message", str(error))
                    complaints.add(message)
                    if message not in self._complaints and not isinstance(error, ControlFailure):
                        print(f"node: {message}", file=sys.stderr, flush=True)
        self._complaints = complaints
        return frozenset(missing)


def forget(directory: Path, node: Node) -> None:
    """Takes away what an agent keeps on disk. Bytes stay in the cache until their room is needed, and lists as long as mounts of tasks show them."""
    Last(directory).forget()
    in_use = lists_in_use(node)
    for path in (node.settings.snapshots / "control").glob("*.snap"):
        if str(path) not in in_use:
            path.unlink(missing_ok=True)

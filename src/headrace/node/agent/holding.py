"""Holding versions: what is selected of each is pulled into the cache, and looked after from then on.

A pull that is interrupted goes on from what is there: presence is on the disk, so a killed node needs to remember nothing. Where not
everything fits, whole files are held in the order of the list, as many as there is room for beside what is planned for other
accelerations; that is told as complete, with the bytes that are really there.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from headrace._engine import Engine, EngineError
from headrace.errors import HeadraceError
from headrace.node.agent.backoff import Backoff
from headrace.node.agent.contact import plain
from headrace.node.agent.desired import Desired, Item, Version
from headrace.node.agent.origins import Origins, name_of
from headrace.node.agent.room import Plan, Room, fitting
from headrace.node.agent.snapshots import Snapshots
from headrace.node.agent.workers import Workers
from headrace.node.warming import chosen_paths, pull

if TYPE_CHECKING:
    from headrace.settings import Settings

# What was pulled is looked at again this often: a scrubber may have dropped blocks, or room may have come.
_LOOK_AGAIN_SECONDS = 60.0
_ERROR_MAX = 1000


@dataclass
class Reached:
    """How far a node is with a version, as it is told."""

    files: int = 0
    files_total: int = 0
    bytes: int = 0
    bytes_total: int = 0
    complete: bool = False
    error: str = ""

    def document(self, item: Item) -> dict[str, Any]:
        return {"acceleration": item.id, "version": item.hold, **self.__dict__}


@dataclass(frozen=True)
class Tools:
    """What a pull works with."""

    engine: Engine
    settings: Settings
    origins: Origins
    snapshots: Snapshots
    room: Room
    tell: Callable[[], None]
    planned: Callable[[object, Iterable[str]], None]  # told by a hold which objects it is about


class Hold:
    """One version of one acceleration, on this node."""

    def __init__(self, tools: Tools, item: Item, version: Version) -> None:
        self.item = item
        self.reached = Reached()
        self.running = False
        self.due = 0.0
        self.stop = threading.Event()
        self._tools = tools
        self._version = version
        self._backoff = Backoff()
        self._keys_anew = False
        self._told: Plan | None = None

    def run(self) -> None:
        """One pass: looks what is missing and pulls it. `due` says when to come again."""
        self.due = time.monotonic() + _LOOK_AGAIN_SECONDS
        try:
            if not self.stop.is_set():
                self._pass()
                self.due = time.monotonic() + _LOOK_AGAIN_SECONDS
                self._backoff.reset()
        except (EngineError, HeadraceError, OSError) as error:
            self._failed(error)
        finally:
            self.running = False
            if self.stop.is_set():
                self._tools.planned(self, ())
            self._tools.tell()

    def _failed(self, error: Exception) -> None:
        if self.stop.is_set():
            return
        message = str(getattr(error, "message", error))
        if getattr(error, "code", "").startswith("snapshot-"):
            self._tools.snapshots.drop(self._version.digest)  # damaged on this disk: fetched anew
        if message != self.reached.error:
            print(f"node: holding v{self._version.number} of {self.item.origin.volume}: {message}", file=sys.stderr, flush=True)
        # The cause may be keys that were replaced; nothing but another try with new ones tells.
        self._keys_anew = True
        self.reached.error, self.reached.complete = plain(message, _ERROR_MAX), False
        self.due = time.monotonic() + self._backoff.next()

    def _pass(self) -> None:
        selection, origin = self.item.selection, self.item.origin
        snapshot = self._tools.snapshots.get(self._version, origin)
        if selection.kind == "metadata":
            self.reached = Reached(complete=True)
            return
        name = self._tools.origins.add(origin)
        paths = chosen_paths(self._tools.engine, snapshot, [], selection.include, selection.exclude) if selection.kind == "patterns" else []
        plan = self._plan(name, snapshot, paths)
        missing = self._missing(name, snapshot, plan)
        # What was complete and was displaced by something else that is read is not pulled back at its cost.
        if missing and (not self.reached.complete or missing <= self._tools.room.unused()):
            self._tools.origins.open(origin, anew=self._keys_anew)
            self._keys_anew = False
            self._pull(name, snapshot, plan)
        self._measure(name, snapshot, plan, complete=not self.stop.is_set())

    def _plan(self, name: str, snapshot: str, paths: Sequence[str]) -> Plan:
        wanted = self._tools.engine.coverage(name, snapshot, list(paths))
        self.reached.files_total, self.reached.bytes_total = wanted["files"], wanted["bytes"]
        self.reached.files, self.reached.bytes = wanted["files_complete"], wanted["bytes_present"]
        share = self._tools.room
        with share.lock:
            left = share.left(self.item.id)
            plan = Plan(paths, None, wanted["bytes"]) if wanted["bytes"] <= left else fitting(_sizes(snapshot, paths), paths, left)
            if not self.stop.is_set():
                share.planned[self.item.id] = plan.bytes
        if plan != self._told:
            self._told = plan
            chosen = plan.paths if plan.pulled is None else plan.pulled
            everything = plan.pulled is None or plan.pulled
            self._tools.planned(self, self._tools.engine.cache_ids(name, snapshot, list(chosen)) if everything else [])
        return plan

    def _missing(self, name: str, snapshot: str, plan: Plan) -> int:
        """Bytes."""
        if plan.pulled is not None and not plan.pulled:
            return 0
        held = self._tools.engine.coverage(name, snapshot, list(plan.paths if plan.pulled is None else plan.pulled))
        return max(0, held["bytes"] - held["bytes_present"])

    def _pull(self, name: str, snapshot: str, plan: Plan) -> None:
        self.reached.complete = False
        before = self.reached.bytes

        def progress(at: dict[str, int]) -> bool:
            # It counts what was there only when it comes to it.
            self.reached.bytes, self.reached.files = max(before, at["bytes"]), max(self.reached.files, at["files"])
            return not self.stop.is_set()

        paths = plan.paths if plan.pulled is None else plan.pulled
        report = pull(self._tools.engine, name, snapshot, list(paths), progress, reserve_bytes=self._tools.settings.cache_reserve)
        if report["failed"] and not self.stop.is_set():
            key, message = report["failed"][0]
            raise HeadraceError("pull-failed", f"{len(report['failed'])} of {report['files_total']} files can't be held: {key}: {message}")

    def _measure(self, name: str, snapshot: str, plan: Plan, *, complete: bool) -> None:
        held = self._tools.engine.coverage(name, snapshot, list(plan.paths))
        self.reached = Reached(held["files_complete"], held["files"], held["bytes_present"], held["bytes"], complete)


def _sizes(snapshot: str, paths: Sequence[str]) -> list[tuple[str, int]]:
    names = list(paths) or Engine.snapshot_paths(snapshot)
    return [(name, size or 0) for name, size in zip(names, Engine.snapshot_sizes(snapshot, names), strict=True)]


class Holding:
    """All that this node should hold; a few pulls at a time."""

    def __init__(self, tools: Tools, workers: Workers) -> None:
        self._tools = tools
        self._workers = workers
        self._holds: dict[str, Hold] = {}
        self._ending: list[Hold] = []

    def end_others(self, desired: Desired) -> None:
        """Ends what should not be any more, or should be otherwise. It may go on for a moment: see `in_use`."""
        wanted = {item.id: item for item in desired.pulls}
        for identifier, hold in list(self._holds.items()):
            item = wanted.get(identifier)
            if item is None or _what(item) != _what(hold.item):
                hold.stop.set()
                self._ending.append(hold)
                del self._holds[identifier]
                with self._tools.room.lock:
                    self._tools.room.planned.pop(identifier, None)
                if not hold.running:
                    self._tools.planned(hold, ())
        self._ending = [hold for hold in self._ending if hold.running]

    def step(self, desired: Desired) -> None:
        """Begins what should be, and what is due again."""
        for item in desired.pulls:
            version = item.version(item.hold)
            if version is not None and item.id not in self._holds:
                self._holds[item.id] = Hold(self._tools, item, version)
        for hold in self._holds.values():
            if not hold.running and time.monotonic() >= hold.due:
                hold.running = True
                self._workers.submit(hold.run)

    def in_use(self) -> set[str]:
        """Origins that a pull reads from, one that ends included."""
        return {name_of(hold.item.origin) for hold in [*list(self._holds.values()), *self._ending] if hold.running}

    def ending(self) -> bool:
        """Whether a pull that should not be any more still goes on."""
        return any(hold.running for hold in self._ending)

    def told(self) -> list[dict[str, Any]]:
        """How far each is. Nothing is said before it was looked at."""
        reached = [(hold.reached, hold.item) for hold in list(self._holds.values())]
        return [one.document(item) for one, item in reached if one.complete or one.error or one.files_total]

    def counts(self) -> Mapping[str, int]:
        holds = list(self._holds.values())
        return {
            "holding": len(holds),
            "complete": sum(hold.reached.complete for hold in holds),
            "failing": sum(bool(hold.reached.error) for hold in holds),
        }

    def stop(self) -> None:
        for hold in list(self._holds.values()):
            hold.stop.set()


def _what(item: Item) -> tuple[Any, ...]:
    version = item.version(item.hold)
    # A share of a ceiling changes while it is pulled: see `Origins.limit`.
    return (version, item.selection, replace(item.origin, bandwidth=0, requests=0))

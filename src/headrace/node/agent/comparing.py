"""Comparing an origin with its current list because the control plane asks this node to: nothing is published or pulled."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from headrace._engine import Engine, EngineError
from headrace.errors import HeadraceError
from headrace.node.agent.backoff import Backoff
from headrace.node.agent.contact import plain
from headrace.node.agent.desired import Comparison, Desired, Item
from headrace.node.agent.listing import PASSING, Tools, list_origin
from headrace.node.agent.workers import Workers

_PATHS_SHOWN = 100
_REASON_MAX = 1000
_FOUND = ("new", "changed", "gone", "new_paths", "changed_paths", "gone_paths")

Answer = dict[str, Any]


class Comparing:
    """One comparison, until it is answered or nobody asks any more."""

    def __init__(self, tools: Tools, item: Item, asked: Comparison) -> None:
        self.asked = asked
        self.stop = threading.Event()
        self._tools = tools
        self._item = item
        self._candidate = tools.snapshots.directory / f"candidate-{asked.id}-{asked.lease}.snap"

    def run(self) -> None:
        from headrace.client import ControlFailure

        backoff, answer = Backoff(), None
        while not self.stop.is_set():
            try:
                answer = answer or self._answer()
                self._tools.control.answer_comparison(self.asked.id, {"lease": self.asked.lease, **answer})
                return
            except ControlFailure as failure:
                if failure.status not in PASSING:
                    print(f"node: the comparison of {self._item.origin.volume} is not wanted: {failure.message}", file=sys.stderr, flush=True)
                    return
                self.stop.wait(backoff.next())

    def _answer(self) -> Answer:
        from headrace.client import ControlFailure

        try:
            return {"found": self._found()}
        except ControlFailure:
            raise
        except (EngineError, HeadraceError) as error:
            return {"error": plain(error.message, _REASON_MAX)}
        finally:
            self._candidate.unlink(missing_ok=True)

    def _found(self) -> Answer:
        current = self._item.version(self._item.current)
        if current is None:
            raise HeadraceError("unknown-snapshot", "there is no current version any more; ask again")
        path = Path(self._tools.snapshots.get(current, self._item.origin))
        report = list_origin(self._tools, self._item.origin, self._candidate, self.stop)
        change = Engine.diff(str(path), str(self._candidate), _PATHS_SHOWN)
        return {"files": report["files"], "bytes": report["bytes"], **{name: change[name] for name in _FOUND}}


class Comparisons:
    """Those that this node is asked for."""

    def __init__(self, tools: Tools, workers: Workers) -> None:
        self._tools = tools
        self._workers = workers
        self._jobs: dict[Comparison, Comparing] = {}

    def apply(self, desired: Desired) -> None:
        """Begins what is asked for, and ends what no longer is."""
        asked = {item.compare: item for item in desired.items if item.compare is not None}
        for known in [one for one in self._jobs if one not in asked]:
            self._jobs.pop(known).stop.set()
        for one, item in asked.items():
            if one not in self._jobs:
                self._jobs[one] = job = Comparing(self._tools, item, one)
                self._workers.submit(job.run)

    def stop(self) -> None:
        for job in list(self._jobs.values()):
            job.stop.set()

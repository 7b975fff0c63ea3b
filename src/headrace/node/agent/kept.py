"""What this node has of versions that are kept beside the one it holds, and which of their files nobody can get any more.

In a bucket without versions an overwritten object's old bytes exist in caches only: whoever rolls back to such a version is told before.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from headrace._engine import Engine, EngineError
from headrace.errors import HeadraceError
from headrace.node.agent.desired import Desired, Item, Version
from headrace.node.agent.listing import Tools

if TYPE_CHECKING:
    from headrace.node.agent.workers import Workers

_EVERY_SECONDS = 60.0
# Of changed and of gone files, each; beyond that all are taken for lost that are not counted.
_PATHS_MAX = 100_000

Document = dict[str, Any]


class KeptVersions:
    """Looks now and then, and when what should be has changed."""

    def __init__(self, tools: Tools, workers: Workers) -> None:
        self._tools = tools
        self._workers = workers
        self._looked: tuple[int, float] = (-1, float("-inf"))
        self._running = False
        self._found: dict[str, list[Document]] = {}

    def step(self, desired: Desired) -> None:
        """Looks again if it is time to."""
        version, at = self._looked
        if self._running or (version == desired.version and time.monotonic() - at < _EVERY_SECONDS):
            return
        self._running, self._looked = True, (desired.version, time.monotonic())
        self._workers.submit(lambda: self._look(desired))

    def told(self) -> dict[str, list[Document]]:
        """By acceleration: all of its kept versions."""
        return self._found

    def _look(self, desired: Desired) -> None:
        try:
            self._found = {item.id: found for item in desired.items if (found := self._of(item))}
        finally:
            self._running = False

    def _of(self, item: Item) -> list[Document]:
        current = item.version(item.current)
        found = []
        for version in item.versions:
            if current is None or version.number == item.hold or not self._tools.snapshots.has(version.digest):
                continue
            try:
                found.append(self._document(item, version, current))
            except (EngineError, HeadraceError) as error:
                message = getattr(error, "message", str(error))
                print(f"node: looking what is kept of v{version.number} of {item.origin.volume}: {message}", file=sys.stderr, flush=True)
        return found

    def _document(self, item: Item, version: Version, current: Version) -> Document:
        name, path = self._tools.origins.add(item.origin), str(self._tools.snapshots.path(version.digest))
        held = self._tools.engine.coverage(name, path, [])
        lost = 0
        if version != current and not Engine.snapshot_info(path)["versioned"]:
            lost = self._lost(name, path, str(self._tools.snapshots.path(current.digest)))
        return {
            "acceleration": item.id, "version": version.number, "bytes": held["bytes_present"], "bytes_total": held["bytes"], "lost_files": lost,
        }  # fmt: skip

    def _lost(self, name: str, old: str, new: str) -> int:
        change = Engine.diff(old, new, _PATHS_MAX)
        paths = [*change["changed_paths"], *change["gone_paths"]]
        whole = self._tools.engine.coverage(name, old, paths)["files_complete"] if paths else 0
        return int(change["changed"] + change["gone"] - whole)

"""What this node has of versions that are kept beside the one it holds: it is protected, and told with what of it nobody can get any more.

In a bucket without versions an overwritten object's old bytes exist in caches only: whoever rolls back to such a version is told before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace._engine import Engine, EngineError
from headrace.errors import HeadraceError
from headrace.node.agent.desired import Desired, Item, Version
from headrace.node.agent.listing import Tools
from headrace.node.agent.protecting import Kept, Protecting

if TYPE_CHECKING:
    from headrace.node.agent.workers import Workers

_EVERY_SECONDS = 60.0
# Of changed and of gone files, each; beyond that all are taken for lost that are not counted.
_PATHS_MAX = 100_000

Document = dict[str, Any]


class KeptVersions:
    """Looks now and then, and when what should be has changed."""

    def __init__(self, tools: Tools, workers: Workers, protecting: Protecting, wake: Callable[[], None]) -> None:
        self._tools = tools
        self._protecting = protecting
        self._wake = wake
        self._workers = workers
        self._looked: tuple[int, float] = (-1, float("-inf"))
        self._running = False
        self._done = -1  # the version of what is desired that was looked at last
        self._found: dict[str, list[Document]] = {}

    def step(self, desired: Desired) -> bool:
        """Looks again if it is time to. True when it has been looked at what is desired now."""
        version, at = self._looked
        if not self._running and (version != desired.version or time.monotonic() - at >= _EVERY_SECONDS):
            self._running, self._looked = True, (desired.version, time.monotonic())
            self._workers.submit(lambda: self._look(desired))
        return self._done == desired.version

    def told(self) -> dict[str, list[Document]]:
        """By acceleration: all of its kept versions."""
        return self._found

    def _look(self, desired: Desired) -> None:
        try:
            kept: list[Kept] = []
            self._found = {item.id: found for item in desired.items if (found := self._of(item, kept))}
            self._protecting.found(kept)
        finally:
            # Also where it failed: pulling goes on without.
            self._done, self._running = desired.version, False
            self._wake()

    def _of(self, item: Item, kept: list[Kept]) -> list[Document]:
        current = item.version(item.current)
        found: list[Document] = []
        for version in sorted(item.versions, key=lambda version: -version.number):
            if current is None or version.number == item.hold or not self._tools.snapshots.has(version.digest):
                continue
            try:
                document, ids = self._document(item, version, current)
                kept.append(Kept(len(found), self._apart(item, version, document["bytes"]), ids))
                found.append(document)
            except (EngineError, HeadraceError) as error:
                message = getattr(error, "message", str(error))
                print(f"node: looking what is kept of v{version.number} of {item.origin.volume}: {message}", file=sys.stderr, flush=True)
        return found

    def _document(self, item: Item, version: Version, current: Version) -> tuple[Document, tuple[str, ...]]:
        name, path = self._tools.origins.add(item.origin), str(self._tools.snapshots.path(version.digest))
        held = self._tools.engine.coverage(name, path, [])
        lost = 0
        if version != current and not Engine.snapshot_info(path)["versioned"]:
            lost = self._lost(name, path, str(self._tools.snapshots.path(current.digest)))
        ids = self._tools.engine.cache_ids(name, path, []) if held["bytes_present"] else []
        document = {
            "acceleration": item.id, "version": version.number, "bytes": held["bytes_present"], "bytes_total": held["bytes"], "lost_files": lost,
        }  # fmt: skip
        return document, tuple(ids)

    def _apart(self, item: Item, version: Version, held_bytes: int) -> int:
        """Bytes of a kept version that are not those of the version held, whose room is planned already."""
        holds = item.version(item.hold)
        if holds is None or item.selection.kind != "all" or not held_bytes or not self._tools.snapshots.has(holds.digest):
            return held_bytes
        name = self._tools.origins.add(item.origin)
        path, other = (str(self._tools.snapshots.path(one.digest)) for one in (version, holds))
        change = Engine.diff(path, other, _PATHS_MAX)
        paths = [*change["changed_paths"], *change["gone_paths"]]
        if len(paths) < change["changed"] + change["gone"]:
            return held_bytes
        return int(self._tools.engine.coverage(name, path, paths)["bytes_present"]) if paths else 0

    def _lost(self, name: str, old: str, new: str) -> int:
        change = Engine.diff(old, new, _PATHS_MAX)
        paths = [*change["changed_paths"], *change["gone_paths"]]
        whole = self._tools.engine.coverage(name, old, paths)["files_complete"] if paths else 0
        return int(change["changed"] + change["gone"] - whole)

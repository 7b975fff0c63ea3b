"""Letting go: of a list that no item names any more, whatever only it needs leaves the cache, and then the list itself goes.

Objects that another list needs stay: another acceleration's, another version's, a mount's, or an open volume's of the SDK. So do lists that a
mount of a task shows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from headrace._engine import Engine, EngineError
from headrace.node.agent.snapshots import Snapshots
from headrace.node.task_mounts import lists_in_use

if TYPE_CHECKING:
    from headrace.node.service import Node

_ORIGIN = "control-released"
# What was under way when a pull was broken off may still arrive: so long nothing must come before a list goes.
_QUIET_SECONDS = 2.0
# What comes all the same stays as anything else that was once read: until its room is needed.
_MOST_SECONDS = 60.0


class Releasing:
    """Works off what is to be let go of. Doing it again does no harm, so nothing is remembered but the lists themselves."""

    def __init__(self, node: Node, snapshots: Snapshots) -> None:
        self._node = node
        self._snapshots = snapshots
        self._begun: dict[str, float] = {}
        self._freed: dict[str, float] = {}

    def step(self, named: frozenset[str], incomplete: frozenset[tuple[str, str]]) -> bool:
        """True when nothing is left to let go of. `incomplete`: buckets of which lists are still missing here; what these need is not known."""
        # A mount of a task needs its lists as long as it lives: its node may restart.
        in_use = {Path(path).stem for path in lists_in_use(self._node)}
        others = self._snapshots.others(named | in_use)
        if others and not self._node.engine.cache_usage()["scan_done"]:
            return False  # after a start: what is cached is not known yet
        left = 0
        for digest in others:
            try:
                left += not self._release(digest, named, incomplete)
            except EngineError as error:
                _log(f"letting go of the list {digest}: {error.message}")
                left += not self._is_over(digest, damaged=error.code.startswith("snapshot-"))
        return not left

    def _release(self, digest: str, named: frozenset[str], incomplete: frozenset[tuple[str, str]]) -> bool:
        path = str(self._snapshots.path(digest))
        about = Engine.snapshot_info(path)
        place = (about["endpoint"], about["bucket"])
        if place in incomplete:
            return False
        engine = self._node.engine
        engine.add_origin(
            _ORIGIN, endpoint=place[0], bucket=place[1], region="us-east-1", addressing="path", anonymous=True, ca_bundle=None, proxy=None,
            source_addresses=[], max_connections=1,
        )  # fmt: skip
        try:
            ids = set(engine.cache_ids(_ORIGIN, path, []))
            for other in self._needed(place, named):
                ids.difference_update(engine.cache_ids(_ORIGIN, other, []))
            if engine.cache_evict(sorted(ids)):
                self._freed[digest] = time.monotonic()
        finally:
            engine.remove_origin(_ORIGIN)
        return self._is_over(digest)

    def _needed(self, place: tuple[str, str], named: frozenset[str]) -> Iterable[str]:
        """Lists of the same bucket that are in use."""
        node = self._node
        paths = [str(self._snapshots.path(digest)) for digest in named if self._snapshots.has(digest)]
        paths += [path for mount in list(node.kept.mounts.values()) for path in mount["slots"].values()]
        for path in {*paths, *node.volumes.paths()}:
            try:
                about = Engine.snapshot_info(path)
            except EngineError as error:
                # What it needs is not known: it may have to be fetched again.
                _log(f"a list in use can't be read: {error.message}")
                continue
            if (about["endpoint"], about["bucket"]) == place:
                yield path

    def _is_over(self, digest: str, *, damaged: bool = False) -> bool:
        now = time.monotonic()
        begun = self._begun.setdefault(digest, now)
        if not damaged and now - begun < _MOST_SECONDS and now - self._freed.get(digest, begun - _QUIET_SECONDS) < _QUIET_SECONDS:
            return False
        self._snapshots.drop(digest)
        self._begun.pop(digest, None)
        self._freed.pop(digest, None)
        return True


def _log(text: str) -> None:
    print(f"node: {text}", file=sys.stderr, flush=True)

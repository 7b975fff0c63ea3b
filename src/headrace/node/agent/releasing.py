"""Letting go: of a list that no item names any more, whatever only it needs leaves the cache, and then the list itself goes.

Objects that another list needs stay: another acceleration's, another version's, a mount's, or an open volume's of the SDK.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from headrace._engine import Engine, EngineError
from headrace.node.agent.snapshots import Snapshots

if TYPE_CHECKING:
    from headrace.node.service import Node

_ORIGIN = "control-released"
# Something may still be written for a flight that was under way; a file that a person pinned stays.
_TRIES = 5


class Releasing:
    """Works off what is to be let go of. Doing it again does no harm, so nothing is remembered but the lists themselves."""

    def __init__(self, node: Node, snapshots: Snapshots) -> None:
        self._node = node
        self._snapshots = snapshots
        self._tries: Counter[str] = Counter()

    def step(self, named: frozenset[str], incomplete: frozenset[tuple[str, str]]) -> bool:
        """True when nothing is left to let go of. `incomplete`: buckets of which lists are still missing here; what these need is not known."""
        others = self._snapshots.others(named)
        if others and not self._node.engine.cache_usage()["scan_done"]:
            return False  # after a start: what is cached is not known yet
        left = 0
        for digest in others:
            try:
                left += not self._release(digest, named, incomplete)
            except EngineError as error:
                _log(f"letting go of the list {digest}: {error.message}")
                left += not self._given_up(digest, damaged=error.code.startswith("snapshot-"))
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
            freed = engine.cache_evict(sorted(ids))
        finally:
            engine.remove_origin(_ORIGIN)
        if freed and not self._given_up(digest):
            return False  # once more, until nothing comes after
        self._forget(digest)
        return True

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

    def _given_up(self, digest: str, *, damaged: bool = False) -> bool:
        """After so many tries what is still there stays, as anything else that was once read: until its room is needed."""
        self._tries[digest] += 1
        if damaged or self._tries[digest] >= _TRIES:
            self._forget(digest)
            return True
        return False

    def _forget(self, digest: str) -> None:
        self._snapshots.drop(digest)
        self._tries.pop(digest, None)


def _log(text: str) -> None:
    print(f"node: {text}", file=sys.stderr, flush=True)

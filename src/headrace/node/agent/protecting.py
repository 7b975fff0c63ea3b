"""Protecting what is held, and what kept versions hold, which may be nowhere else: it is not evicted for the room of something that is only read.

What is to be held comes first. Most of the rest of the cache's room goes to kept versions, the newest of each acceleration before older
ones; a version that does not fit into what is left is not protected, and goes as anything else that was once read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.node.agent.room import Room

if TYPE_CHECKING:
    from headrace._engine import Engine


# Of the room that nothing is planned for: what is only read needs some, too.
_SHARE_FOR_KEPT = 7 / 8


@dataclass(frozen=True)
class Kept:
    """What a kept version has in the cache beside the version that is held."""

    age: int  # 0 is the newest kept version of its acceleration
    bytes: int
    ids: tuple[str, ...]  # of all its files: those shared with the held version too


class Protecting:
    """Which objects stay. Told anew when kept versions were looked at, and when plans for what is held change."""

    def __init__(self, engine: Engine, room: Room) -> None:
        self._engine = engine
        self._room = room
        self._lock = threading.Lock()
        self._held: dict[object, tuple[str, ...]] = {}
        self._kept: list[Kept] = []
        self._said: frozenset[str] = frozenset()

    def found(self, kept: Iterable[Kept]) -> None:
        """All there are."""
        self._kept = sorted(kept, key=lambda one: one.age)
        self.fit()

    def planned(self, hold: object, ids: Iterable[str]) -> None:
        """What is to be held; nothing once it is not any more."""
        with self._lock:
            self._held[hold] = tuple(ids)
            if not self._held[hold]:
                del self._held[hold]
        self.fit()

    def fit(self) -> None:
        """Says to the cache what there is room to protect."""
        with self._lock:
            with self._room.lock:
                left = self._room.left("") * _SHARE_FOR_KEPT
            chosen = {identifier for ids in self._held.values() for identifier in ids}
            for one in self._kept:
                if one.bytes <= left:
                    left -= one.bytes
                    chosen.update(one.ids)
            if chosen != self._said:
                self._engine.cache_protect(sorted(chosen))
                self._said = frozenset(chosen)

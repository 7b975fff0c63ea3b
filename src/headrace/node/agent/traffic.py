"""Bytes that this node has moved of each volume: from its origin, to readers, and in files that are read without the node.

The engine counts by origin, and an origin goes with its volume's revision or its release; what it had counted is kept here, so that sums only
grow as long as the agent lives. They begin anew with it, under another epoch, by which the control plane knows them from those of before.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from headrace.node.agent.origins import volume_of

if TYPE_CHECKING:
    from headrace._engine import Engine

_NAMES = ("origin_bytes", "served_bytes", "opened_bytes")
_NOTHING = (0, 0, 0)
_AT_ONCE = 500

Counts = tuple[int, ...]
Document = dict[str, Any]


class Traffic:
    """Sums of all origins that a volume has had. `before` is what the engine had counted when another membership ended."""

    def __init__(self, engine: Engine, before: Mapping[str, Counts]) -> None:
        self._engine = engine
        self._epoch = secrets.token_hex(16)
        self._lock = threading.Lock()
        self._gone: dict[str, Counts] = {}
        self._told: dict[str, Counts] = {}
        for name, counts in before.items():
            _add(self._gone, name, (-count for count in counts))

    def remove(self, origin: str) -> None:
        """Takes an origin away from the engine, and keeps what it has counted."""
        with self._lock:
            _add(self._gone, origin, self._engine.traffic().get(origin, _NOTHING))
            self._engine.remove_origin(origin)

    def tell(self, send: Callable[[str, list[Document]], None]) -> None:
        """Tells what has changed, in pieces. What could not be told has changed still."""
        sums = self._sums()
        news = [volume for volume, counts in sums.items() if counts != self._told.get(volume, _NOTHING)]
        for start in range(0, len(news), _AT_ONCE):
            some = {volume: sums[volume] for volume in news[start : start + _AT_ONCE]}
            send(self._epoch, [{"volume": volume, **dict(zip(_NAMES, counts, strict=True))} for volume, counts in some.items()])
            self._told |= some

    def _sums(self) -> dict[str, Counts]:
        with self._lock:
            sums = dict(self._gone)
            for name, counts in self._engine.traffic().items():
                _add(sums, name, counts)
            return sums


def _add(sums: dict[str, Counts], origin: str, counts: Iterable[int]) -> None:
    """To the sums of the origin's volume; other origins than those of volumes are nothing to tell of."""
    volume = volume_of(origin)
    if volume is not None:
        sums[volume] = tuple(one + more for one, more in zip(sums.get(volume, _NOTHING), counts, strict=True))

"""How fast bytes come and go just now, from counters looked at twice a second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

_SECONDS = 5.0
# What is told, and the counter it is the slope of.
_COUNTERS = {"origin_bytes_per_second": "fetched_bytes_total", "read_bytes_per_second": "mount_read_bytes_total"}


class Speed:
    """Bytes per second over the last few seconds. Reads by passthrough are the kernel's own and not among them."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[str, float]]] = deque()

    def note(self, counters: Mapping[str, float], now: float | None = None) -> None:
        """Takes the counters as they are at `now` (seconds, monotonic)."""
        at = time.monotonic() if now is None else now
        self._seen.append((at, {name: counters.get(name, 0.0) for name in _COUNTERS.values()}))
        while len(self._seen) > 2 and at - self._seen[0][0] > _SECONDS:
            self._seen.popleft()

    def now(self) -> dict[str, float]:
        """The slopes; zeros until two looks have been taken."""
        if len(self._seen) < 2:
            return dict.fromkeys(_COUNTERS, 0.0)
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        return {told: (last[name] - first[name]) / max(ended - began, 1e-6) for told, name in _COUNTERS.items()}

"""How long to wait before the next try: ever longer, up to a bound, and never two nodes in step."""

from __future__ import annotations

import random

_FIRST_SECONDS = 0.5
# Less than the time after which a silent node counts as lost: one that can be heard again is heard in time.
_MOST_SECONDS = 20.0


class Backoff:
    """Counts failures in a row."""

    def __init__(self, most_seconds: float = _MOST_SECONDS) -> None:
        self._most = most_seconds
        self._failures = 0

    def next(self) -> float:
        """Seconds to wait after one more failure."""
        self._failures += 1
        longest = min(self._most, _FIRST_SECONDS * 2 ** min(self._failures, 16))
        return random.uniform(longest / 2, longest)  # noqa: S311 - spread, no secret

    def reset(self) -> None:
        self._failures = 0

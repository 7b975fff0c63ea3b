"""Since when this replica can be heard: nobody could renew anything before, so at first nothing ends for not having been renewed."""

from __future__ import annotations

import time

FIRST_SECONDS = 60.0


class Hearing:
    """Begins with the replica, and anew whenever its database was away."""

    def __init__(self) -> None:
        self.since = time.monotonic()

    def was_lost(self) -> None:
        """Nobody was heard up to now."""
        self.since = time.monotonic()

    def has_just_begun(self) -> bool:
        """Whether somebody who renews in time may not have come yet."""
        return time.monotonic() - self.since < FIRST_SECONDS

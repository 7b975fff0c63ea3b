"""What time it is. Everything here asks a clock, so that a test can set fifteen days forward."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """The machine's clock, plus what somebody moved it by."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        """The time, in UTC, to the millisecond: what the database keeps."""
        now = datetime.now(UTC) + self._ahead
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def advance(self, by: timedelta) -> None:
        """Move it forward; for tests."""
        self._ahead += by

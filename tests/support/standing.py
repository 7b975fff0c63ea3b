"""A control plane's clock that stands, for tests of what happens at a certain second."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from headrace.control.clock import Clock


class Standing:
    """A time that goes on only when somebody says so."""

    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at

    def advance(self, by: timedelta) -> None:
        self._at += by


def stand(monkeypatch: pytest.MonkeyPatch, clock: Clock, at: datetime | None = None) -> None:
    """Has a clock stand, at what it shows or at another time, until the test ends."""
    standing = Standing(at or clock.now())
    for name in ("now", "advance"):
        monkeypatch.setattr(clock, name, getattr(standing, name))

"""SIGTERM and Ctrl-C while a mount is asked for: the mount must not stay behind, whichever side is faster.

The signal hangs up instead of raising somewhere. What the node has answered before can still be read: that mount is known, and is
unmounted in good order. An answer that comes later can't be sent, and then the node takes its mount back.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from headrace.node.client import Client

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Interruption:
    """Whether the end was asked for; hangs up on the node that is being asked at that moment."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._client: Client | None = None

    def __bool__(self) -> bool:
        return self._asked.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits for it; True when it was asked for."""
        return self._asked.wait(seconds)

    @contextlib.contextmanager
    def hanging_up(self, client: Client) -> Iterator[None]:
        """Ends this connection when a signal comes."""
        self._client = client
        try:
            if self:
                client.hang_up()
            yield
        finally:
            self._client = None

    def _ask(self, *_: object) -> None:
        self._asked.set()
        if self._client is not None:
            self._client.hang_up()


@contextlib.contextmanager
def noticing() -> Iterator[Interruption]:
    """Signals are noted instead of obeyed in here."""
    interruption = Interruption()
    before = [(number, signal.signal(number, interruption._ask)) for number in _SIGNALS]
    try:
        yield interruption
    finally:
        for number, handler in before:
            signal.signal(number, handler)

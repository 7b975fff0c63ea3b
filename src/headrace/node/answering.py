"""Counts requests that are being answered, so that the node's end can wait for the answer to whoever asked for it."""

from __future__ import annotations

import threading


class Answering:
    """Entered for as long as a request is worked on and its answer sent."""

    def __init__(self) -> None:
        self._count = 0
        self._changed = threading.Condition()

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait_none(self, seconds: float) -> bool:
        """Waits until nothing is being answered; False when that took longer."""
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, seconds)

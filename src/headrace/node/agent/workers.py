"""Threads for slow work, as many as there may be and no more."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class Workers:
    """Does one thing after the other, so many at a time. What fails unexpectedly is in the log, and keeps nothing else from being done."""

    def __init__(self, name: str, most: int) -> None:
        self._pool = ThreadPoolExecutor(most, thread_name_prefix=name)

    def submit(self, work: Callable[[], None]) -> None:
        self._pool.submit(_do, work)

    def end(self) -> None:
        """Begins nothing more; what runs is told by other means."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _do(work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        traceback.print_exc(file=sys.stderr)

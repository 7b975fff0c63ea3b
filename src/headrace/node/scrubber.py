"""Reads everything that is cached again, now and then and slowly, and compares it with its digests.

Disks lose bits in silence. A damaged block is dropped, and fetched again when it is asked for.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from headrace._engine import Engine
from headrace.node.private import touch_private
from headrace.settings import Settings

_MARK = "scrubbed"


class Scrubber:
    """When the last pass ended is the time of a file in the first cache directory, so that restarts don't put it off."""

    def __init__(self, engine: Engine, settings: Settings, stopping: threading.Event) -> None:
        self._engine = engine
        self._interval = settings.scrub_interval
        self._rate = settings.scrub_rate
        self._stopping = stopping
        self._mark = Path(settings.cache_directories[0][0]) / _MARK

    def run(self) -> None:
        """Until the node stops; a pass that it interrupts begins anew."""
        while not self._stopping.wait(self._until_due()):
            self._pass()

    def _until_due(self) -> float:
        """Seconds until the next pass; the first one comes an interval after the cache was made."""
        try:
            if not self._mark.exists():
                touch_private(self._mark)
            age = time.time() - self._mark.stat().st_mtime
        except OSError:  # the disk fails, which others tell
            age = 0.0
        return min(max(0.0, self._interval - age), self._interval)

    def _pass(self) -> None:
        began = time.monotonic()

        def go_on(_files: int, size: int) -> bool:
            ahead = size / self._rate - (time.monotonic() - began)
            return not self._stopping.wait(max(0.0, ahead))

        report = self._engine.cache_verify(go_on)
        if self._stopping.is_set():
            return
        print(
            f"node: {report['blocks']} cached blocks compared with their digests in {time.monotonic() - began:.0f} s, "
            f"{report['bad_blocks']} were damaged and dropped",
            file=sys.stderr,
            flush=True,
        )
        try:
            touch_private(self._mark)
        except OSError as error:
            print(f"node: {self._mark}: {error}", file=sys.stderr, flush=True)
            self._stopping.wait(self._interval)

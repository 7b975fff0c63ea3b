"""Looks at a number again and again while something runs, and keeps the highest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

_EVERY_SECONDS = 0.02


class Watch:
    """`with Watch(look) as watch: …`; then `watch.highest`. What `look` raises is raised at the end of the `with`."""

    def __init__(self, look: Callable[[], int], every: float = _EVERY_SECONDS) -> None:
        self.highest = 0
        self.looks = 0
        self._look = look
        self._every = every
        self._failure: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if self._failure is not None and value is None:
            raise self._failure

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self.highest = max(self.highest, self._look())
                self.looks += 1
                self._ended.wait(self._every)
        except (OSError, KeyError, ValueError) as failure:
            self._failure = failure

"""Whether the control plane is heard: the last answer, and the last error since."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

_SHOWN = 300


def plain(text: str, most: int = _SHOWN) -> str:
    """A message as one line that can be sent and shown: servers write anything into theirs."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:most]


class Contact:
    """Filled by whatever speaks to the control plane, shown by `headrace status`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._heard: float | None = None
        self._error = ""

    def heard(self) -> None:
        """It has answered as it should."""
        with self._lock:
            if self._error:
                print("node: the control plane is heard again", file=sys.stderr, flush=True)
            self._heard, self._error = time.time(), ""

    def failed(self, message: str) -> None:
        """It has not. The log gets each cause once, until it is heard again."""
        text = plain(message)
        with self._lock:
            if text != self._error:
                print(f"node: the control plane: {text}", file=sys.stderr, flush=True)
            self._error = text

    def describe(self) -> dict[str, Any]:
        with self._lock:
            return {"heard": self._heard is not None and not self._error, "heard_at": self._heard, "error": self._error}

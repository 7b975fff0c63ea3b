"""How commands speak: bytes, progress, errors."""

from __future__ import annotations

import sys
import time
from typing import Any

from headrace.errors import HeadraceError
from headrace.printable import printable


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.2f} TiB"


def count(number: int, what: str) -> str:
    """Such as `1 file` and `2 files`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def error(failure: HeadraceError) -> None:
    print(f"error: {failure.message}", file=sys.stderr)


class Progress:
    """One line that is written over on a terminal, and now and then a line elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.live = sys.stderr.isatty()
        self.began = time.monotonic()
        # The first line comes after a while: most commands are done by then.
        self.last = self.began
        self.shown = False
        self.first_bytes: float | None = None

    def __call__(self, part: dict[str, Any]) -> None:
        now = time.monotonic()
        if self.quiet or now - self.last < (0.2 if self.live else 5.0):
            return
        self.last = now
        self.shown = True
        self.write(self._text(part, now))

    def say(self, text: str) -> None:
        """The same for words of another kind."""
        now = time.monotonic()
        if self.quiet or now - self.last < (0.2 if self.live else 5.0):
            return
        self.last, self.shown = now, True
        self.write(text)

    def _text(self, part: dict[str, Any], now: float) -> str:
        if part.get("phase") == "list":
            return f"listing: {part['files']} files, {size(part['bytes'])}"
        done, total = part.get("bytes", 0), part.get("bytes_total")
        if self.first_bytes is None:
            self.first_bytes = done
        speed = (done - self.first_bytes) / max(now - self.began, 0.001)
        text = f"{part.get('files', 0)}/{part.get('files_total', '?')} files, {size(done)}"
        if total:
            left = (total - done) / speed if speed > 0 else 0
            text += f" of {size(total)} ({100 * done / total:.0f} %), {size(speed)}/s, {left:.0f} s left"
        return text

    def write(self, text: str) -> None:
        print(
            f"\r\x1b[K{text}" if self.live else text,
            end="" if self.live else "\n",
            file=sys.stderr,
            flush=True,
        )

    def done(self) -> None:
        if self.live and self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def change(found: dict[str, Any], more: str) -> None:
    """What a listing found against the one before: the first paths of each kind, and how many there are."""
    for name, sign in (("new", "+"), ("changed", "~"), ("gone", "-")):
        for path in found[f"{name}_paths"]:
            print(f"{sign} {printable(path)}")
        hidden = found[name] - len(found[f"{name}_paths"])
        if hidden > 0:
            print(f"{sign} … and {hidden} more")
    print(f"new {found['new']}, changed {found['changed']}, gone {found['gone']}; {more}")

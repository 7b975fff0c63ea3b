"""How long a trial is, where it takes place, and what chance it is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """`directory` is empty and goes when the trial has ended; `share` is the length, 1.0 for the results that are committed."""

    directory: Path
    seed: int
    share: float = 1.0

    def count(self, full: int) -> int:
        """So many of `full`, at least one."""
        return max(1, round(full * self.share))

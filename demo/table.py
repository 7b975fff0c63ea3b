"""What was measured, as a table: medians, and the ratio to the same file on the local disk in the same state."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Any

from demo.models import Model

# Each way of reading, and the one that it is compared with.
STATES = {
    "local disk, first read": None,
    "bucket, cold": "local disk, first read",
    "local disk, again": None,
    "bucket, warm": "local disk, again",
}
_HEAD = ("model", "read from", "loaded", "first token", "ratio", "origin bytes")


# The node's counters that a run takes, in its order.
COUNTED = ("origin_body_bytes_total", "prefetched_bytes_total", "prefetched_used_bytes_total")


@dataclass(frozen=True)
class Run:
    """One load: in which state, what `demo.load` told, and what the node counted meanwhile."""

    state: str
    told: dict[str, Any]
    origin_bytes: int = 0
    prefetched: int = 0
    prefetched_used: int = 0

    @property
    def ready(self) -> float:
        """Seconds until the model was of use."""
        return float(self.told["first_token"] or self.told["loaded"])


def table(results: dict[Model, list[Run]]) -> str:
    """Rows as Markdown, which a terminal shows as well."""
    rows = [_HEAD]
    for model, runs in results.items():
        states: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            states[run.state].append(run)
        for state, reference in STATES.items():
            rows.append((model.title, *_row(states[state], states[reference] if reference else None, state)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _row(runs: list[Run], reference: list[Run] | None, state: str) -> tuple[str, str, str, str, str]:
    loaded = median(run.told["loaded"] for run in runs)
    first = median(run.told["first_token"] for run in runs) if runs[0].told["first_token"] else None
    ratio = median(run.ready for run in runs) / median(run.ready for run in reference) if reference else None
    return (
        state,
        f"{loaded:.2f} s",
        "—" if first is None else f"{first:.2f} s",
        "—" if ratio is None else f"{ratio:.2f}",
        "—" if state.startswith("local") else f"{max(run.origin_bytes for run in runs):,}",
    )

"""What a run gathers for a reader of its results, beside figures."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Record:
    """By system, and for the chart by panel and system (see `bench.chart`)."""

    mount_options: dict[str, str] = field(default_factory=dict)
    configurations: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    chart: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def tell(self, about: dict[str, Any]) -> None:
        """What was gathered so far, for the results."""
        about["mount_options"] = self.mount_options
        about["configurations"] = self.configurations
        about["machine"]["versions"] |= self.versions
        about["notes"] = self.notes
        about["chart"] = self.chart

    def draw(self, panel: str, shares: Mapping[str, Sequence[float]]) -> None:
        """A panel of the chart: of each system, its shares of the ceiling."""
        self.chart[panel] = {name: statistics.median(values) for name, values in shares.items()}

"""`headrace usage`."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from headrace.amounts import parse_seconds
from headrace.cli import show
from headrace.cli.logged_in import control
from headrace.cli.reach import Json, print_json
from headrace.cli.tables import print_table

_MOVED = ("origin_bytes", "served_bytes", "opened_bytes")


def usage(
    volume: Annotated[str | None, typer.Option(help="Of one volume only.")] = None,
    region: Annotated[str | None, typer.Option(help="In one region only.")] = None,
    since: Annotated[str, typer.Option(help="How far back, such as 24h or 30d.")] = "7d",
    hours: Annotated[bool, typer.Option("--hours", help="By hour, instead of by day.")] = False,
    as_json: Json = False,
) -> None:
    """加速用量 over time, by volume and region: what was held, received from the bucket, and read. What is held now is in `headrace accelerations`.

    ORIGIN are bytes of files from the bucket. SERVED are those that nodes answered reads with. OPENED are sizes of complete files that the kernel
    reads by itself, at each opening: whole, however much was read then.
    """
    begin = datetime.now(UTC) - timedelta(seconds=parse_seconds("since", since))
    filters = {name: value for name, value in (("volume", volume), ("region", region)) if value}
    with control() as client:
        found = list(client.usage(since=begin.isoformat(), **filters))
    if as_json:
        return print_json(found)
    rows = [(*where, *sums.shown()) for where, sums in sorted(_summed(found, hours=hours).items(), key=lambda one: one[0])]
    head = ("HOUR" if hours else "DAY", "VOLUME", "REGION", "HELD", "MOST", "ORIGIN", "SERVED", "OPENED")
    print_table(head, rows, "nothing was held or read in that time")
    return None


@dataclass
class _Sums:
    """Of some hours."""

    byte_hours: float = 0
    bytes_max: int = 0
    moved: Counter[str] = field(default_factory=Counter)

    def add(self, one: dict[str, Any]) -> None:
        self.byte_hours += one["byte_hours"]
        self.bytes_max = max(self.bytes_max, one["bytes_max"])
        # A control plane of before says nothing of these.
        self.moved.update({name: one.get(name, 0) for name in _MOVED})

    def shown(self) -> tuple[str, ...]:
        return (f"{show.size(int(self.byte_hours))}·h", show.size(self.bytes_max), *(show.size(self.moved[name]) for name in _MOVED))


def _summed(found: list[dict[str, Any]], *, hours: bool) -> dict[tuple[str, str, str], _Sums]:
    """By hour or day, volume and region."""
    sums: dict[tuple[str, str, str], _Sums] = defaultdict(_Sums)
    for one in found:
        sums[one["hour"][:16].replace("T", " ") if hours else one["hour"][:10], one["volume"], one["region"]].add(one)
    return sums

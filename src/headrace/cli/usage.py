"""`headrace usage`."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from headrace.amounts import parse_seconds
from headrace.cli import show
from headrace.cli.logged_in import control
from headrace.cli.reach import Json, print_json
from headrace.cli.tables import print_table


def usage(
    volume: Annotated[str | None, typer.Option(help="Of one volume only.")] = None,
    region: Annotated[str | None, typer.Option(help="In one region only.")] = None,
    since: Annotated[str, typer.Option(help="How far back, such as 24h or 30d.")] = "7d",
    hours: Annotated[bool, typer.Option("--hours", help="By hour, instead of by day.")] = False,
    as_json: Json = False,
) -> None:
    """加速用量 over time: what was held, by volume and region. Now it is in `headrace accelerations`."""
    begin = datetime.now(UTC) - timedelta(seconds=parse_seconds("since", since))
    filters = {name: value for name, value in (("volume", volume), ("region", region)) if value}
    with control() as client:
        found = list(client.usage(since=begin.isoformat(), **filters))
    if as_json:
        return print_json(found)
    rows = [
        (when, *where, f"{show.size(int(sums[0]))}·h", show.size(int(sums[1])))
        for (when, *where), sums in sorted(_summed(found, hours=hours).items())
    ]
    print_table(("HOUR" if hours else "DAY", "VOLUME", "REGION", "HELD", "MOST"), rows, "nothing was held in that time")
    return None


def _summed(found: list[dict[str, Any]], *, hours: bool) -> dict[tuple[str, str, str], tuple[float, int]]:
    """Byte-hours and the most bytes, by hour or day, volume and region."""
    sums: dict[tuple[str, str, str], tuple[float, int]] = defaultdict(lambda: (0.0, 0))
    for one in found:
        key = (one["hour"][:16].replace("T", " ") if hours else one["hour"][:10], one["volume"], one["region"])
        held, most = sums[key]
        sums[key] = (held + one["byte_hours"], max(most, one["bytes_max"]))
    return sums

"""The ceiling of an origin, shared out among the nodes that may read it; inside the caller's transaction.

Each node is told its share and keeps it, so all of them together stay below the ceiling without speaking to one another. A node that may
read and does not leaves its share unused: that is the price. Who may read: nodes that hold an acceleration, that list or compare, and
that have a task or a warm-up of it. Shares that have changed are known within a long poll (25 s): so long there may be too many readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations.changes import holding_nodes
from headrace.control.accelerations.models import Acceleration
from headrace.control.accelerations.placement import Candidate
from headrace.control.accelerations.states import State

_CEILINGS = ("bandwidth", "requests")


async def readers(
    session: AsyncSession, volume_ids: Sequence[str], nodes: Mapping[str, Sequence[Candidate]], others: Mapping[str, set[str]]
) -> dict[str, set[str]]:
    """Ids of nodes that may read volumes, by the volume. `nodes` are those of each region; `others` read an acceleration without holding it."""
    found: dict[str, set[str]] = {identifier: set() for identifier in volume_ids}
    for row in await session.scalars(select(Acceleration).where(Acceleration.volume_id.in_(volume_ids))):
        found[row.volume_id] |= others.get(row.id, set())
        if row.state != State.IDLE:
            found[row.volume_id] |= holding_nodes(row, nodes.get(row.region_id, ()))
            found[row.volume_id] |= {row.lister} if row.lister is not None else set()
    return found


def share(origin: Mapping[str, Any], readers_of: set[str], node_id: str) -> dict[str, Any]:
    """An origin as a node is told of it, with its share of the ceilings; 0 is still none, and no share is less than 1."""
    count = len(readers_of | {node_id})
    return {**origin, **{name: max(origin[name] // count, 1) if origin[name] else 0 for name in _CEILINGS}}

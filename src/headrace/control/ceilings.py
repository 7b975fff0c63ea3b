"""Which nodes read an origin with a ceiling: asked of every noun that makes a node read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations import queries
from headrace.control.accelerations.placement import Candidate
from headrace.control.accelerations.sharing import readers, share
from headrace.control.accelerations.sweeping import candidates
from headrace.control.clock import Clock
from headrace.control.comparisons import service as comparisons
from headrace.control.tasks import service as tasks
from headrace.control.warmups import service as warmups


async def shared(session: AsyncSession, clock: Clock, node_id: str, origins: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Origins by volume, each with this node's share of its ceilings. Those without any are as they are, and cost no question."""
    limited = sorted(identifier for identifier, origin in origins.items() if origin["bandwidth"] or origin["requests"])
    if not limited:
        return dict(origins)
    rows = await queries.of_volumes(session, limited)
    regions = {row.region_id for row in rows}
    nodes: dict[str, list[Candidate]] = {region: await candidates(session, clock, region) for region in sorted(regions)}
    ids = [row.id for row in rows]
    others = _joined([await tasks.readers(session, ids), await warmups.readers(session, ids), await comparisons.readers(session, ids)])
    found = await readers(session, limited, nodes, others)
    return {**origins, **{identifier: share(origins[identifier], found[identifier], node_id) for identifier in limited}}


def _joined(found: Iterable[Mapping[str, set[str]]]) -> dict[str, set[str]]:
    joined: dict[str, set[str]] = {}
    for one in found:
        for acceleration, nodes in one.items():
            joined.setdefault(acceleration, set()).update(nodes)
    return joined

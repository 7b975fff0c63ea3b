"""What the nodes of a region should do, kept ready as JSON: they ask every half minute, and all are told the same but for two numbers.

Two hundred nodes of a region with a thousand accelerations ask eight times a second. Put together from the tables each time, that is some three
thousand rows, and for each acceleration the question which nodes hold it; so a replica keeps what it has put together. It is good for a
version of the region, for whatever changes what nodes are told makes that grow in the same transaction (`regions.bump`). It is put together
anew after a minute all the same, so that a database that was restored, or a change that forgot, is not told wrongly for long.

Which nodes hold an acceleration depends on the nodes that are heard of now, so that is asked with each answer, and kept as long as it is the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from headrace.control.accelerations import queries
from headrace.control.accelerations.models import Acceleration
from headrace.control.accelerations.node_documents import OriginDocument, SharedItem, shared_item
from headrace.control.accelerations.placement import Candidate, Placement, holders
from headrace.control.database import Database
from headrace.control.regions import service as regions
from headrace.control.volumes import service as volumes

Row = TypeVar("Row")

_LASTS_SECONDS = 60.0
# Put together in pieces: others are answered in between.
_AT_ONCE = 50


@dataclass(frozen=True)
class _Said:
    """One acceleration: what all nodes are told of it, without the bracket at its end, and what decides about the rest."""

    id: str
    shared: str
    lister: str | None
    listing: int
    version: int | None
    placement: Placement

    def to(self, node_id: str, holding: frozenset[str]) -> str:
        listing = self.listing if self.lister == node_id else None
        hold = self.version if node_id in holding else None
        return f'{self.shared},"list":{_number(listing)},"hold":{_number(hold)}}}'


@dataclass
class _Region:
    """All of a region, as of a version."""

    version: int = -1
    until: float = 0.0  # by the monotonic clock
    said: Sequence[_Said] = ()
    nodes: Sequence[Candidate] = ()
    holding: dict[str, tuple[Placement, frozenset[str]]] = field(default_factory=dict)
    building: asyncio.Lock = field(default_factory=asyncio.Lock)


class Instructions:
    """Those of all regions, in one replica."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._regions: dict[str, _Region] = {}

    async def document(self, region_id: str, version: int, node_id: str, nodes: Sequence[Candidate], *, draining: bool) -> str:
        """What a node of a region should do, at least as of a version that was read before; `nodes` are those that may hold something."""
        region = self._regions.setdefault(region_id, _Region())
        async with region.building:  # one puts together what all wait for, and none of them holds a connection meanwhile
            if region.version < version or time.monotonic() >= region.until:
                await self._read(region, region_id)
            if region.nodes != nodes:
                region.nodes, region.holding = nodes, {}
            await _place(region)
            items = ",".join(one.to(node_id, region.holding[one.id][1]) for one in region.said)
            return f'{{"version":{region.version},"draining":{"true" if draining else "false"},"accelerations":[{items}]}}'

    async def _read(self, region: _Region, region_id: str) -> None:
        until = time.monotonic() + _LASTS_SECONDS
        async with self._database.reading() as session:
            # Read before what it stands for: a change in between is found by the next question.
            version = (await regions.by_id(session, region_id)).desired
            rows = await queries.in_region(session, region_id)
            found = await volumes.by_ids(session, {row.volume_id for row in rows})
            origins = {volume.id: OriginDocument(**volumes.for_nodes(volume)) for volume in found}
            versions = await queries.versions_of_all(session, [row.id for row in rows])
        said = []
        for some in _pieces(rows):
            said += [_said(row, shared_item(row, origins[row.volume_id], versions[row.id])) for row in some if row.volume_id in origins]
            await asyncio.sleep(0)
        region.version, region.until, region.said = version, until, said
        region.holding = {one.id: region.holding[one.id] for one in said if one.id in region.holding}


async def _place(region: _Region) -> None:
    """Which nodes hold what, where that isn't known yet."""
    unknown = [one for one in region.said if region.holding.get(one.id, (None,))[0] != one.placement]
    for some in _pieces(unknown):
        for one in some:
            region.holding[one.id] = one.placement, holders(one.placement, one.id, region.nodes)
        await asyncio.sleep(0)


def _said(row: Acceleration, shared: SharedItem) -> _Said:
    version = row.pulling if row.pulling is not None else row.current
    return _Said(row.id, shared.model_dump_json()[:-1], row.lister, row.listing, version, Placement(**row.placement))


def _number(number: int | None) -> str:
    return "null" if number is None else str(number)


def _pieces(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]

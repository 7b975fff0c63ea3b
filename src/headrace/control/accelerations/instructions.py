"""What the nodes of a region should do, kept ready as JSON: they ask every half minute, and nearly all of it is the same for all of them.

Two hundred nodes of a region with a thousand accelerations ask eight times a second. Put together from the tables each time, that is some three
thousand rows, and for each acceleration the question which nodes hold it; so a replica keeps what it has put together. It is good for a
version of the region, for whatever changes what nodes are told makes that grow in the same transaction (`regions.bump`). It is put together
anew after a minute all the same, so that a database that was restored, or a change that forgot, is not told wrongly for long.

Which nodes hold an acceleration depends on the nodes that are heard of now, so that is asked with each answer, and kept as long as it is the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pydantic import BaseModel

from headrace.control.accelerations import queries
from headrace.control.accelerations.models import Acceleration
from headrace.control.accelerations.node_documents import ComparisonWanted, OriginDocument, SharedItem, ShareDocument, WarmupWanted, shared_item
from headrace.control.accelerations.placement import Candidate, Placement, holders
from headrace.control.database import Database
from headrace.control.regions import service as regions
from headrace.control.volumes import service as volumes

Row = TypeVar("Row")

_LASTS_SECONDS = 60.0
# Put together in pieces: others are answered in between.
_AT_ONCE = 50
# In one statement; databases take some tens of thousands.
_NAMED_AT_ONCE = 1000


@dataclass(frozen=True)
class Asked:
    """A node that asks, and what it is asked for that concerns no other: jobs, by acceleration."""

    id: str
    draining: bool
    comparisons: Mapping[str, ComparisonWanted]
    warmups: Mapping[str, Sequence[WarmupWanted]]
    # Its share of ceilings, by volume, and connection checks.
    shares: Mapping[str, ShareDocument]
    checks: Sequence[BaseModel]


@dataclass(frozen=True)
class _Said:
    """One acceleration: what all nodes are told of it, without the bracket at its end, and what decides about the rest."""

    id: str
    volume_id: str
    shared: str
    lister: str | None
    listing: int
    version: int | None
    placement: Placement

    def to(self, node: Asked, holding: frozenset[str]) -> str:
        listing = self.listing if self.lister == node.id else None
        hold = self.version if node.id in holding else None
        compare, warm = node.comparisons.get(self.id), node.warmups.get(self.id, ())
        share = node.shares.get(self.volume_id)
        more = {
            "share": share.model_dump_json() if share else "null",
            "compare": compare.model_dump_json() if compare else "null",
            "warm": f"[{','.join(one.model_dump_json() for one in warm)}]",
            "list": _number(listing),
            "hold": _number(hold),
        }
        said = ",".join(f'"{name}":{value}' for name, value in more.items())
        return f"{self.shared},{said}}}"


@dataclass(frozen=True)
class _Region:
    """All of a region, as of a version."""

    version: int
    until: float  # by the monotonic clock
    said: Sequence[_Said]


@dataclass
class _Placed:
    """Which nodes hold what, as long as there are these nodes."""

    nodes: Sequence[Candidate] = ()
    holding: dict[str, tuple[Placement, frozenset[str]]] = field(default_factory=dict)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def by(self, nodes: Sequence[Candidate], said: Sequence[_Said]) -> dict[str, frozenset[str]]:
        """Of each acceleration. One at a time works it out, and it waits for nothing but the processor."""
        async with self.busy:
            if self.nodes != nodes:
                self.nodes, self.holding = nodes, {}
            for some in _pieces([one for one in said if self.holding.get(one.id, (None,))[0] != one.placement]):
                for one in some:
                    self.holding[one.id] = one.placement, holders(one.placement, one.id, nodes)
                await asyncio.sleep(0)
            if len(self.holding) > len(said):  # some were released
                self.holding = {one.id: self.holding[one.id] for one in said}
            return {identifier: holding for identifier, (_, holding) in self.holding.items()}


class Instructions:
    """Those of all regions, in one replica."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._regions: dict[str, _Region] = {}
        self._placed: dict[str, _Placed] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}

    async def document(self, region_id: str, version: int, node: Asked, nodes: Sequence[Candidate]) -> str:
        """What a node of a region should do, at least as of a version that was read before; `nodes` are those that may hold something."""
        region = await self._at_least(region_id, version)
        holding = await self._placed.setdefault(region_id, _Placed()).by(nodes, region.said)
        items = ",".join(one.to(node, holding[one.id]) for one in region.said)
        checks = ",".join(one.model_dump_json() for one in node.checks)
        draining = "true" if node.draining else "false"
        return f'{{"version":{region.version},"draining":{draining},"accelerations":[{items}],"checks":[{checks}]}}'

    async def _at_least(self, region_id: str, version: int) -> _Region:
        """What is kept where that is new enough. All who wait share one question, and its failure, and none of them holds a connection meanwhile."""
        for _ in range(2):  # the first question to end may have begun before the caller's; the second has not
            kept = self._regions.get(region_id)
            if kept is not None and kept.version >= version and time.monotonic() < kept.until:
                return kept
            reading = self._reading.get(region_id)
            if reading is None or reading.done():
                reading = self._reading[region_id] = asyncio.create_task(self._read(region_id))
            await asyncio.shield(reading)
        return self._regions[region_id]

    async def _read(self, region_id: str) -> None:
        until = time.monotonic() + _LASTS_SECONDS
        async with self._database.reading() as session:
            # Read before what it stands for: a change in between is found by the next question.
            version = (await regions.by_id(session, region_id)).desired
            rows = await queries.in_region(session, region_id)
            origins: dict[str, OriginDocument] = {}
            for some in _pieces(rows, _NAMED_AT_ONCE):
                found = await volumes.for_nodes_by_id(session, {row.volume_id for row in some})
                origins |= {identifier: OriginDocument(**origin) for identifier, origin in found.items()}
            versions = await queries.versions_in_region(session, region_id)
        said = []
        for some in _pieces(rows):
            said += [_said(row, shared_item(row, origins[row.volume_id], versions.get(row.id, ()))) for row in some if row.volume_id in origins]
            await asyncio.sleep(0)
        self._regions[region_id] = _Region(version, until, said)


def _said(row: Acceleration, shared: SharedItem) -> _Said:
    version = row.pulling if row.pulling is not None else row.current
    return _Said(row.id, row.volume_id, shared.model_dump_json()[:-1], row.lister, row.listing, version, Placement(**row.placement))


def _number(number: int | None) -> str:
    return "null" if number is None else str(number)


def _pieces(rows: Sequence[Row], size: int = _AT_ONCE) -> Iterator[Sequence[Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]

"""Whether kept versions can still be read, by what nodes tell of them; inside the caller's transaction.

A version is *complete* when a node has all of it, *not retrievable* when on every node files of it are missing that the bucket no longer
has, and otherwise *partly held*: what is missing comes from the origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.accelerations.models import Acceleration, Holding, KeptVersion, Version

Whole = Literal["complete", "partly held", "not retrievable", "unknown"]


@dataclass(frozen=True)
class Told:
    """What a node has of a kept version."""

    acceleration_id: str
    version: int
    bytes: int
    bytes_total: int
    lost_files: int


async def told(session: AsyncSession, row: Acceleration, node_id: str, kept: Sequence[Told]) -> None:
    """Replaces what a node has said of the kept versions of an acceleration before."""
    mine = (KeptVersion.acceleration_id == row.id, KeptVersion.node_id == node_id)
    await session.execute(delete(KeptVersion).where(*mine))
    there = set(await session.scalars(select(Version.number).where(Version.acceleration_id == row.id)))
    for one in {one.version: one for one in kept}.values():
        if one.version in there:
            session.add(
                KeptVersion(
                    acceleration_id=row.id,
                    node_id=node_id,
                    version=one.version,
                    bytes=one.bytes,
                    bytes_total=one.bytes_total,
                    lost_files=one.lost_files,
                )
            )


async def wholes(session: AsyncSession, row: Acceleration) -> dict[int, Whole]:
    """How whole each version is that somebody has told of, by its number."""
    found: dict[int, list[Whole]] = {}
    for held in await session.scalars(select(Holding).where(Holding.acceleration_id == row.id)):
        whole = held.complete and held.bytes >= held.bytes_total and row.selection["kind"] == "all"
        found.setdefault(held.version, []).append("complete" if whole else "partly held")
    for kept in await session.scalars(select(KeptVersion).where(KeptVersion.acceleration_id == row.id)):
        whole = kept.bytes >= kept.bytes_total
        found.setdefault(kept.version, []).append("not retrievable" if kept.lost_files else "complete" if whole else "partly held")
    return {number: _best(said) for number, said in found.items()}


async def forget(session: AsyncSession, *, acceleration_id: str | None = None, node_id: str | None = None) -> None:
    """Forgets what was told of an acceleration, or by a node."""
    if acceleration_id is not None:
        await session.execute(delete(KeptVersion).where(KeptVersion.acceleration_id == acceleration_id))
    if node_id is not None:
        await session.execute(delete(KeptVersion).where(KeptVersion.node_id == node_id))


def _best(said: list[Whole]) -> Whole:
    return "complete" if "complete" in said else "partly held" if "partly held" in said else "not retrievable"

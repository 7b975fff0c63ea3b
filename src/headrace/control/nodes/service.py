"""What can be done with nodes, inside the caller's transaction.

A node joins with a join token, which is good for one node and a short while, and gets an identity of its own: a bearer of the kind `hn`.
One that is not heard from for `LOST_AFTER` is shown as lost; nothing is written for that, so it is true whoever asks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.bearers import Bearer
from headrace.control.clock import Clock
from headrace.control.ids import new_id
from headrace.control.nodes.models import JoinToken, Node
from headrace.control.pages import Page, page
from headrace.control.problems import Finding, Text, refused

HEARTBEAT_SECONDS = 10
# Six heartbeats: a pause of the network, or of a node that starts again, is no loss.
LOST_AFTER = timedelta(seconds=60)
_JOIN_KIND, _NODE_KIND = "hj", "hn"


@dataclass(frozen=True)
class Identity:
    """A node that was recognised."""

    id: str
    region_id: str
    name: str

    @property
    def who(self) -> str:
        """As events tell of it: nodes that were removed have no other name there, and a name may be another node's later."""
        return f"node {self.name} ({self.id})"


@dataclass(frozen=True)
class Report:
    """What a node tells of itself."""

    version: str
    capacity_bytes: int
    used_bytes: int
    applied: int
    health: Mapping[str, Any]


async def create_join_token(session: AsyncSession, clock: Clock, region_id: str, lasts: timedelta) -> tuple[JoinToken, str]:
    """A token for one node of a region, and its text, which is nowhere kept."""
    now = clock.now()
    bearer = Bearer.new(_JOIN_KIND, new_id(now))
    row = JoinToken(id=bearer.id, region_id=region_id, digest=bearer.digest, created=now, expires=now + lasts)
    session.add(row)
    await session.flush()
    return row, bearer.text


async def join_token(session: AsyncSession, clock: Clock, text: str, *, lock: bool = False) -> JoinToken:
    """The join token of this text. Raises the problem `unauthenticated` for one that is gone or at its end."""
    bearer = Bearer.read(_JOIN_KIND, text)
    row = await session.get(JoinToken, bearer.id, with_for_update=lock, populate_existing=lock) if bearer else None
    if bearer is None or row is None or not bearer.fits(row.digest) or row.expires <= clock.now():
        raise refused("unauthenticated")
    return row


async def enrol(session: AsyncSession, clock: Clock, text: str, name: str, labels: Mapping[str, str], report: Report) -> tuple[Node, str]:
    """A new node, for a join token, which is spent by that; of two that come with the same one, one is refused. The text is the node's identity.

    An answer may be lost on its way: the same name with the same token gets another identity, as long as the first was never used.
    """
    token = await join_token(session, clock, text, lock=True)
    now = clock.now()
    if token.spent_by is not None:
        return await _enrol_again(session, token.spent_by, name, labels, report, now)
    bearer = Bearer.new(_NODE_KIND, new_id(now))
    row = Node(id=bearer.id, name=name, region_id=token.region_id, labels=dict(labels), digest=bearer.digest, draining=False, joined=now)
    token.spent_by = row.id
    _tell(row, report, now)
    session.add(row)
    try:
        await session.flush()
    except IntegrityError:
        raise refused("name-taken", noun="node", name=name) from None
    return row, bearer.text


async def _enrol_again(
    session: AsyncSession, identifier: str, name: str, labels: Mapping[str, str], report: Report, now: datetime
) -> tuple[Node, str]:
    row = await session.get(Node, identifier, with_for_update=True)
    if row is None or row.name != name or row.heard != row.joined:
        raise refused("unauthenticated")
    bearer = Bearer.new(_NODE_KIND, row.id)
    row.labels, row.digest, row.joined = dict(labels), bearer.digest, now
    _tell(row, report, now)
    return row, bearer.text


async def identity_of(session: AsyncSession, text: str) -> Identity | None:
    """The node with this identity; None for one that was removed, or never was."""
    bearer = Bearer.read(_NODE_KIND, text)
    row = await session.get(Node, bearer.id) if bearer else None
    if bearer is None or row is None or not bearer.fits(row.digest):
        return None
    return Identity(row.id, row.region_id, row.name)


async def heard(session: AsyncSession, clock: Clock, identity: Identity, report: Report) -> Node:
    """Keeps what a node tells."""
    row = await session.get(Node, identity.id, with_for_update=True)
    if row is None:
        raise refused("unauthenticated")
    _tell(row, report, clock.now())
    return row


async def find(session: AsyncSession, identifier: str, *, lock: bool = False) -> Node:
    """The node of this id. Raises the problem `not-found`."""
    row = await session.get(Node, identifier, with_for_update=lock)
    if row is None:
        raise refused("not-found", noun="node", name=identifier)
    return row


async def listed(session: AsyncSession, *, after: str | None, limit: int, region_id: str | None) -> Page[Node]:
    query = select(Node)
    if region_id is not None:
        query = query.where(Node.region_id == region_id)
    return await page(session, query, Node.id, after=after, limit=limit)


async def names(session: AsyncSession, identifiers: set[str]) -> dict[str, str]:
    """Names by id."""
    found = await session.execute(select(Node.id, Node.name).where(Node.id.in_(identifiers)))
    return dict(found.all())


async def names_in(session: AsyncSession, region_id: str) -> list[str]:
    return list(await session.scalars(select(Node.name).where(Node.region_id == region_id).order_by(Node.name)))


async def usable(session: AsyncSession, now: datetime, region_id: str) -> Sequence[Node]:
    """Nodes of a region that may hold something new: heard of, and not draining. They are looked at, not changed."""
    found = await session.scalars(select(Node).where(Node.region_id == region_id).order_by(Node.id))
    return [row for row in found if state_of(row, now) == "ready"]


async def ready(session: AsyncSession, now: datetime, region_id: str) -> list[tuple[str, dict[str, str]]]:
    """Ids and labels of the same, in the order of ids: what decides who holds something, asked far more often than the rest."""
    heard = Node.heard.between(now - LOST_AFTER, now + LOST_AFTER)  # as `state_of` has it
    query = select(Node.id, Node.labels).where(Node.region_id == region_id, Node.draining.is_(False), heard)
    return [(identifier, labels) for identifier, labels in await session.execute(query.order_by(Node.id))]


async def drop_expired(session: AsyncSession, now: datetime) -> None:
    """Forgets join tokens whose time is over."""
    await session.execute(delete(JoinToken).where(JoinToken.expires <= now))


async def forget_join_tokens(session: AsyncSession, region_id: str) -> None:
    """Ends the join tokens of a region, for it goes."""
    await session.execute(delete(JoinToken).where(JoinToken.region_id == region_id))


def drain(row: Node, *, draining: bool) -> None:
    """A draining node gets nothing new to hold, and no new tasks."""
    row.draining = draining


def label(row: Node, changes: Mapping[str, str | None], *, most: int) -> dict[str, str | None]:
    """Sets labels, and takes away those that are None; what was another before. Raises the problem `invalid` where there would be too many."""
    changed = {key: value for key, value in changes.items() if row.labels.get(key) != value}
    labels = {key: value for key, value in {**row.labels, **changed}.items() if value is not None}
    if len(labels) > most and len(labels) > len(row.labels):
        cause = Text(f"the node would have {len(labels)} labels", f"节点将有 {len(labels)} 个标签")
        remedy = Text(f"take others away; {most} are the most", f"请先去掉其他标签；最多 {most} 个")
        raise refused("invalid", [Finding("labels", "too-many-labels", cause, remedy)])
    row.labels = labels
    return changed


async def remove(session: AsyncSession, row: Node) -> None:
    """Forgets a node; its identity ends with that."""
    await session.delete(row)


def state_of(row: Node, now: datetime) -> Literal["ready", "draining", "lost"]:
    """`lost`, `draining` or `ready`."""
    # A clock that was set back must not show a node that is gone as there until it has caught up.
    if abs(now - row.heard) > LOST_AFTER:
        return "lost"
    return "draining" if row.draining else "ready"


def _tell(row: Node, report: Report, now: datetime) -> None:
    row.version, row.capacity_bytes, row.used_bytes = report.version, report.capacity_bytes, report.used_bytes
    row.applied, row.health, row.heard = report.applied, dict(report.health), now

"""What can be done with volumes, inside the caller's transaction; the connection check goes before it, outside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.checking.origin import Credentials, Origin, origin_of
from headrace.checking.providers import PROVIDERS
from headrace.control.clock import Clock
from headrace.control.ids import new_id
from headrace.control.pages import Page, page
from headrace.control.problems import Finding, Text, refused
from headrace.control.tokens.caller import Caller
from headrace.control.vault import Vault
from headrace.control.volumes.models import Volume


@dataclass(frozen=True)
class Described:
    """What a person says of a volume, credentials apart."""

    name: str
    provider: str
    region: str
    endpoint: str
    addressing: str
    bucket: str
    directory: str
    confirm_root: bool
    read_only: bool
    bandwidth: int
    requests: int

    def origin(self) -> Origin:
        """Raises the problem `invalid`, with every field that is wrong."""
        origin, found = origin_of(
            provider=self.provider,
            region=self.region,
            endpoint=self.endpoint,
            addressing=self.addressing,
            bucket=self.bucket,
            directory=self.directory,
            confirm_root=self.confirm_root,
        )
        if origin is None:
            raise refused("invalid", found)
        return origin


@dataclass(frozen=True)
class Checked:
    """An origin that passed its connection check, and what was worth noting."""

    origin: Origin
    credentials: Credentials
    findings: Sequence[Finding]
    where: str


async def create(session: AsyncSession, vault: Vault, clock: Clock, caller: Caller, said: Described, checked: Checked) -> Volume:
    """Stores a volume. Raises the problem `name-taken`."""
    now = clock.now()
    row = Volume(id=new_id(now), owner=caller.subject, revision=1, created=now, name=said.name)
    _describe(row, said, checked, clock)
    await _seal(session, vault, row, checked.credentials)
    session.add(row)
    await _flush(session, row.name)
    return row


async def is_taken(session: AsyncSession, name: str) -> bool:
    """Whether a volume is called so."""
    return await session.scalar(select(Volume.id).where(Volume.name == name)) is not None


async def must_be_free(session: AsyncSession, name: str) -> None:
    """Raises the problem `name-taken`. Before a check that takes seconds; whether it is still so is seen when it is stored."""
    if await is_taken(session, name):
        raise refused("name-taken", noun="volume", name=name)


def must_not_lend_keys(row: Volume, origin: Origin) -> None:
    """Kept keys go to the server that they were given for. Whoever names another one brings keys: else an edit would send it the kept ones,
    a session token in clear, and nobody who may only edit is to learn them."""
    if row.anonymous or _server(origin_in(row)) == _server(origin):
        return
    cause = Text("the kept keys were given for another server", "已保存的密钥是为另一服务器提供的")
    remedy = Text("send credentials too, for they would go to another place", "请同时提供凭证：请求将发往另一地址")
    raise refused("invalid", [Finding("credentials", "keys-needed", cause, remedy)])


def _server(origin: Origin) -> tuple[str, ...]:
    """What decides to whom a request is sent."""
    return (origin.endpoint, origin.provider.name, origin.addressing, origin.host)


async def edit(session: AsyncSession, vault: Vault, clock: Clock, row: Volume, said: Described, checked: Checked, *, new_keys: bool) -> None:
    """Replaces what a volume says. Raises the problem `name-taken`."""
    row.name = said.name
    _describe(row, said, checked, clock)
    if new_keys:
        await _seal(session, vault, row, checked.credentials)
    row.revision += 1
    await _flush(session, said.name)


async def rotate(session: AsyncSession, vault: Vault, clock: Clock, row: Volume, checked: Checked) -> None:
    """Replaces the credentials."""
    await _seal(session, vault, row, checked.credentials)
    _note(row, checked, clock)
    row.revision += 1


def note_check(clock: Clock, row: Volume, checked: Checked) -> None:
    """Keeps what a repeated check found. The volume itself is the same: its revision stays."""
    _note(row, checked, clock)


async def delete(session: AsyncSession, row: Volume) -> None:
    await session.delete(row)


async def find(session: AsyncSession, caller: Caller, name: str, *, lock: bool = False) -> Volume:
    """The volume of this name. Raises `not-found`, also for one that the caller may not see: whether it exists is not told."""
    query = select(Volume).where(Volume.name == name)
    row = await session.scalar(query.with_for_update() if lock else query)
    if row is None or not caller.may_see(row.owner):
        raise refused("not-found", noun="volume", name=name)
    return row


async def names(session: AsyncSession, identifiers: set[str]) -> dict[str, str]:
    """Names by id."""
    found = await session.execute(select(Volume.id, Volume.name).where(Volume.id.in_(identifiers)))
    return dict(found.all())


async def by_id(session: AsyncSession, identifier: str) -> Volume:
    """The volume of this id. Raises the problem `not-found`."""
    row = await session.get(Volume, identifier)
    if row is None:
        raise refused("not-found", noun="volume", name=identifier)
    return row


async def listed(session: AsyncSession, caller: Caller, *, after: str | None, limit: int, provider: str | None, text: str | None) -> Page[Volume]:
    """Volumes that the caller may see, by name."""
    query = select(Volume)
    if not caller.is_admin:
        query = query.where(Volume.owner == caller.subject)
    if provider is not None:
        query = query.where(Volume.provider == provider)
    if text is not None:
        query = query.where(Volume.name.contains(text, autoescape=True))
    return await page(session, query, Volume.name, after=after, limit=limit)


async def credentials_of(session: AsyncSession, vault: Vault, row: Volume) -> Credentials:
    """The keys in clear. They go to the origin and to nodes that need them, and nowhere else."""
    if row.credentials is None:
        return Credentials()
    kept: Mapping[str, Any] = json.loads(await vault.open(session, row.credentials, _place(row)))
    return Credentials(**kept)


async def seal_again(session: AsyncSession, vault: Vault) -> int:
    """Seals all credentials with the vault's newest key; how many there were."""
    rows = (await session.scalars(select(Volume).where(Volume.credentials.is_not(None)).with_for_update())).all()
    for row in rows:
        await _seal(session, vault, row, await credentials_of(session, vault, row))
    return len(rows)


def origin_in(row: Volume) -> Origin:
    """The origin that a volume was stored with."""
    return Origin(PROVIDERS[row.provider], row.region, row.endpoint, row.addressing_used, row.bucket, row.directory)


async def for_nodes_by_id(session: AsyncSession, identifiers: set[str]) -> dict[str, dict[str, Any]]:
    """The same of several volumes, by their ids."""
    return {row.id: for_nodes(row) for row in await session.scalars(select(Volume).where(Volume.id.in_(identifiers)))}


async def limited(session: AsyncSession) -> dict[str, dict[str, Any]]:
    """The same of all volumes that have a ceiling, by their ids."""
    query = select(Volume).where(or_(Volume.bandwidth > 0, Volume.requests > 0))
    return {row.id: for_nodes(row) for row in await session.scalars(query)}


def for_nodes(row: Volume) -> dict[str, Any]:
    """What nodes must know of a volume to read it, keys apart."""
    names = ("revision", "provider", "region", "endpoint", "bucket", "directory", "anonymous", "bandwidth", "requests")
    return {"volume_id": row.id, "volume": row.name, "addressing": row.addressing_used, **{name: getattr(row, name) for name in names}}


def described(row: Volume) -> Described:
    """What was said of a volume, to be said anew with some of it changed."""
    return Described(
        name=row.name,
        provider=row.provider,
        region=row.region,
        endpoint=row.endpoint,
        addressing=row.addressing,
        bucket=row.bucket,
        directory=row.directory,
        confirm_root=not row.directory,
        read_only=row.read_only,
        bandwidth=row.bandwidth,
        requests=row.requests,
    )


def _describe(row: Volume, said: Described, checked: Checked, clock: Clock) -> None:
    origin = checked.origin
    row.provider, row.region, row.endpoint = origin.provider.name, origin.region, origin.endpoint
    row.addressing, row.addressing_used = said.addressing, origin.addressing
    row.bucket, row.directory = origin.bucket, origin.directory
    row.read_only, row.bandwidth, row.requests = said.read_only, said.bandwidth, said.requests
    row.changed = clock.now()
    _note(row, checked, clock)


def _note(row: Volume, checked: Checked, clock: Clock) -> None:
    row.findings = [finding.document() for finding in checked.findings]
    row.checked, row.checked_from = clock.now(), checked.where


async def _seal(session: AsyncSession, vault: Vault, row: Volume, credentials: Credentials) -> None:
    row.anonymous = credentials.anonymous
    row.access_key_hint = f"…{credentials.access_key[-4:]}" if len(credentials.access_key) >= 12 else ""
    kept = {"access_key": credentials.access_key, "secret_key": credentials.secret_key, "session_token": credentials.session_token}
    row.credentials = None if credentials.anonymous else await vault.seal(session, json.dumps(kept).encode(), _place(row))


def _place(row: Volume) -> str:
    return f"volumes/{row.id}/credentials"


async def _flush(session: AsyncSession, name: str) -> None:
    try:
        await session.flush()
    except IntegrityError:
        raise refused("name-taken", noun="volume", name=name) from None

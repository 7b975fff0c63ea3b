"""Seals secrets and opens them.

A sealed secret is `data key id ‖ nonce ‖ AES-GCM(secret)`; the place it belongs to (table, row, field) is authenticated with it, so
that a secret copied into another row does not open there. AES-GCM: NIST SP 800-38D; 96 random bits of nonce, far below 2³² secrets
for one key.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from headrace.control.clock import Clock
from headrace.control.ids import new_id
from headrace.control.vault.master import MasterKey
from headrace.control.vault.models import DataKey
from headrace.errors import HeadraceError

_ID_BYTES = 26
_NONCE_BYTES = 12
_KEY_BYTES = 32


class Vault:
    """Data keys that were opened, by id; the newest seals."""

    def __init__(self, master: MasterKey, clock: Clock) -> None:
        self._master = master
        self._clock = clock
        self._keys: dict[str, bytes] = {}

    async def verify(self, session: AsyncSession) -> None:
        """Raises UsageError when the keys of this database were sealed under another master key."""
        await self._current(session)

    async def seal(self, session: AsyncSession, secret: bytes, place: str) -> bytes:
        """The secret, readable at this place only. The transaction must be one that writes: it may make the first key."""
        identifier, key = await self._current(session)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return identifier.encode() + nonce + AESGCM(key).encrypt(nonce, secret, place.encode())

    async def open(self, session: AsyncSession, sealed: bytes, place: str) -> bytes:
        """The secret again. Raises HeadraceError when it was sealed for another place, or damaged."""
        identifier, rest = sealed[:_ID_BYTES].decode("ascii", "replace"), sealed[_ID_BYTES:]
        key = await self._key(session, identifier)
        try:
            return AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], place.encode())
        except InvalidTag:
            raise HeadraceError("damaged-secret", f"a secret at {place} does not open; write it again") from None

    async def digest(self, session: AsyncSession, content: bytes) -> bytes:
        """A digest of something that may hold secrets, of no use to whoever has only the database."""
        oldest = await session.scalar(select(DataKey.id).order_by(DataKey.id).limit(1))
        identifier, key = (oldest, await self._key(session, oldest)) if oldest else await self._current(session)
        return hmac.digest(key, identifier.encode() + content, "sha256")

    async def rotate(self, session: AsyncSession) -> str:
        """A new data key, used from now on; whoever holds secrets seals them again. Its id is returned."""
        return (await self._make(session))[0]

    async def rewrap(self, session: AsyncSession, master: MasterKey) -> int:
        """Seals every data key under another master key. How many there were is returned; `use` it once the transaction is committed."""
        rows = (await session.scalars(select(DataKey).with_for_update())).all()
        for row in rows:
            row.sealed, row.master = master.wrap(self._master.unwrap(row.sealed)), master.name
        return len(rows)

    def use(self, master: MasterKey) -> None:
        """From now on data keys are sealed under this master key."""
        self._master = master

    async def _current(self, session: AsyncSession) -> tuple[str, bytes]:
        newest = await session.scalar(select(DataKey.id).order_by(DataKey.id.desc()).limit(1))
        return (newest, await self._key(session, newest)) if newest else await self._make(session)

    async def _make(self, session: AsyncSession) -> tuple[str, bytes]:
        now = self._clock.now()
        identifier, key = new_id(now), secrets.token_bytes(_KEY_BYTES)
        session.add(DataKey(id=identifier, master=self._master.name, sealed=await asyncio.to_thread(self._master.wrap, key), created=now))
        await session.flush()
        return identifier, key

    async def _key(self, session: AsyncSession, identifier: str) -> bytes:
        # One that is remembered although its transaction was rolled back does no harm: no row names it.
        if identifier not in self._keys:
            row = await session.get(DataKey, identifier)
            if row is None:
                raise HeadraceError("damaged-secret", f"there is no data key {identifier!r}; restore the database whole")
            # A master key elsewhere is asked over a network; each data key once.
            self._keys[identifier] = await asyncio.to_thread(self._master.unwrap, row.sealed)
        return self._keys[identifier]

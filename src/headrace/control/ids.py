"""Identifiers that sort by when they were made: 48 bits of milliseconds, 80 random bits, in 26 letters (the layout of a ULID)."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

# Crockford's base 32: no letter that is taken for a digit.
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_LAST = 2**48 - 1


def new_id(now: datetime) -> str:
    """An identifier for something made now."""
    return _text((now - _EPOCH) // _MILLISECOND << 80 | secrets.randbits(80))


def first_id(at: datetime) -> str:
    """The least identifier of whatever was made at this time or later."""
    begun = -((_EPOCH - at) // _MILLISECOND)  # the millisecond that begins then, or next
    return _text(min(max(begun, 0), _LAST) << 80)


def _text(number: int) -> str:
    return "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))

"""Identifiers that sort by when they were made: 48 bits of milliseconds, 80 random bits, in 26 letters (the layout of a ULID)."""

from __future__ import annotations

import secrets
from datetime import datetime

# Crockford's base 32: no letter that is taken for a digit.
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26


def new_id(now: datetime) -> str:
    """An identifier for something made now."""
    number = int(now.timestamp() * 1000) << 80 | secrets.randbits(80)
    return "".join(_LETTERS[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))

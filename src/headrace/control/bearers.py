"""Bearer secrets: `KIND_ID_SECRET`. The secret has 256 random bits, so a plain SHA-256 of it is enough to keep: there is nothing to guess."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

_SECRET_BYTES = 32
_SHAPE = re.compile(r"([a-z]{2})_([0-9a-z]{26})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Bearer:
    """A bearer's parts; `text` is the whole."""

    kind: str
    id: str
    secret: str = field(repr=False)

    @classmethod
    def new(cls, kind: str, identifier: str) -> Bearer:
        return cls(kind, identifier, secrets.token_urlsafe(_SECRET_BYTES))

    @classmethod
    def read(cls, kind: str, text: str) -> Bearer | None:
        """The parts of a text of this kind; None for any other."""
        shape = _SHAPE.fullmatch(text)
        return cls(kind, shape[2], shape[3]) if shape and shape[1] == kind else None

    @property
    def text(self) -> str:
        return f"{self.kind}_{self.id}_{self.secret}"

    @property
    def digest(self) -> bytes:
        """What is kept of it."""
        return hashlib.sha256(self.secret.encode()).digest()

    def fits(self, digest: bytes) -> bool:
        return hmac.compare_digest(self.digest, digest)

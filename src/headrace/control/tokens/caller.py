"""Whoever a request comes from, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

_NOUNS = ("accelerations", "events", "nodes", "regions", "tasks", "tokens", "usage", "volumes", "warmups")
# What a token can be limited to; `*` is everything its role may.
SCOPES = tuple(f"{noun}:{verb}" for noun in _NOUNS for verb in ("read", "write"))
# What no user may, whatever the token's scopes.
_ADMINS_ONLY = frozenset({"nodes:write", "regions:write", "tokens:read", "tokens:write"})


@dataclass(frozen=True)
class Caller:
    """The holder of a token. `subject` owns what it creates."""

    subject: str
    role: str
    scopes: tuple[str, ...]
    token_id: str
    expires: datetime

    @property
    def is_admin(self) -> bool:
        return self.role == "admin"

    def lacks(self, scope: str) -> str | None:
        """What is missing for a scope, in words; None when nothing is."""
        if scope in _ADMINS_ONLY and not self.is_admin:
            return "the role admin"
        if "*" not in self.scopes and scope not in self.scopes:
            return f"the scope {scope}"
        return None

    def may_see(self, owner: str) -> bool:
        return self.is_admin or owner == self.subject

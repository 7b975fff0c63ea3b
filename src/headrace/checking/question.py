"""What is to be checked, as a document that one machine sends another. The keys are in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from headrace.checking.addresses import AddressRules
from headrace.checking.origin import Credentials, Origin
from headrace.checking.providers import PROVIDERS

_PLACE = ("region", "endpoint", "addressing", "bucket", "directory")


@dataclass(frozen=True)
class Question:
    """An origin, its keys, and the addresses that may be asked."""

    origin: Origin
    credentials: Credentials
    rules: AddressRules
    read_only: bool

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> Question:
        """The question of a document. Raises KeyError or TypeError for what is none."""
        origin = Origin(PROVIDERS[said["origin"]["provider"]], **{name: str(said["origin"][name]) for name in _PLACE})
        return cls(origin, Credentials(**said["credentials"]), AddressRules.read(said["rules"]), bool(said["read_only"]))

    def document(self) -> dict[str, Any]:
        place = {name: getattr(self.origin, name) for name in _PLACE}
        return {
            "origin": {"provider": self.origin.provider.name, **place},
            "credentials": asdict(self.credentials),
            "rules": self.rules.document(),
            "read_only": self.read_only,
        }

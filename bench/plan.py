"""How large, how often, and beside whom."""

from __future__ import annotations

from dataclasses import dataclass

from bench.measure import Repeats


@dataclass(frozen=True)
class Plan:
    """How large and how often: the sizes of a result, or an eighth and less for a look."""

    quick: bool = False
    peers: frozenset[str] | None = None  # names in small letters; None is all that are installed
    rounds: int | None = None  # in place of the usual number

    def wants(self, peer: str) -> bool:
        return self.peers is None or peer.lower() in self.peers

    @property
    def repeats(self) -> Repeats:
        if self.rounds is not None:
            return Repeats(self.rounds, self.rounds)
        return Repeats(3, 2) if self.quick else Repeats()

    def size(self, full: int) -> int:
        return full // 8 if self.quick else full

    def count(self, full: int) -> int:
        return full // 20 if self.quick else full

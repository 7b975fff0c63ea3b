"""Which nodes of a region hold an acceleration: a simple rule, behind the seam where a cache group comes in later.

Callers ask `holders` and nothing else, so that a group which places blocks instead of whole files changes no caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Candidate:
    """A node that may hold something: it is heard of, and not draining."""

    id: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Placement:
    """All nodes, a number of them, or those with certain labels."""

    kind: Literal["all", "number", "labels"] = "all"
    number: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


def holders(placement: Placement, key: str, candidates: Iterable[Candidate]) -> frozenset[str]:
    """Ids of the nodes that hold what `key` names.

    A number of nodes is chosen by rendezvous hashing (Thaler and Ravishankar, 1998): when a node comes or goes, only its own share moves.
    """
    nodes = list(candidates)
    if placement.kind == "labels":
        return frozenset(node.id for node in nodes if placement.labels.items() <= node.labels.items())
    if placement.kind == "number":
        return frozenset(ranked(key, (node.id for node in nodes))[: placement.number])
    return frozenset(node.id for node in nodes)


def ranked(key: str, identifiers: Iterable[str]) -> list[str]:
    """Identifiers, the one that `key` prefers first."""
    return sorted(identifiers, key=lambda one: hashlib.blake2b(f"{key}\0{one}".encode(), digest_size=16).digest(), reverse=True)

"""Which node a task had best run on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from headrace.control.tasks.documents import Placed


class Node(Protocol):
    """What matters of a node."""

    id: str
    name: str
    labels: dict[str, str]
    capacity_bytes: int


def best(nodes: Sequence[Node], held: Mapping[str, tuple[int, int]], tasks: Mapping[str, int], room_bytes: int) -> Placed | None:
    """The node with room that holds most of what is mounted; of those that hold the same, the one with fewest tasks, then with most room."""
    fitting = []
    for node in nodes:
        here, planned = held[node.id]
        free = max(node.capacity_bytes - planned, 0)
        if free >= room_bytes:
            fitting.append(Placed(node=node.id, name=node.name, labels=node.labels, free_bytes=free, held_bytes=here, tasks=tasks.get(node.id, 0)))
    return max(fitting, key=lambda one: (one.held_bytes, -one.tasks, one.free_bytes, one.node), default=None)

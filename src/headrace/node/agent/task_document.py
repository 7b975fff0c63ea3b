"""A task as the control plane tells its node."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import NodeFailure
from headrace.node.agent.desired import Origin, Version, parse_origin, parse_version


@dataclass(frozen=True)
class TaskMount:
    """An acceleration at a path; without a version while nothing is listed yet."""

    acceleration: str
    path: str
    follow: bool
    origin: Origin
    version: Version | None


@dataclass(frozen=True)
class Task:
    """`user` is the operating system's user that may have it mounted."""

    id: str
    lease: int
    user: int | None
    mounts: tuple[TaskMount, ...]


def parse_task(said: Mapping[str, Any]) -> Task:
    """Raises NodeFailure for what is no such document."""
    try:
        return Task(
            id=str(said["id"]),
            lease=int(said["lease"]),
            user=None if said["user"] is None else int(said["user"]),
            mounts=tuple(map(_mount, said["mounts"])),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NodeFailure(
            "bad-desired", f"the control plane tells of a task in a way this node does not know ({error!r}); use the same version on both sides"
        ) from None


def _mount(said: Mapping[str, Any]) -> TaskMount:
    version = said["version"]
    return TaskMount(
        acceleration=str(said["acceleration"]),
        path=str(said["path"]),
        follow=bool(said["follow"]),
        origin=parse_origin(said["origin"]),
        version=None if version is None else parse_version(version),
    )

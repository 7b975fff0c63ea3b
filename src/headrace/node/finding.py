"""Which mount, and what within it, a path names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from headrace.errors import NotFound
from headrace.mount_paths import is_within
from headrace.node.task_mounts import of_tasks, refuse

if TYPE_CHECKING:
    from headrace.node.service import Node


def find_mount(node: Node, directory: str) -> tuple[str, dict[str, Any]]:
    """The mount at a directory, or the one that holds a path. Raises NotFound where there is none, MountFailure for one of a task."""
    wanted = os.path.abspath(directory)
    everyones = {i: m for i, m in list(node.kept.mounts.items()) if "task" not in m}
    best = max(
        ((i, m) for i, m in everyones.items() if wanted == m["directory"] or wanted.startswith(m["directory"] + "/")),
        key=lambda pair: len(pair[1]["directory"]),
        default=None,
    )
    if best is None:
        for entry in of_tasks(node).values():
            if is_within(wanted, entry["task"]["path"]) or is_within(wanted, entry["directory"]):
                raise refuse(entry)
        known = ", ".join(m["directory"] for m in everyones.values()) or "none"
        raise NotFound(
            "not-mounted",
            f"directory: {wanted} is not mounted by this node (mounted: {known}); see `headrace status`",
        )
    return best


def inside(mount: dict[str, Any], paths: list[str]) -> list[str]:
    """Absolute paths as paths within the snapshot."""
    found = []
    for path in paths:
        relative = os.path.relpath(path, mount["directory"])
        if relative == ".." or relative.startswith("../"):
            raise NotFound("unknown", f"path: {path} is not in {mount['directory']}; give paths of one mount at a time")
        found.append("" if relative == "." else relative)
    return [] if "" in found else found

"""What every command needs: the node, and answers for programs.

A command asks the node of its own settings. Where it is given a directory, it asks the node that has mounted that: it may be another's,
mounted with another cache directory. HEADRACE_NODE, or `node` in the configuration file, names the node, and no other is asked.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Annotated, Any

import typer

from headrace import settings as configuration
from headrace.errors import NotFound
from headrace.node import mountinfo, record
from headrace.node.client import Client, connect
from headrace.settings import Settings

Directory = Annotated[str, typer.Argument(help="The mount point.")]
Json = Annotated[bool, typer.Option("--json", help="Answer for programs.")]


def print_json(value: Any) -> None:
    """Prints an answer for programs."""
    print(json.dumps(value, indent=2))


def running(path: str | None = None) -> Client:
    """The node that has mounted what holds an absolute `path`, or else the node of these settings. Raises NotFound when none runs."""
    settings = configuration.load()
    if path is not None:
        settings = owner(settings, path)
    client = connect(settings)
    if client is None:
        raise _no_node(settings, path)
    return client


def owner(settings: Settings, path: str) -> Settings:
    """The settings with the socket of the node that has mounted what holds a path; as they are when none is known to have."""
    if is_named():
        return settings
    holders = [
        (directory, socket)
        for socket, directories in record.recorded(settings.runtime).items()
        for directory in directories
        if path == directory or path.startswith(directory + "/")
    ]
    if not holders:
        return settings
    # The innermost mount; of two records of one directory, the one whose node runs.
    innermost = max(len(directory) for directory, _ in holders)
    sockets = [socket for directory, socket in holders if len(directory) == innermost]
    alive = [socket for socket in sockets if os.path.exists(socket)]
    return dataclasses.replace(settings, socket=(alive or sockets)[0])


def others(settings: Settings) -> list[Settings]:
    """The other nodes of this user that commands may ask."""
    if is_named():
        return []
    found = (str(path) for path in sorted(settings.runtime.glob("node-*.sock")) if not path.name.endswith((".data.sock", ".task.sock")))
    return [dataclasses.replace(settings, socket=socket) for socket in found if socket != settings.socket]


def is_named() -> bool:
    """Whether one node is named, whatever the cache directory."""
    return bool(os.environ.get("HEADRACE_NODE") or configuration.read_config(os.environ).get("node"))


def dead(settings: Settings) -> list[str]:
    """Mounts whose node and keeper are gone: programs get ENOTCONN there."""
    records = [record.read(settings.socket)] if is_named() else record.recorded(settings.runtime).values()
    return sorted({directory for directories in records for directory in directories if mountinfo.is_dead(directory)})


def _no_node(settings: Settings, path: str | None) -> NotFound:
    if path is not None and path in dead(settings):
        return NotFound(
            "not-mounted", f"directory: the node of {path} is gone, and its mount is dead; take it away (`headrace umount {path}`) or mount again"
        )
    if elsewhere := [other.socket for other in others(settings)]:
        cache = settings.cache_directories[0][0]
        return NotFound(
            "not-mounted",
            f"node: none runs for the cache directory {cache} (others: {', '.join(elsewhere)}); name the cache directory with HEADRACE_CACHE_DIR",
        )
    return NotFound(
        "not-mounted",
        "node: none runs, so nothing is mounted; mount something first (`headrace mount s3://BUCKET/PREFIX DIR`)",
    )

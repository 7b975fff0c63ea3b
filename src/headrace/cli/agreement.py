"""A node for a mount, and whether it runs with what the command asks for: one that runs already keeps the settings it was started with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from headrace import settings as configuration
from headrace.cli import show
from headrace.errors import UsageError
from headrace.node.client import Client, connect_or_start
from headrace.settings import Settings

Options = Mapping[str, str | None]


def node_for(options: Options) -> Client:
    """The node for a mount with these options, started if need be. UsageError when it runs with other cache directories than they say."""
    settings = configuration.load(options)
    client = connect_or_start(settings)
    try:
        compare(settings, options, client.call("ping")["settings"])
    except BaseException:
        client.close()
        raise
    return client


def compare(wanted: Settings, options: Options, running: dict[str, Any]) -> None:
    """Refuses another place than the node's, and warns of other sizes. What was not given as an option is the node's own affair."""
    ours, theirs = dict(wanted.cache_directories), dict(running["cache_directories"])
    if options.get("cache_dir") and ours.keys() != theirs.keys():
        raise UsageError(
            "bad-setting",
            f"cache dir: the node at {wanted.socket} runs with {':'.join(theirs)}; end it first (`headrace node --stop`), "
            "or set HEADRACE_NODE to another socket",
        )
    sized = options.get("cache_size") or "=" in (options.get("cache_dir") or "")
    if sized and ours != theirs:
        _warn("cache size", sum(ours.values()), sum(theirs.values()))
    for name in ("cache_reserve", "memory"):
        if options.get(name) and getattr(wanted, name) != running[name]:
            _warn(name.replace("_", " "), getattr(wanted, name), running[name])


def _warn(field: str, wanted: int, running: int) -> None:
    print(
        f"warning: {field}: the node runs with {show.size(running)}, and {show.size(wanted)} only after its end (`headrace node --stop`)",
        file=sys.stderr,
    )

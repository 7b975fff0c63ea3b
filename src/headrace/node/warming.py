"""Pulling files into the cache for whoever asks: a mount's command, or a volume of the SDK."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace._engine import Engine
from headrace.errors import from_code


def pull(engine: Engine, origin_id: str, snapshot: str, paths: list[str], progress: Callable[[dict[str, int]], bool]) -> dict[str, Any]:
    """Warms files of a snapshot; no paths means all. Raises `cache-too-small` beforehand when they can't fit."""
    wanted = engine.coverage(origin_id, snapshot, paths)
    room = engine.cache_usage()["limit_bytes"]
    if wanted["bytes"] > room:
        raise from_code(
            "cache-too-small",
            f"cache size: {wanted['bytes']} bytes can't fit into a cache of {room}; choose fewer files or raise HEADRACE_CACHE_SIZE",
        )
    return engine.warm(origin_id, snapshot, paths, progress)

"""Pulling files into the cache for whoever asks: a mount's command, or a volume of the SDK."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from headrace._engine import Engine
from headrace.errors import NotFound, from_code
from headrace.node.space import room


def pull(
    engine: Engine,
    origin_id: str,
    snapshot: str,
    paths: Sequence[str],
    progress: Callable[[dict[str, int]], bool],
    *,
    reserve_bytes: int = 0,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> dict[str, Any]:
    """Warms files of a snapshot; no paths means all. Raises `cache-too-small` beforehand when they can't fit.

    Patterns choose among the files: one without a slash is compared with names, one with a slash with paths from the
    root of the snapshot (`*` matches slashes too).
    """
    chosen = chosen_paths(engine, snapshot, paths, include, exclude) if include or exclude else list(paths)
    wanted = engine.coverage(origin_id, snapshot, chosen)
    usage = engine.cache_usage()
    free = sum(room(directory, reserve_bytes) for directory in usage["directories"])
    if wanted["bytes"] > free:
        raise from_code(
            "cache-too-small",
            f"cache size: {wanted['bytes']} bytes can't fit: the cache may hold {free} (its limit, and what is free on its disks); "
            "choose fewer files, or raise HEADRACE_CACHE_SIZE or free some space",
        )
    return engine.warm(origin_id, snapshot, chosen, progress)


def chosen_paths(engine: Engine, snapshot: str, paths: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Files below `paths` that a pattern of `include` lets in (all, if there is none) and none of `exclude` keeps out."""

    def matches(path: str, pattern: str) -> bool:
        return fnmatchcase(path if "/" in pattern else path.rpartition("/")[2], pattern)

    found = [
        path
        for path in engine.snapshot_paths(snapshot)
        if (not paths or any(path == p or path.startswith(f"{p}/") for p in paths))
        and (not include or any(matches(path, pattern) for pattern in include))
        and not any(matches(path, pattern) for pattern in exclude)
    ]
    if not found:
        raise NotFound("unknown", f"pattern: no file matches {', '.join([*include, *(f'not {e}' for e in exclude)])}; patterns are case-sensitive")
    return found

"""Starting an engine with the settings in force, and giving it an origin."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

from headrace._engine import Engine
from headrace.settings import Settings

_STAND_IN = "cache-in-need"
_STAND_IN_BYTES = 16 << 20  # the least that a cache takes; the runtime directory lies in memory


def start_engine(settings: Settings, lock_fds: list[int]) -> Engine:
    """The engine of a cache directory, with the locks that a predecessor held. Raises EngineError when another has it."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Engine(
        cache_directories=list(settings.cache_directories), reserve_bytes=settings.cache_reserve,
        memory_bytes=settings.memory, max_age_seconds=settings.cache_max_age, lock_fds=lock_fds,
        boot_id=boot, log_file=None, deadline_seconds=settings.deadline, workers=settings.connections, kernel_mask=list(settings.kernel_mask),
        verify_reads=settings.verify_reads, page_bytes=settings.page_cache,
    )  # fmt: skip


def start_without_cache(settings: Settings) -> Engine:
    """An engine for mounts that must go on although no cache directory can be used: hardly anything is kept.

    Its cache lies in the runtime directory, and goes with the next start.
    """
    place = settings.runtime / f"{_STAND_IN}-{os.getpid()}"
    return start_engine(dataclasses.replace(settings, cache_directories=((str(place), _STAND_IN_BYTES),), cache_reserve=0), [])


def drop_stand_ins(settings: Settings) -> None:
    for left in settings.runtime.glob(f"{_STAND_IN}-*"):
        shutil.rmtree(left)


def add_origin(engine: Engine, settings: Settings, origin_id: str, bucket: str, origin: dict[str, Any], *, learn_order: bool = True) -> None:
    """Makes a resolved origin (see `resolver.resolve`) known to the engine. Its loads are learned from if the settings allow it too."""
    engine.add_origin(
        origin_id, endpoint=origin["endpoint"], bucket=bucket, region=origin["region"],
        addressing=origin["addressing"], anonymous=origin["anonymous"], ca_bundle=origin["ca_bundle"],
        proxy=origin["proxy"], source_addresses=list(settings.interfaces), max_connections=settings.connections,
        deadline_seconds=settings.deadline, max_bytes_per_second=ceiling(origin.get("bandwidth", 0), settings.origin_bandwidth),
        max_requests_per_second=ceiling(origin.get("requests", 0), settings.origin_requests),
        learn_order=learn_order and settings.learn_order,
    )  # fmt: skip
    if origin["access_key"]:
        engine.set_credentials(origin_id, origin["access_key"], origin["secret_key"], origin["session_token"])


def ceiling(of_volume: int, of_node: int) -> int | None:
    """The lower of two, of which 0 is none."""
    return min((limit for limit in (of_volume, of_node) if limit), default=None)

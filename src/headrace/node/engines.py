"""Starting an engine with the settings in force, and giving it an origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from headrace._engine import Engine
from headrace.settings import Settings


def start_engine(settings: Settings, lock_fds: list[int]) -> Engine:
    """The engine of a cache directory, with the locks that a predecessor held. Raises EngineError when another has it."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Engine(
        cache_directories=list(settings.cache_directories), reserve_bytes=settings.cache_reserve,
        memory_bytes=settings.memory, max_age_seconds=settings.cache_max_age, lock_fds=lock_fds,
        boot_id=boot, log_file=None, deadline_seconds=settings.deadline, workers=settings.connections, kernel_mask=list(settings.kernel_mask),
        verify_reads=settings.verify_reads, page_bytes=settings.page_cache,
    )  # fmt: skip


def add_origin(engine: Engine, settings: Settings, origin_id: str, bucket: str, origin: dict[str, Any]) -> None:
    """Makes a resolved origin (see `resolver.resolve`) known to the engine."""
    engine.add_origin(
        origin_id, endpoint=origin["endpoint"], bucket=bucket, region=origin["region"],
        addressing=origin["addressing"], anonymous=origin["anonymous"], ca_bundle=origin["ca_bundle"],
        proxy=origin["proxy"], source_addresses=list(settings.interfaces), max_connections=settings.connections,
        deadline_seconds=settings.deadline, max_bytes_per_second=settings.origin_bandwidth or None,
        max_requests_per_second=settings.origin_requests or None,
    )  # fmt: skip
    if origin["access_key"]:
        engine.set_credentials(origin_id, origin["access_key"], origin["secret_key"], origin["session_token"])

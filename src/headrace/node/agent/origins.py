"""Origins of accelerations in the engine, with keys from the control plane, which are kept in memory only.

Each revision of a volume is an origin of its own: what still reads by the old one ends with it, and nothing mixes two of them.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

from headrace.node.agent.desired import Origin

if TYPE_CHECKING:
    from headrace._engine import Engine
    from headrace.client import ControlClient
    from headrace.settings import Settings

# What the engine says of keys that the origin refuses.
REFUSED = frozenset({"access-denied", "bad-credentials", "expired-credentials"})


def name_of(origin: Origin) -> str:
    """What the engine calls it."""
    return f"control-{origin.volume_id}-{origin.revision}"


class Origins:
    """Those that accelerations need."""

    def __init__(self, engine: Engine, settings: Settings, control: ControlClient) -> None:
        self._engine = engine
        self._settings = settings
        self._control = control
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._with_keys: set[str] = set()

    def add(self, origin: Origin) -> str:
        """Makes it known; its name. That suffices to ask what is held of it."""
        name = name_of(origin)
        with self._lock:
            if name not in self._known:
                self._engine.add_origin(
                    name, endpoint=origin.endpoint, bucket=origin.bucket, region=origin.region or "us-east-1", addressing=origin.addressing,
                    anonymous=origin.anonymous, ca_bundle=None, proxy=None, source_addresses=list(self._settings.interfaces),
                    max_connections=self._settings.connections, deadline_seconds=self._settings.deadline,
                    max_bytes_per_second=_ceiling(origin.bandwidth, self._settings.origin_bandwidth),
                    max_requests_per_second=_ceiling(origin.requests, self._settings.origin_requests),
                )  # fmt: skip
                self._known.add(name)
        return name

    def open(self, origin: Origin, *, anew: bool = False) -> str:
        """The same, with keys to read it; `anew` fetches them though there are some. Raises ControlFailure where they can't be fetched."""
        name = self.add(origin)
        if origin.anonymous or (name in self._with_keys and not anew):
            return name
        keys = self._control.origin_credentials(origin.volume_id)
        with self._lock:
            if name in self._known:
                self._engine.set_credentials(name, keys["access_key"], keys["secret_key"], keys["session_token"] or None)
                self._with_keys.add(name)
        return name

    def keep_only(self, names: Collection[str]) -> None:
        """Takes all others away, and what they still fetch is broken off."""
        with self._lock:
            for name in self._known - set(names):
                self._engine.remove_origin(name)
                self._known.discard(name)
                self._with_keys.discard(name)


def _ceiling(of_volume: int, of_node: int) -> int | None:
    """The lower of two, of which 0 is none."""
    return min((limit for limit in (of_volume, of_node) if limit), default=None)

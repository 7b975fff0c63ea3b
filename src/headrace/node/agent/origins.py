"""Origins of accelerations in the engine, with keys from the control plane, which are kept in memory only.

Each revision of a volume is an origin of its own: what still reads by the old one ends with it, and nothing mixes two of them. Mounts of
tasks read by the origin of the revision that they began with, and get the keys of later ones. They outlive the agent, so their origins do too.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from headrace.node.agent.desired import Origin
from headrace.node.engines import add_origin, ceiling

if TYPE_CHECKING:
    from headrace._engine import Engine
    from headrace.client import ControlClient
    from headrace.node.agent.traffic import Traffic
    from headrace.node.keeper import Kept
    from headrace.settings import Settings

# What the engine says of keys that the origin refuses.
REFUSED = frozenset({"access-denied", "bad-credentials", "expired-credentials"})
_PREFIX = "control-"
_KEYS = ("access_key", "secret_key", "session_token")


def name_of(origin: Origin) -> str:
    """What the engine calls it."""
    return f"{_PREFIX}{origin.volume_id}-{origin.revision}"


def volume_of(name: str) -> str | None:
    """The id of the volume whose origin the engine calls so; None where it is no volume's."""
    return name.removeprefix(_PREFIX).rpartition("-")[0] if name.startswith(_PREFIX) else None


class Origins:
    """Those that accelerations, and mounts of tasks, need."""

    def __init__(self, engine: Engine, settings: Settings, control: ControlClient, kept: Kept, traffic: Traffic) -> None:
        self._engine = engine
        self._traffic = traffic
        self._settings = settings
        self._control = control
        self._kept = kept
        self._lock = threading.Lock()
        self._keys: dict[str, dict[str, Any]] = {entry["origin_id"]: _keys(entry["origin"]) for entry in self._tasks()}
        self._known = set(self._keys)
        self._lent: Counter[str] = Counter()
        self._ceilings: dict[str, tuple[int, int]] = {}

    def add(self, origin: Origin) -> str:
        """Makes it known; its name. That suffices to ask what is held of it."""
        name = name_of(origin)
        with self._lock:
            if name not in self._known:
                self._traffic.remove(name)  # it may be there yet, left behind by another membership
                add_origin(self._engine, self._settings, name, origin.bucket, _document(origin, {}), learn_order=False)
                self._known.add(name)
                self._ceilings[name] = (origin.bandwidth, origin.requests)
        return name

    def limit(self, origin: Origin) -> None:
        """Has one that is known keep this node's share of the volume's ceilings, as it is now."""
        name, said = name_of(origin), (origin.bandwidth, origin.requests)
        with self._lock:
            if name in self._known and self._ceilings.get(name) != said:
                self._engine.set_ceilings(
                    name,
                    max_bytes_per_second=ceiling(origin.bandwidth, self._settings.origin_bandwidth),
                    max_requests_per_second=ceiling(origin.requests, self._settings.origin_requests),
                )
                self._ceilings[name] = said

    def open(self, origin: Origin, *, anew: bool = False) -> str:
        """The same, with keys to read it; `anew` fetches them though there are some. Raises ControlFailure where they can't be fetched."""
        name = self.add(origin)
        if origin.anonymous or (name in self._keys and not anew):
            return name
        self.give(name, self.fetched(origin.volume_id))
        return name

    @contextlib.contextmanager
    def lent(self, origin: Origin) -> Iterator[tuple[str, dict[str, Any]]]:
        """An origin with keys, and all of it as a mount keeps it. In here it stays, whatever should be; afterwards as long as a mount names it."""
        with self._lock:
            self._lent[name_of(origin)] += 1
        try:
            name = self.open(origin)
            yield name, _document(origin, self._keys.get(name, {}))
        finally:
            with self._lock:
                self._lent[name_of(origin)] -= 1

    def give(self, name: str, keys: dict[str, Any]) -> None:
        """Has an origin use these keys from now on."""
        with self._lock:
            if name in self._known:
                self._engine.set_credentials(name, keys["access_key"], keys["secret_key"], keys["session_token"])
                self._keys[name] = keys

    def fetched(self, volume_id: str) -> dict[str, Any]:
        """A volume's keys as they are now. Raises ControlFailure."""
        return _keys(self._control.origin_credentials(volume_id))

    def keep_only(self, names: Collection[str]) -> None:
        """Takes all others away that no task reads by, and what they still fetch is broken off."""
        with self._lock:
            in_use = {entry["origin_id"] for entry in self._tasks()} | set(+self._lent)
            for name in self._known - set(names) - in_use:
                self._traffic.remove(name)
                self._known.discard(name)
                self._keys.pop(name, None)
                self._ceilings.pop(name, None)

    def _tasks(self) -> list[dict[str, Any]]:
        return [entry for entry in list(self._kept.mounts.values()) if "task" in entry]


def _keys(said: dict[str, Any]) -> dict[str, Any]:
    keys: dict[str, Any] = {name: said[name] for name in _KEYS}
    return {**keys, "session_token": keys["session_token"] or None}


def _document(origin: Origin, keys: dict[str, Any]) -> dict[str, Any]:
    """As `resolver.resolve` describes one, with the ceilings of the volume."""
    return {
        "endpoint": origin.endpoint, "region": origin.region or "us-east-1", "addressing": origin.addressing, "anonymous": origin.anonymous,
        "ca_bundle": None, "proxy": None, "expires": None, "bandwidth": origin.bandwidth, "requests": origin.requests,
        **dict.fromkeys(_KEYS), **keys,
    }  # fmt: skip

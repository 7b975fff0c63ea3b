"""Volumes without a mount: what the SDK asks the node for.

A volume belongs to the connection that opened it and goes with it; any other connection may use its id meanwhile. It
reads with the right of the environment that came with it. Where a mount, or another volume, has the very same right to
the same bucket, both share one origin, so that a range both want is fetched once. The node keeps nothing of a volume
for its successor: clients open theirs again, with the snapshot they had.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace._engine import Engine
from headrace.errors import NotFound
from headrace.node import resolver
from headrace.node.listing import publish_listing
from headrace.node.volumes import CHANGING, VolumeStore, parse_uri
from headrace.node.warming import pull

if TYPE_CHECKING:
    from headrace.node.service import Node, Progress

Params = dict[str, Any]
# Entries of one answer; with the longest names and version ids a message of them stays under the protocol's limit.
_PAGE = 500
# What two origins must have in common to be one: where they lead and by what right.
_RIGHT = ("endpoint", "region", "addressing", "anonymous", "ca_bundle", "proxy", "access_key", "secret_key", "session_token")


@dataclass
class Held:
    """An open volume: an origin, and a version of its list."""

    entry: dict[str, Any]
    origin_id: str
    version: str
    path: str


class HeldVolumes:
    """The volumes that connections hold, and the origins that only they need."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self._users: Counter[str] = Counter()
        self._orphans: set[str] = set()

    def take_origin(self, entry: dict[str, Any]) -> str:
        """An origin for this right, shared where there is one; give it back with `give_back`."""
        with self._lock:
            origin_id = self._same_right(entry)
            if origin_id is None:
                origin_id = secrets.token_hex(6)
                self._node.add_origin(self._node.engine, origin_id, entry)
                self._orphans.add(origin_id)
            self._users[origin_id] += 1
            return origin_id

    def _same_right(self, entry: dict[str, Any]) -> str | None:
        mounts = [(mount_id, mount) for mount_id, mount in list(self._node.kept.mounts.items()) if "task" not in mount]
        known = mounts + [(h.origin_id, h.entry) for h in self._held.values()]
        for origin_id, other in known:
            if other["bucket"] == entry["bucket"] and all(other["origin"][name] == entry["origin"][name] for name in _RIGHT):
                return origin_id
        return None

    def give_back(self, origin_id: str) -> None:
        """One user fewer; the last one takes an origin away that no mount has."""
        with self._lock:
            self._users[origin_id] -= 1
            if not self._users[origin_id]:
                del self._users[origin_id]
                if origin_id in self._orphans:
                    self._orphans.remove(origin_id)
                    self._node.remove_origin(origin_id)

    def retire(self, origin_id: str) -> None:
        """A mount is gone, and its origin with it unless volumes still read through it."""
        with self._lock:
            if self._users[origin_id]:
                self._orphans.add(origin_id)
            else:
                self._node.remove_origin(origin_id)

    def hold(self, held: Held) -> str:
        volume_id = secrets.token_hex(6)
        with self._lock:
            self._held[volume_id] = held
        return volume_id

    def find(self, volume_id: str) -> Held:
        with self._lock:
            held = self._held.get(volume_id)
        if held is None:
            raise NotFound("unknown-volume", "volume: this node does not hold it (it may have been restarted); open it again")
        return held

    def close(self, volume_id: str) -> None:
        """Ends a volume; one that has ended already is no error."""
        with self._lock:
            held = self._held.pop(volume_id, None)
        if held is not None:
            self.give_back(held.origin_id)

    def expiring(self, within_seconds: float) -> list[Held]:
        """Volumes whose credentials end within this time."""
        with self._lock:
            held = list(self._held.values())
        return [h for h in held if h.entry["origin"]["expires"] and h.entry["origin"]["expires"] - time.time() < within_seconds]

    def paths(self) -> list[str]:
        """The snapshots in use."""
        with self._lock:
            return [held.path for held in self._held.values()]

    def describe(self) -> list[dict[str, Any]]:
        """For `status`."""
        with self._lock:
            held = list(self._held.values())
        users = Counter((f"s3://{h.entry['bucket']}/{h.entry['prefix']}".rstrip("/"), h.version) for h in held)
        return [{"source": source, "snapshot": version, "users": count} for (source, version), count in users.items()]


def open_volume(node: Node, params: Params, progress: Progress) -> dict[str, Any]:
    """Holds a version of a volume for this connection, which ends it by closing.

    `source`, `environment` and `origin` as for mount; `snapshot` a version held, or `current`, else the bucket is listed. Progress: files
    and bytes listed so far. Answers the id of the `volume`, and what the hand-out door asks for: `origin`, and the `path` of the snapshot.
    """
    bucket, prefix = parse_uri(params["source"])
    environment, options = dict(params["environment"]), dict(params.get("origin") or {})
    entry: dict[str, Any] = {
        "bucket": bucket, "prefix": prefix, "environment": environment, "options": options,
        "origin": resolver.resolve(environment, options),
    }  # fmt: skip
    store = VolumeStore(node.settings.snapshots, entry["origin"]["endpoint"], bucket, prefix)
    origin_id = node.volumes.take_origin(entry)
    try:
        wanted = params.get("snapshot")
        # Others go on meanwhile: it may take minutes.
        version = store.find(wanted) if wanted else publish_listing(node.engine, origin_id, store, progress)[0]
        with node.commands:
            held = Held(entry, origin_id, version, str(store.path(version)))
            with CHANGING:  # in use once it is held
                info = Engine.snapshot_info(held.path)
                volume_id = node.volumes.hold(held)
    except BaseException:
        node.volumes.give_back(origin_id)
        raise
    progress.at_end(partial(node.volumes.close, volume_id))
    return {
        "volume": volume_id, "origin": origin_id, "snapshot": version, "path": held.path,
        "handout": node.settings.handout_socket, "files": info["files"], "bytes": info["bytes"],
    }  # fmt: skip


def list_volume(node: Node, params: Params, _: Progress) -> dict[str, Any]:
    """One page of `directory` of a `volume`, from entry number `start`; `next` is where the next page begins, null at the end."""
    held = node.volumes.find(params["volume"])
    start = int(params.get("start") or 0)
    entries = Engine.snapshot_list(held.path, params["directory"])
    page = entries[start : start + _PAGE]
    following = start + len(page)
    return {"entries": page, "next": following if following < len(entries) else None}


def stat_volume(node: Node, params: Params, _: Progress) -> dict[str, Any] | None:
    """The entry at `path` of a `volume`; null when there is none."""
    return Engine.snapshot_stat(node.volumes.find(params["volume"]).path, params["path"])


def warm_volume(node: Node, params: Params, progress: Progress) -> dict[str, Any]:
    """Pulls the `paths` of a `volume` into the cache, all of it when there are none. Progress and answer as for warm."""
    held = node.volumes.find(params["volume"])
    return pull(node.engine, held.origin_id, held.path, list(params["paths"]), progress, reserve_bytes=node.settings.cache_reserve)


def close_volume(node: Node, params: Params, _: Progress) -> None:
    """Ends a `volume` before its connection does."""
    node.volumes.close(params["volume"])


def renew_volume(node: Node, held: Held) -> None:
    """Asks for credentials again, with the environment that the volume came with."""
    origin = resolver.resolve(held.entry["environment"], held.entry["options"])
    if origin["access_key"]:
        node.engine.set_credentials(held.origin_id, origin["access_key"], origin["secret_key"], origin["session_token"])
    held.entry["origin"] = origin


VOLUME_METHODS = {
    "volume.open": open_volume, "volume.list": list_volume, "volume.stat": stat_volume,
    "volume.warm": warm_volume, "volume.close": close_volume,
}  # fmt: skip

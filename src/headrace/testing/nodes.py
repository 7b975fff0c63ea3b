"""A node that only says it holds things: for tests of the control plane, and for two hundred of them on one machine."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.client import ControlClient

TOLD: Mapping[str, Any] = {"version": "0.1.0", "capacity_bytes": 1 << 40}


@dataclass
class SimulatedNode:
    """Does what it is asked, one step at a time, with lists of files that a test gives."""

    client: ControlClient
    name: str
    held: dict[str, int] = field(default_factory=dict)
    epoch: str = field(default_factory=lambda: secrets.token_hex(16))

    @classmethod
    def join(cls, admin: ControlClient, region: str, name: str, **labels: str) -> SimulatedNode:
        """A new node of a region."""
        token = admin.create_join_token(region)["token"]
        with admin.as_bearer(token) as joining:
            return cls(admin.as_bearer(joining.enrol(name, labels, TOLD)["token"]), name)

    def items(self) -> dict[str, dict[str, Any]]:
        """What it should do, by volume."""
        return {item["origin"]["volume"]: item for item in self.client.desired()["accelerations"]}

    def checks(self) -> list[dict[str, Any]]:
        """Connection checks that it is asked for."""
        return list(self.client.desired()["checks"])

    def publish(self, volume: str, snapshot: bytes, files: int = 2, size: int = 100) -> int:
        """Answers the listing that it is asked for; the version's number."""
        item = self.items()[volume]
        digest = hashlib.sha256(snapshot).hexdigest()
        self.client.send_snapshot_part(item["id"], item["list"], digest, 0, snapshot)
        said = {"listing": item["list"], "digest": digest, "parts": 1, "files": files, "bytes": size}
        return int(self.client.publish_snapshot(item["id"], said)["version"])

    def hold(self, volume: str, *, done: int = 100, total: int = 100, error: str = "") -> None:
        """Tells that it has `done` of `total` bytes of what it should hold."""
        item = self.items()[volume]
        said = {"acceleration": item["id"], "version": item["hold"], "files": 2, "files_total": 2, "bytes": done, "bytes_total": total}
        self.client.progress([{**said, "complete": done == total, "error": error}])

    def move(self, volume: str, origin: int, served: int = 0, opened: int = 0) -> None:
        """Tells what it has moved of a volume it should hold, all of it since its epoch began."""
        identifier = self.items()[volume]["origin"]["volume_id"]
        self.client.tell_traffic(self.epoch, [{"volume": identifier, "origin_bytes": origin, "served_bytes": served, "opened_bytes": opened}])

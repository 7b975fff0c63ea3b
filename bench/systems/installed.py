"""The peers that can take part on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.clients import Obstore, RunAi, S5cmd
from bench.seats import Route
from bench.systems import Client
from bench.systems.foreground import Foreground
from bench.systems.geesefs import Geesefs
from bench.systems.juicefs import JuiceFS, Volume
from bench.systems.mountpoint import Mountpoint
from bench.systems.rclone import Rclone
from bench.systems.s3fs import S3fs

MOUNTS: tuple[type[Foreground], ...] = (S3fs, JuiceFS, Rclone, Geesefs, Mountpoint)
CLIENTS = (S5cmd, RunAi, Obstore)
NAMES = [kind.name for kind in MOUNTS] + [kind.name for kind in CLIENTS]

Maker = Callable[[Path, Route], Foreground]


def mounts(volume: Volume) -> dict[str, tuple[str, Maker]]:
    """Of those that mount: version, and how one is made; JuiceFS keeps its files in the volume."""
    makers: dict[type[Foreground], Maker] = {JuiceFS: lambda base, route: JuiceFS(base, route, volume)}
    return {kind.name: (found, makers.get(kind, kind)) for kind in MOUNTS if (found := kind.found())}


def clients() -> dict[str, tuple[str, Client]]:
    """Of those that read without a mount."""
    return {kind.name: (found, kind()) for kind in CLIENTS if (found := kind.found())}

"""Lists of files, by digest, under `snapshots/control` of the cache directory.

A list is on disk exactly as long as an item names it. So the files are also the record of what may be cached for accelerations, and what
is to be let go of is known without the control plane, however long the node was away.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from headrace._engine import Engine, EngineError
from headrace.errors import HeadraceError, NodeFailure
from headrace.node.agent.desired import Origin, Version
from headrace.node.agent.disk import drop_parts, sync_directory

if TYPE_CHECKING:
    from headrace.client import ControlClient

# As the control plane takes and keeps them.
PART_BYTES = 2**20
PARTS_MAX = 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Snapshots:
    """The lists that this node has for accelerations."""

    def __init__(self, snapshots: Path, control: ControlClient) -> None:
        self.directory = snapshots / "control"
        self._control = control
        self._checked: set[tuple[str, str, str, str]] = set()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        drop_parts(self.directory)

    def path(self, digest: str) -> Path:
        return self.directory / f"{digest}.snap"

    def get(self, version: Version, origin: Origin) -> str:
        """Path of a version's list, fetched if it is not here. Raises NodeFailure for one that is not what it should be."""
        path = self.path(version.digest)
        # Once a process for each that names it: reading a list whole is not for every step.
        known = (version.digest, origin.endpoint, origin.bucket, origin.prefix)
        if known not in self._checked or not path.exists():
            self._have(version, origin, path)
            self._checked.add(known)
        return str(path)

    def _have(self, version: Version, origin: Origin, path: Path) -> None:
        if path.exists():
            try:
                return check(str(path), origin, version.number)
            except EngineError as error:
                print(f"node: fetching a damaged list again: {error.message}", file=sys.stderr, flush=True)
        return self._fetch(version, origin, path)

    def has(self, digest: str) -> bool:
        return self.path(digest).exists()

    def drop(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)
        self._checked.difference_update([known for known in list(self._checked) if known[0] == digest])

    def others(self, named: Collection[str]) -> list[str]:
        """Digests of lists that are here and not named."""
        found = [path.stem for path in self.directory.glob("*.snap") if re.fullmatch(r"[0-9a-f]{64}", path.stem)]
        return sorted(set(found) - set(named))

    def _fetch(self, version: Version, origin: Origin, path: Path) -> None:
        with tempfile.NamedTemporaryFile("wb", dir=self.directory, prefix=version.digest[:16], suffix=".part", delete=False) as file:
            try:
                digest = hashlib.sha256()
                for number in range(PARTS_MAX):
                    part = self._part(version.digest, number)
                    digest.update(part)
                    file.write(part)
                    if len(part) < PART_BYTES:
                        break
                if digest.hexdigest() != version.digest:
                    raise NodeFailure(
                        "bad-snapshot", f"the list of v{version.number} of {origin.volume} does not have its digest; refresh the volume"
                    )
                file.flush()
                os.fsync(file.fileno())
                check(file.name, origin, version.number)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
        sync_directory(self.directory)

    def _part(self, digest: str, number: int) -> bytes:
        """A part; none after the last, which may be a full one."""
        from headrace.client import ControlFailure

        try:
            return self._control.snapshot_part(digest, number)
        except ControlFailure as failure:
            if number and failure.code == "not-found":
                return b""
            raise


def check(path: str, origin: Origin, number: int) -> None:
    """Raises NodeFailure unless a list is of this origin: by one of another bucket a node would read, and let go of, what is not meant."""
    about = Engine.snapshot_info(path)
    said = (spelled(about["endpoint"]), about["bucket"], about["prefix"])
    if said != (spelled(origin.endpoint), origin.bucket, origin.prefix):
        raise NodeFailure(
            "bad-snapshot",
            f"the list of v{number} of {origin.volume} is of s3://{said[1]}/{said[2]} at {said[0]}, not of {origin.uri}; refresh the volume",
        )


def spelled(endpoint: str) -> str:
    """An endpoint in the engine's spelling: lower case, without a default port, without a slash at its end."""
    parts = urlsplit(endpoint)
    port = None
    with contextlib.suppress(ValueError):
        port = parts.port
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    shown = f":{port}" if port and port != _DEFAULT_PORTS.get(parts.scheme) else ""
    return f"{parts.scheme}://{host}{shown}{parts.path.rstrip('/')}"


def digest_of(path: Path) -> str:
    """SHA-256 of a list."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def parts_of(path: Path) -> int:
    """How many parts a list has. Raises HeadraceError for one with more than the control plane takes."""
    size = path.stat().st_size
    if size > PARTS_MAX * PART_BYTES:
        raise HeadraceError(
            "snapshot-too-large", f"the list of files takes {size} bytes, more than {PARTS_MAX * PART_BYTES}; register a deeper directory"
        )
    return max(1, -(-size // PART_BYTES))

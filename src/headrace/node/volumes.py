"""Snapshots kept for each origin: files `vN.snap` and a `volume.json` that names the current one."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
from pathlib import Path
from typing import Any

from headrace.errors import CacheFailure, NotFound, UsageError
from headrace.node.private import private_directory_below


def parse_uri(uri: str) -> tuple[str, str]:
    """(bucket, prefix) of `s3://BUCKET[/PREFIX]`; a prefix ends in a slash."""
    match = re.fullmatch(r"s3://([A-Za-z0-9][A-Za-z0-9.\-_]{1,254})(?:/([^\ud800-\udfff]*))?", uri)
    if match is None:
        raise UsageError(
            "bad-setting", f"source: {uri!r} is not s3://BUCKET[/PREFIX], with a bucket's name of at least two letters, digits, dots and dashes"
        )
    prefix = (match[2] or "").strip("/")
    return match[1], f"{prefix}/" if prefix else ""


def _about(path: Path) -> dict[str, Any]:
    """What a `volume.json` says. CacheFailure when it can't be read as one, FileNotFoundError when there is none."""
    try:
        about = json.loads(path.read_text())
        if not all(re.fullmatch(r"v[0-9]+", version["id"]) for version in about["versions"]):
            raise ValueError("a version without a number")
        return {"current": None, **about, **{name: str(about[name]) for name in ("endpoint", "bucket", "prefix")}}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise CacheFailure(
            "cache-snapshots",
            f"snapshots: {path} can't be read ({cause}); unmount what shows lists of files from there, "
            f"move {path.parent} away, and mount again: the bucket is listed anew",
        ) from error


class VolumeStore:
    """The versions held of one prefix."""

    def __init__(self, snapshots: Path, endpoint: str, bucket: str, prefix: str) -> None:
        name = hashlib.blake2b(f"{endpoint}\0{bucket}\0{prefix}".encode(), digest_size=12).hexdigest()
        self.directory = snapshots / name
        self.about = {"endpoint": endpoint, "bucket": bucket, "prefix": prefix}

    @classmethod
    def at(cls, directory: Path) -> VolumeStore:
        """The store that lies in a directory."""
        about = _about(directory / "volume.json")
        return cls(directory.parent, about["endpoint"], about["bucket"], about["prefix"])

    def _read(self) -> dict[str, Any]:
        try:
            return _about(self.directory / "volume.json")
        except FileNotFoundError:
            return {**self.about, "current": None, "versions": []}

    def _make(self) -> None:
        snapshots = self.directory.parent
        private_directory_below(snapshots.parent, self.directory)

    def _write(self, state: dict[str, Any]) -> None:
        self._make()
        with tempfile.NamedTemporaryFile("w", dir=self.directory, delete=False) as file:
            json.dump(state, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self.directory / "volume.json")

    def versions(self) -> list[dict[str, Any]]:
        return list(self._read()["versions"])

    def current(self) -> str | None:
        current = self._read()["current"]
        return str(current) if current else None

    def path(self, version: str) -> Path:
        return self.directory / f"{version}.snap"

    def find(self, version: str) -> str:
        """The version's id; `current` is the current one. Raises NotFound naming what there is."""
        state = self._read()
        held = [str(v["id"]) for v in state["versions"]]
        wanted = str(state["current"]) if version == "current" else version
        if wanted not in held:
            known = ", ".join(held) or "none"
            raise NotFound(
                "unknown-snapshot",
                f"snapshot: {version!r} is not held (held: {known}); mount without --snapshot to list the bucket",
            )
        return wanted

    def candidate(self) -> Path:
        """Where the next listing is built."""
        self._make()
        return self.directory / f"candidate-{os.getpid()}-{time.monotonic_ns()}.snap"

    def publish(self, candidate: Path, report: dict[str, Any]) -> str:
        """Gives a listing its number and makes it current."""
        state = self._read()
        number = max((int(str(v["id"])[1:]) for v in state["versions"]), default=0) + 1
        version = f"v{number}"
        os.replace(candidate, self.path(version))
        entry = {
            "id": version,
            "created": time.time(),
            "files": report["files"],
            "bytes": report["bytes"],
            "skipped": report["skipped"],
            "versioned": report["versioned"],
        }
        state["versions"].append(entry)
        state["current"] = version
        self._write(state)
        return version

    def prune(self, keep: int, in_use: set[str]) -> list[str]:
        """Removes all but the newest `keep` versions, the current one, the one before it, and those whose files are in use."""
        state = self._read()
        ids = [str(v["id"]) for v in state["versions"]]
        wanted = set(ids[-keep:]) | {i for i in ids if os.path.realpath(self.path(i)) in in_use}
        if state["current"] in ids:
            at = ids.index(state["current"])
            wanted |= set(ids[max(0, at - 1) : at + 1])
        gone = [i for i in ids if i not in wanted]
        if gone:
            # The list first: a file that nobody lists is only room, a version without a file is a broken promise.
            state["versions"] = [v for v in state["versions"] if str(v["id"]) not in gone]
            self._write(state)
            for version in gone:
                self.path(version).unlink(missing_ok=True)
        return [str(self.path(version)) for version in gone]

    def set_current(self, version: str) -> None:
        state = self._read()
        state["current"] = version
        self._write(state)

"""Snapshots kept for each origin: files `vN-RANDOM.snap` and a `volume.json` that names them and the current one.

A mount's slot names a file, and a node's successor opens it again by that name: so no name is ever given to a second file, not even
after somebody has deleted `volume.json`, or all of it. The number is what people see; it goes on from the highest that is known.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headrace.errors import CacheFailure, NotFound, UsageError
from headrace.node.private import private_directory_below

# Whoever changes which versions there are, or takes one into use, does it alone: a number is given once, and what is in use is not dropped.
CHANGING = threading.RLock()
_FILE = re.compile(r"v(\d+)(?:-[0-9a-f]+)?\.snap")
# The highest number known of each directory, beyond what lies there.
_highest: dict[str, int] = {}


def remember_numbers(paths: Iterable[str]) -> None:
    """Numbers of lists that are in use, whatever is left of their directories."""
    for path in map(Path, paths):
        found = _FILE.fullmatch(path.name)
        if found:
            with CHANGING:
                _highest[str(path.parent)] = max(int(found[1]), _highest.get(str(path.parent), 0))


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
            try:
                json.dump(state, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, self.directory / "volume.json")
            except BaseException:
                # Upkeep tries again and again on a full disk: each try would leave one.
                os.unlink(file.name)
                raise

    def versions(self) -> list[dict[str, Any]]:
        return [{name: value for name, value in version.items() if name != "file"} for version in self._read()["versions"]]

    def current(self) -> str | None:
        current = self._read()["current"]
        return str(current) if current else None

    def path(self, version: str) -> Path:
        return self.directory / _file(self._read(), version)

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
        with CHANGING:
            state = self._read()
            version = f"v{self._next_number(state)}"
            file = f"{version}-{secrets.token_hex(8)}.snap"
            os.replace(candidate, self.directory / file)
            entry = {
                "id": version,
                "file": file,
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

    def _next_number(self, state: dict[str, Any]) -> int:
        listed = [int(str(v["id"])[1:]) for v in state["versions"]]
        lying = [int(found[1]) for found in map(_FILE.fullmatch, os.listdir(self.directory)) if found]
        number = 1 + max([*listed, *lying, _highest.get(str(self.directory), 0)])
        _highest[str(self.directory)] = number
        return number

    def prune(self, keep: int, in_use: set[str]) -> list[str]:
        """Removes all but the newest `keep` versions, the current one, the one before it, and those whose files are in use."""
        with CHANGING:
            state = self._read()
            ids = [str(v["id"]) for v in state["versions"]]
            paths = {i: self.directory / _file(state, i) for i in ids}
            wanted = set(ids[-keep:]) | {i for i in ids if os.path.realpath(paths[i]) in in_use}
            if state["current"] in ids:
                at = ids.index(state["current"])
                wanted |= set(ids[max(0, at - 1) : at + 1])
            gone = [i for i in ids if i not in wanted]
            if gone:
                # The list first: a file that nobody lists is only room, a version without a file is a broken promise.
                state["versions"] = [v for v in state["versions"] if str(v["id"]) not in gone]
                self._write(state)
                for version in gone:
                    paths[version].unlink(missing_ok=True)
            return [str(paths[version]) for version in gone]

    def set_current(self, version: str) -> None:
        with CHANGING:
            state = self._read()
            state["current"] = version
            self._write(state)


def _file(state: dict[str, Any], version: str) -> str:
    """The name of a version's file. Those of an earlier headrace have none in the list."""
    return next((str(v["file"]) for v in state["versions"] if v["id"] == version and "file" in v), f"{version}.snap")

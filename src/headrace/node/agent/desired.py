"""What should be, as the control plane says it, and the last of it on disk, from which a node starts while the control plane is away."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headrace.errors import NodeFailure
from headrace.node.agent.disk import write_private

_NAME = "desired.json"
_DIGEST = re.compile(r"[0-9a-f]{64}")

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Origin:
    """Where the bytes of a volume are; `revision` grows with every change of it, of its keys too."""

    volume_id: str
    volume: str
    revision: int
    region: str
    endpoint: str
    addressing: str
    bucket: str
    directory: str
    anonymous: bool
    bandwidth: int
    requests: int

    @property
    def prefix(self) -> str:
        """What every key of it begins with."""
        return f"{self.directory}/" if self.directory else ""

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.directory}".rstrip("/")


@dataclass(frozen=True)
class Version:
    """A published list of files. The digest is that of the snapshot file."""

    number: int
    digest: str


@dataclass(frozen=True)
class Selection:
    """What is pulled: `all`, what `patterns` choose, or `metadata` only."""

    kind: str
    include: tuple[str, ...]
    exclude: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A comparison of the origin with the current version, which this node is asked for under a lease."""

    id: str
    lease: int


@dataclass(frozen=True)
class Check:
    """A connection check, which this node is asked for under a lease."""

    id: str
    lease: int


@dataclass(frozen=True)
class Warmup:
    """Data of a version that this node is to pull once."""

    id: str
    version: int
    selection: Selection


@dataclass(frozen=True)
class Item:
    """What this node should do about one acceleration: list it, hold a version of it, have the lists of all."""

    id: str
    origin: Origin
    current: int | None
    versions: tuple[Version, ...]
    list: int | None
    hold: int | None
    selection: Selection
    compare: Comparison | None = None
    warm: tuple[Warmup, ...] = ()

    def version(self, number: int | None) -> Version | None:
        return next((version for version in self.versions if version.number == number), None)


@dataclass(frozen=True)
class Desired:
    """Everything that this node should do, as of a version."""

    version: int
    items: tuple[Item, ...]
    draining: bool = False
    checks: tuple[Check, ...] = ()

    @property
    def pulls(self) -> tuple[Item, ...]:
        """Everything that is to be pulled: what items hold, and each warm-up as if it were an item of its own."""
        warmed = [replace(item, id=one.id, hold=one.version, selection=one.selection) for item in self.items for one in item.warm]
        return (*self.items, *warmed)

    @property
    def digests(self) -> frozenset[str]:
        """Of every snapshot that an item names."""
        return frozenset(version.digest for item in self.items for version in item.versions)


def parse(document: Any) -> Desired:
    """Raises NodeFailure for what is no such document: the control plane is of another version, or none."""
    try:
        items = tuple(_item(item) for item in document["accelerations"])
        checks = tuple(Check(str(one["id"]), int(one["lease"])) for one in document.get("checks", ()))
        return Desired(int(document["version"]), items, bool(document.get("draining", False)), checks)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NodeFailure(
            "bad-desired", f"the control plane says what should be in a way this node does not know ({error!r}); use the same version on both sides"
        ) from None


def _item(said: Document) -> Item:
    return Item(
        id=str(said["id"]),
        origin=_limited(parse_origin(said["origin"]), said.get("share")),
        current=_number(said["current"]),
        versions=tuple(map(parse_version, said["versions"])),
        list=_number(said["list"]),
        hold=_number(said["hold"]),
        selection=_selection(said["selection"]),
        warm=tuple(Warmup(str(one["id"]), int(one["version"]), _selection(one["selection"])) for one in said.get("warm", ())),
        compare=_comparison(said.get("compare")),
    )


def _selection(said: Document) -> Selection:
    return Selection(str(said["kind"]), tuple(map(str, said["include"])), tuple(map(str, said["exclude"])))


def _comparison(said: Document | None) -> Comparison | None:
    """A control plane of before comparisons says nothing."""
    return None if said is None else Comparison(str(said["id"]), int(said["lease"]))


def _limited(origin: Origin, share: Document | None) -> Origin:
    """An origin with this node's share of its ceilings."""
    return origin if share is None else replace(origin, bandwidth=int(share["bandwidth"]), requests=int(share["requests"]))


def parse_origin(said: Document) -> Origin:
    """Raises ValueError, KeyError or TypeError for what is none."""
    return Origin(
        volume_id=str(said["volume_id"]),
        volume=str(said["volume"]),
        revision=int(said["revision"]),
        region=str(said["region"]),
        endpoint=str(said["endpoint"]),
        addressing=str(said["addressing"]),
        bucket=str(said["bucket"]),
        directory=str(said["directory"]),
        anonymous=bool(said["anonymous"]),
        bandwidth=int(said["bandwidth"]),
        requests=int(said["requests"]),
    )


def parse_version(said: Document) -> Version:
    """Raises ValueError, KeyError or TypeError for what is none."""
    return Version(int(said["number"]), _digest(said["digest"]))


def _number(said: Any) -> int | None:
    return None if said is None else int(said)


def _digest(said: Any) -> str:
    """It becomes a file's name."""
    if not isinstance(said, str) or not _DIGEST.fullmatch(said):
        raise ValueError("a digest is no SHA-256")
    return said


class Last:
    """The last that was heard, on disk. There is nothing secret in it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME
        self._written = b""

    def read(self) -> Desired | None:
        """None where nothing was ever heard. A damaged one is worth nothing: then the control plane is waited for."""
        try:
            return parse(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, NodeFailure) as error:
            print(f"node: what should be can't be read from {self._path}: {error}; waiting for the control plane", file=sys.stderr, flush=True)
            return None

    def write(self, document: Any) -> None:
        content = json.dumps(document, sort_keys=True).encode()
        if content != self._written:
            write_private(self._path, content)
            self._written = content

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)
        self._written = b""

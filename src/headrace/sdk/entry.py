"""What a volume tells of its files, and of a warm-up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory of a volume's snapshot.

    Attributes:
        path: Path within the volume, without a leading slash; "" is the volume itself.
        kind: "file" or "dir".
        size: Bytes; 0 for a directory.
        mtime_ns: Last change in the bucket, in nanoseconds since 1970 (UTC).
        etag: The object's ETag as the bucket gave it, with its quotes; "" for a directory.
        version: The object's version id; None in a bucket without versions.
        archived: True when the object is in an archive storage class and has no bytes to read.
    """

    path: str
    kind: str
    size: int
    mtime_ns: int
    etag: str
    version: str | None
    archived: bool

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def modified(self) -> datetime:
        """Last change in the bucket, in UTC, to the microsecond."""
        return datetime.fromtimestamp(self.mtime_ns / 1e9, UTC)

    @property
    def is_file(self) -> bool:
        return self.kind == "file"

    @property
    def is_dir(self) -> bool:
        return self.kind == "dir"

    @classmethod
    def from_listing(cls, path: str, listed: dict[str, Any]) -> Entry:
        """From what the engine tells of one entry."""
        return cls(path, listed["kind"], listed["size"], listed["mtime_ns"], listed["etag"] or "", listed["version"], bool(listed["archived"]))


@dataclass(frozen=True, slots=True)
class WarmProgress:
    """How far a warm-up has come.

    Attributes:
        files: Files held whole.
        files_total: Files asked for.
        bytes: Bytes held.
        bytes_total: Bytes asked for.
        origin_bytes: Bytes that came from the bucket meanwhile, for whomever.
    """

    files: int
    files_total: int
    bytes: int
    bytes_total: int
    origin_bytes: int

    @classmethod
    def from_report(cls, report: dict[str, Any]) -> WarmProgress:
        """From what the engine reports."""
        return cls(report["files"], report["files_total"], report["bytes"], report["bytes_total"], report["origin_bytes"])

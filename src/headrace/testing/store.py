"""Buckets of the test origin: flat keys in byte order, with versions.

A key is nothing but a string, as in S3: `a` lies beside `a/b`, and `//`, `..` or a line break mean nothing. A body
is bytes, a file, or a seed, so that objects of any size cost nothing until they are read. Byte order of UTF-8 is
code point order, so plain sorting of `str` keys is S3's order.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

_PIECE = 1 << 20


@dataclass(frozen=True)
class Body:
    """Bytes of an object: exactly one of `data`, `path` and `seed` says what they are."""

    size: int
    data: bytes | None = None
    path: Path | None = None
    seed: int | None = None

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, fewer at the end."""
        length = max(0, min(length, self.size - offset))
        if self.data is not None:
            return self.data[offset : offset + length]
        if self.path is not None:
            with self.path.open("rb") as file:
                file.seek(offset)
                return file.read(length)
        from headrace.testing.content import content  # needs numpy, which those without seeds need not have

        return content(self.seed or 0, offset, length)

    def pieces(self, offset: int, length: int) -> Iterator[bytes]:
        """The same in pieces of 1 MiB."""
        for start in range(offset, offset + length, _PIECE):
            yield self.read(start, min(_PIECE, offset + length - start))


@dataclass(frozen=True)
class Version:
    """One version of an object; the ETag has its quotes, `modified` is in seconds since 1970."""

    key: str
    version: str
    etag: str
    modified: float
    body: Body
    storage_class: str = "STANDARD"
    content_encoding: str | None = None
    deleted: bool = False


class Bucket:
    """Objects of one bucket. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._versions: dict[str, list[Version]] = {}  # newest last
        self._keys: list[str] | None = []  # sorted; None when it must be made again
        self._number = 0
        self.versioning: str | None = None  # None, "Enabled" or "Suspended", as S3 reports it

    def put(
        self,
        key: str,
        body: Body | bytes,
        *,
        etag: str | None = None,
        storage_class: str = "STANDARD",
        content_encoding: str | None = None,
        modified: float | None = None,
    ) -> Version:
        """Stores a version; without versioning it replaces the one there was."""
        if isinstance(body, bytes):
            body = Body(len(body), data=body)
        when = time.time() if modified is None else modified
        return self._add(Version(key, "null", etag or _etag(body), when, body, storage_class, content_encoding))

    def put_tree(self, root: Path, prefix: str = "") -> int:
        """Serves the files below `root` from where they lie; returns how many."""
        paths = [p for p in root.rglob("*") if p.is_file()]
        for path in paths:
            stat = path.stat()
            self.put(prefix + path.relative_to(root).as_posix(), Body(stat.st_size, path=path), modified=stat.st_mtime)
        return len(paths)

    def delete(self, key: str, version: str | None = None) -> Version | None:
        """Removes a version if one is named, else what S3 removes; gives the marker where versions are on."""
        if version is None and self.versioning is not None:
            return self._add(Version(key, "null", '""', time.time(), Body(0, data=b""), deleted=True))
        with self._lock:
            held = self._versions.get(key, [])
            self._set(key, [v for v in held if version is not None and v.version != version])
        return None

    def get(self, key: str, version: str | None = None) -> Version | None:
        """The newest version, or the one named; None when there is none. A delete marker has `deleted`."""
        with self._lock:
            held = self._versions.get(key, [])
            if version is None:
                return held[-1] if held else None
            return next((v for v in held if v.version == version), None)

    def keys(self) -> list[str]:
        """Every key in byte order, also of objects whose newest version is a delete marker. Not to be changed."""
        with self._lock:
            if self._keys is None:
                self._keys = sorted(self._versions)
            return self._keys

    def versions(self, key: str) -> list[Version]:
        """All versions of a key, newest first."""
        with self._lock:
            return self._versions.get(key, [])[::-1]

    def __len__(self) -> int:
        return len(self._versions)

    def _add(self, version: Version) -> Version:
        with self._lock:
            self._number += 1
            held = self._versions.get(version.key, [])
            if self.versioning == "Enabled":
                version = replace(version, version=f"v{self._number:08d}")
                self._set(version.key, [*held, version])
            else:  # the null version is replaced, others stay
                self._set(version.key, [*(v for v in held if v.version != "null"), version])
            return version

    def _set(self, key: str, versions: list[Version]) -> None:
        if versions:
            if key not in self._versions:
                self._keys = None
            self._versions[key] = versions
        elif self._versions.pop(key, None) is not None:
            self._keys = None


def _etag(body: Body) -> str:
    """MD5 of the bytes as S3 has it; for files and seeds, whose bytes are not at hand, one in the form of a multipart upload's."""
    if body.data is not None:
        return f'"{hashlib.md5(body.data, usedforsecurity=False).hexdigest()}"'
    stamp = f"{body.path}\0{body.path and os.stat(body.path).st_mtime_ns}\0{body.seed}\0{body.size}"
    return f'"{hashlib.md5(stamp.encode(errors="surrogateescape"), usedforsecurity=False).hexdigest()}-1"'

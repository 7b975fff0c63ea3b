"""Learned orders on the disk: one small file for each directory of a bucket, beside the snapshots.

They are not synced: a power loss costs what was learned lately, and a file that it damaged is dropped when it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from headrace.errors import UsageError
from headrace.node.orders import Order, encoded, parse

_UNFINISHED = ".part"
_UNFINISHED_SECONDS = 60.0
# Orders of one bucket that are kept; those learned longest ago go.
_KEPT = 256


class OrderStore:
    """The orders kept of one bucket. Two of the same bucket are equal."""

    def __init__(self, snapshots: Path, endpoint: str, bucket: str) -> None:
        self._directory = snapshots / "orders" / _named(f"{endpoint}\0{bucket}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderStore) and self._directory == other._directory

    def __hash__(self) -> int:
        return hash(self._directory)

    def _path(self, directory: str) -> Path:
        return self._directory / f"{_named(directory)}.json"

    def get(self, directory: str) -> Order | None:
        """That of a directory (a key without its last slash)."""
        found = self._read(self._path(directory))
        return found[1] if found else None

    def put(self, directory: str, order: Order) -> None:
        """Keeps an order in place of the one known. Raises UsageError when it would not be read again, OSError as the disk does."""
        document = order.document(directory)
        parse(document)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._drop_unfinished()
        with tempfile.NamedTemporaryFile("w", dir=self._directory, suffix=_UNFINISHED, delete=False) as file:
            try:
                file.write(encoded(document))
                file.flush()
                os.replace(file.name, self._path(directory))
            except BaseException:
                os.unlink(file.name)  # a full disk gets its room back
                raise
        for path in self._newest_first()[_KEPT:]:
            path.unlink(missing_ok=True)

    def _drop_unfinished(self) -> None:
        """What a node that was killed was writing."""
        for path in self._directory.glob(f"*{_UNFINISHED}"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                    path.unlink()

    def drop(self, directory: str) -> bool:
        """True if there was one."""
        try:
            self._path(directory).unlink()
        except FileNotFoundError:
            return False
        return True

    def newest(self, prefix: str, limit: int = _KEPT) -> Iterator[tuple[str, Order]]:
        """Directories under a prefix ("" or ending in a slash) with their orders, those learned last first."""
        for path in self._newest_first():
            found = self._read(path)
            if found and limit and f"{found[0]}/".startswith(prefix):
                limit -= 1
                yield found

    def _newest_first(self) -> list[Path]:
        learned: list[tuple[float, Path]] = []
        try:
            for path in self._directory.glob("*.json"):
                with contextlib.suppress(FileNotFoundError):
                    learned.append((path.stat().st_mtime, path))
        except OSError as error:
            self._cannot_read(self._directory, error)
        return [path for _, path in sorted(learned, reverse=True)]

    @staticmethod
    def _cannot_read(path: Path, error: OSError) -> None:
        """The cache disk fails: a load without an order is slower, and that is all."""
        print(f"node: cannot read the learned order {path}: {error}", file=sys.stderr, flush=True)

    @classmethod
    def _read(cls, path: Path) -> tuple[str, Order] | None:
        """What a file holds. A damaged one is worth nothing, and goes."""
        try:
            document = json.loads(path.read_bytes())
            directory = str(document["directory"])
            if path.stem != _named(directory):
                raise ValueError("it is another directory's")
            directory.encode()  # the engine takes UTF-8
            return directory, parse(document)
        except FileNotFoundError:
            return None
        except OSError as error:
            cls._cannot_read(path, error)
            return None
        except (ValueError, TypeError, KeyError, UsageError, RecursionError) as error:
            print(f"node: dropping the learned order {path}: {error}", file=sys.stderr, flush=True)
            with contextlib.suppress(OSError):  # of a disk that fails, it is met again at the next start
                path.unlink(missing_ok=True)
            return None


def _named(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()

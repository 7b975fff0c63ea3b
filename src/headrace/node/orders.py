"""What was learned from loads: the order in which a directory's files were asked for.

The engine records it, and goes by it when the directory is next loaded cold (`engine/fetch/src/load.rs`). Here it is kept, beside
the snapshots: one small file for each directory of a bucket. It holds names, sizes and offsets, no bytes, and serves any copy of the
same files: `headrace order export` and `import` carry it to other machines.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace._engine import Engine
from headrace.errors import UsageError
from headrace.node.private import private_directory_below
from headrace.settings import Settings

FORMAT = 1
# As the engine's bounds (`engine/fetch/src/order.rs`).
_FILES_MAX = 4096
_STEPS_MAX = 65_536
_NAME_BYTES_MAX = 255
_SIZE_MAX = 2**63 - 1
_UNFINISHED = ".part"
_UNFINISHED_SECONDS = 60.0
# Orders of one bucket that are kept; those learned longest ago go.
_KEPT = 256
# Orders that a mount goes by; those learned last.
_RECALLED = 32


@dataclass(frozen=True)
class Order:
    """Files as (name, bytes); steps as (index of the file, first byte, one past the last)."""

    files: list[tuple[str, int]]
    steps: list[tuple[int, int, int]]

    @property
    def bytes(self) -> int:
        return sum(end - start for _, start, end in self.steps)

    def document(self, directory: str) -> dict[str, Any]:
        """As it is written and exchanged; `directory` (a key without its last slash) tells where it was learned."""
        return {"headrace_order": FORMAT, "directory": directory, "files": self.files, "steps": self.steps}


def parse(document: Any) -> Order:
    """The order of a document. Raises UsageError naming what does not fit."""
    if not isinstance(document, dict) or document.get("headrace_order") != FORMAT:
        raise _unfit(f"it is not a learned order of format {FORMAT}; export one with `headrace order export`")
    files, steps = document.get("files"), document.get("steps")
    if not isinstance(files, list) or len(files) > _FILES_MAX or not all(map(_is_file, files)):
        raise _unfit(f"files must be a list of at most {_FILES_MAX} pairs of a name and a size; export it again")
    if not isinstance(steps, list) or len(steps) > _STEPS_MAX or not all(_is_step(step, files) for step in steps):
        raise _unfit(f"steps must be a list of at most {_STEPS_MAX} triples of a file's index, a start and an end within the file; export it again")
    return Order([(name, size) for name, size in files], [(file, start, end) for file, start, end in steps])


def _unfit(why: str) -> UsageError:
    return UsageError("bad-order", f"order: {why}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _SIZE_MAX


def _is_file(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and _is_number(value[1])):
        return False
    with contextlib.suppress(UnicodeEncodeError):
        return 0 < len(value[0].encode()) <= _NAME_BYTES_MAX and "/" not in value[0] and "\0" not in value[0]
    return False


def _is_step(value: Any, files: list[Any]) -> bool:
    if not (isinstance(value, list) and len(value) == 3 and all(map(_is_number, value)) and value[0] < len(files)):
        return False
    return bool(value[1] < value[2] <= files[value[0]][1])


class OrderStore:
    """The orders kept of one bucket."""

    def __init__(self, snapshots: Path, endpoint: str, bucket: str) -> None:
        self._directory = snapshots / "orders" / _named(f"{endpoint}\0{bucket}")

    def _path(self, directory: str) -> Path:
        return self._directory / f"{_named(directory)}.json"

    def get(self, directory: str) -> Order | None:
        """That of a directory (a key without its last slash)."""
        found = self._read(self._path(directory))
        return found[1] if found else None

    def put(self, directory: str, order: Order) -> None:
        snapshots = self._directory.parent.parent
        private_directory_below(snapshots.parent, self._directory)
        self._drop_unfinished()
        with tempfile.NamedTemporaryFile("w", dir=self._directory, suffix=_UNFINISHED, delete=False) as file:
            try:
                json.dump(order.document(directory), file, separators=(",", ":"))
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


class Learning:
    """Carries orders between the engine and the disk, for every origin of a node."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._stores: dict[str, OrderStore] = {}
        self._growing: dict[tuple[str, str], Order] = {}

    def store(self, entry: dict[str, Any]) -> OrderStore:
        """Where orders of a mount's or a volume's bucket are kept."""
        return OrderStore(self._settings.snapshots, entry["origin"]["endpoint"], entry["bucket"])

    def recall(self, engine: Engine, origin_id: str, entry: dict[str, Any]) -> None:
        """Has the engine go by what is known of an origin's directories. To be called before anything is read."""
        if not self._settings.learn_order:
            return
        store = self.store(entry)
        for directory, order in store.newest(entry["prefix"], _RECALLED):
            engine.follow(origin_id, directory, order.files, order.steps)
        with self._lock:
            self._stores[origin_id] = store

    def look(self, engine: Engine) -> None:
        """Keeps what has grown no further since the last look: that load is over, or pauses. The next one of it goes by it."""
        with self._lock:
            for origin_id in self._stores:
                grown = self._grown(engine, origin_id)
                for directory, order in self._take(origin_id, but=grown.keys()):
                    if self._keep(origin_id, directory, order):
                        engine.follow(origin_id, directory, order.files, order.steps)
                self._growing |= grown

    def keep(self, engine: Engine, origin_id: str) -> None:
        """Keeps everything learned so far of an origin."""
        with self._lock:
            if origin_id in self._stores:
                self._growing |= self._grown(engine, origin_id)
                for directory, order in self._take(origin_id):
                    self._keep(origin_id, directory, order)

    def settle(self, engine: Engine, origin_id: str) -> None:
        """The same, for an origin that goes away."""
        self.keep(engine, origin_id)
        with self._lock:
            self._stores.pop(origin_id, None)

    def settle_all(self, engine: Engine) -> None:
        for origin_id in list(self._stores):
            self.settle(engine, origin_id)

    @staticmethod
    def _grown(engine: Engine, origin_id: str) -> dict[tuple[str, str], Order]:
        return {(origin_id, directory): Order(files, steps) for directory, files, steps in engine.orders(origin_id)}

    def _take(self, origin_id: str, but: Collection[tuple[str, str]] = ()) -> list[tuple[str, Order]]:
        keys = [key for key in self._growing if key[0] == origin_id and key not in but]
        return [(key[1], self._growing.pop(key)) for key in keys]

    def _keep(self, origin_id: str, directory: str, order: Order) -> bool:
        """A look into a model does not replace what was learned from loading it."""
        store = self._stores[origin_id]
        known = store.get(directory)
        if known is not None and order.bytes * 2 < known.bytes:
            return False
        try:
            store.put(directory, order)
        except OSError as error:  # a full disk: the next load is learned from too
            print(f"node: the order of {directory!r} is not kept: {error}", file=sys.stderr, flush=True)
            return False
        return True

"""Carries learned orders between the engine and the disk, for every origin of a node.

Nothing of it may end a mount, or the node: a load without an order is slower, and that is all. So what goes wrong here is told in the log.
"""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from headrace._engine import Engine, EngineError
from headrace.errors import CacheFailure
from headrace.node.order_store import OrderStore
from headrace.node.orders import Order, merged
from headrace.settings import Settings

# Orders that an origin goes by, those learned last, and their steps together: as many as the engine has room for (`engine/volume/src/loads.rs`).
_RECALLED = 32
_RECALLED_STEPS = 262_144


@dataclass(frozen=True)
class _Origin:
    store: OrderStore
    prefix: str

    def has(self, directory: str) -> bool:
        return f"{directory}/".startswith(self.prefix)


@contextlib.contextmanager
def _harmless(doing: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        print(f"node: {doing}: {type(error).__name__}: {error}; loads go on without", file=sys.stderr, flush=True)


class Learning:
    """What is learned, kept, recalled and forgotten."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._origins: dict[str, _Origin] = {}
        self._growing: dict[tuple[str, str], Order] = {}
        # Directories that were told something since an origin came: what is recalled is older.
        self._told: set[tuple[str, str]] = set()
        self._to_recall: queue.SimpleQueue[tuple[Engine, str]] = queue.SimpleQueue()

    def store(self, entry: dict[str, Any]) -> OrderStore:
        """Where orders of a mount's or a volume's bucket are kept."""
        return OrderStore(self._settings.snapshots, entry["origin"]["endpoint"], entry["bucket"])

    def add(self, engine: Engine, origin_id: str, entry: dict[str, Any]) -> None:
        """Begins to learn from an origin. What is known of it is recalled soon: reading it takes time, and nobody waits for it."""
        with _harmless("learning orders"):
            with self._lock:
                self._origins[origin_id] = _Origin(self.store(entry), entry["prefix"])
            if self._settings.learn_order:
                self._to_recall.put((engine, origin_id))

    def start(self) -> None:
        """Begins to recall, when all that was mounted is served again."""
        threading.Thread(target=self._recall_all, daemon=True).start()

    def _recall_all(self) -> None:
        while True:
            self.recall(*self._to_recall.get())

    def recall(self, engine: Engine, origin_id: str) -> None:
        """Has the engine go by what is known of an origin's directories."""
        with _harmless("recalling orders"):
            origin, steps = self._origins.get(origin_id), 0
            if origin is None:
                return
            for directory, order in origin.store.newest(origin.prefix, _RECALLED):
                steps += len(order.steps)
                if steps > _RECALLED_STEPS:
                    break
                with self._lock:
                    if origin_id in self._origins and (origin_id, directory) not in self._told:
                        engine.follow(origin_id, directory, order.files, order.steps, False)

    def look(self, engine: Engine) -> None:
        """Keeps what has grown no further since the last look: that load is over, or pauses. The next one of it goes by it."""
        with self._lock:
            for origin_id, origin in self._origins.items():
                with _harmless("keeping orders"):
                    grown = self._grown(engine, origin_id)
                    self._keep(engine, origin_id, origin, but=grown.keys())
                    self._growing |= grown

    def keep(self, engine: Engine, origin_id: str) -> None:
        """Keeps everything learned so far of an origin."""
        with self._lock, _harmless("keeping orders"):
            if origin_id in self._origins:
                self._growing |= self._grown(engine, origin_id)
                self._keep(engine, origin_id, self._origins[origin_id])

    def settle(self, engine: Engine, origin_id: str) -> None:
        """The same, for an origin that goes away."""
        self.keep(engine, origin_id)
        with self._lock:
            self._origins.pop(origin_id, None)
            for known in [key for key in self._told | self._growing.keys() if key[0] == origin_id]:
                self._told.discard(known)
                self._growing.pop(known, None)

    def settle_all(self, engine: Engine) -> None:
        for origin_id in list(self._origins):
            self.settle(engine, origin_id)

    def put(self, engine: Engine, store: OrderStore, directory: str, order: Order) -> None:
        """Keeps an order that is given, and has every origin of the bucket go by it at once. Raises CacheFailure when the disk does not take it."""
        with self._lock, _disk(directory):
            store.put(directory, order)
            self._forget_growing(store, lambda name: name == directory)
            self._tell(engine, store, directory, order, replace=True)

    def drop(self, engine: Engine, store: OrderStore, directory: str) -> int:
        """Forgets what was learned of a directory and below, whichever origin of the bucket it came from; gives how many orders."""
        with self._lock, _disk(directory):
            names = [name for name, _ in store.newest(f"{directory}/" if directory else "")]
            for name in names:
                store.drop(name)
                self._told |= {(origin_id, name) for origin_id, origin in self._origins.items() if origin.store == store}
            self._forget_growing(store, lambda name: f"{name}/".startswith(f"{directory}/" if directory else ""))
            for origin_id, origin in self._origins.items():
                if origin.store == store:
                    with contextlib.suppress(EngineError):  # it is being removed
                        engine.forget_orders(origin_id, directory)
            return len(names)

    def _forget_growing(self, store: OrderStore, meant: Callable[[str], bool]) -> None:
        for origin_id, name in list(self._growing):
            if meant(name) and self._origins[origin_id].store == store:
                del self._growing[origin_id, name]

    def _tell(self, engine: Engine, store: OrderStore, directory: str, order: Order, replace: bool) -> None:
        for origin_id, origin in self._origins.items():
            if origin.store == store and origin.has(directory):
                self._told.add((origin_id, directory))
                with contextlib.suppress(EngineError):  # it is being removed
                    engine.follow(origin_id, directory, order.files, order.steps, replace)

    @staticmethod
    def _grown(engine: Engine, origin_id: str) -> dict[tuple[str, str], Order]:
        return {(origin_id, directory): Order(files, steps) for directory, files, steps in engine.orders(origin_id)}

    def _keep(self, engine: Engine, origin_id: str, origin: _Origin, but: Collection[tuple[str, str]] = ()) -> None:
        for key in [key for key in self._growing if key[0] == origin_id and key not in but]:
            directory, grown = key[1], self._growing.pop(key)
            order = merged(grown, origin.store.get(directory))
            if not order.steps:
                continue
            try:
                origin.store.put(directory, order)
            except OSError as error:  # a full disk: the next load is learned from too
                print(f"node: the order of {directory!r} is not kept: {error}", file=sys.stderr, flush=True)
                continue
            self._tell(engine, origin.store, directory, order, replace=False)


@contextlib.contextmanager
def _disk(directory: str) -> Iterator[None]:
    """The disk's errors, for whoever asked."""
    try:
        yield
    except OSError as error:
        cause = error.strerror or str(error)
        raise CacheFailure(
            "cache-order", f"order: that of {directory or '/'} can't be kept or dropped: {cause}; see to the cache disk, then try again"
        ) from error

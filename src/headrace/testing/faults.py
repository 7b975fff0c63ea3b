"""Which request gets which fault: by seed and rate, by a script, or for a key for good.

The choice for a request depends on the seed, the key, the range and how often that range was asked for before, and
not on the order in which threads happen to arrive: the same seed gives the same faults to the same requests.

A client gives up some time, so a test that expects success needs faults that pass: after `in_a_row` failures of the
same range the next answer is right. Faults that shall not pass are given with `always`.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Fault(StrEnum):
    """Ways to fail."""

    SLOW_DOWN = "503"  # SlowDown
    TOO_MANY = "429"  # TooManyRequests
    INTERNAL = "500"  # InternalError
    RESET_BEFORE = "reset-before"  # the connection is reset before the first byte
    RESET_INSIDE = "reset-inside"  # ... somewhere in the body
    TRUNCATED = "truncated"  # the connection is closed in good order, but somewhere in the body
    WRONG_ETAG = "wrong-etag"  # another version, and other bytes
    WRONG_RANGE = "wrong-range"  # Content-Range and bytes of another place, or of a part only
    WRONG_LENGTH = "wrong-length"  # Content-Length, and as many bytes, one too few or too many
    WHOLE = "200-to-range"  # the whole object, as from a server that knows no ranges
    STALL = "stall"  # the answer stops somewhere in the body, and the connection stays
    SLOW_FIRST_BYTE = "slow-first-byte"  # right, but late
    CAPPED = "capped"  # right, but at `cap` bytes a second
    REPEATED_TOKEN = "repeated-token"  # a listing's page that leads to itself
    MISSING_TOKEN = "missing-token"  # a page that says that more follows, but not where
    CUT_LISTING = "cut-listing"  # a page whose XML ends in the middle, with a Content-Length that agrees


_ANYWHERE = (Fault.SLOW_DOWN, Fault.TOO_MANY, Fault.INTERNAL, Fault.RESET_BEFORE, Fault.SLOW_FIRST_BYTE)
_WITH_BODY = (*_ANYWHERE, Fault.RESET_INSIDE, Fault.TRUNCATED, Fault.STALL, Fault.CAPPED)
_PAGES = (Fault.REPEATED_TOKEN, Fault.MISSING_TOKEN, Fault.CUT_LISTING)
POSSIBLE = {
    "range": (*_WITH_BODY, Fault.WRONG_ETAG, Fault.WRONG_RANGE, Fault.WRONG_LENGTH, Fault.WHOLE),
    "get": (*_WITH_BODY, Fault.WRONG_ETAG, Fault.WRONG_LENGTH),
    "head": _ANYWHERE,
    "list": (*_WITH_BODY, *_PAGES),
    "other": _ANYWHERE,
}
"""What can be done to each kind of request: a GET with and without a range, HEAD, a listing, the rest."""

LATE = frozenset({Fault.SLOW_FIRST_BYTE, Fault.CAPPED})
"""Faults that bring the right bytes all the same."""

_REMEMBERED = 200_000


@dataclass(frozen=True)
class Given:
    """A fault and a number from 0 to 1 that says where in the body, or which of its forms."""

    fault: Fault
    where: float

    def cut(self, length: int) -> int:
        """A place inside a body of `length` bytes."""
        return int(self.where * length)


class Faults:
    """The faults of an origin. Every field may be changed while it runs."""

    def __init__(self, *, seed: int = 0, rate: float = 0.0, kinds: Iterable[Fault] | Mapping[Fault, float] | None = None) -> None:
        self.seed = seed
        self.rate = rate  # share of requests that get a fault, 0 to 1
        self.kinds = _weights(kinds)
        self.on = frozenset({"range"})  # kinds of requests that the rate is for; see POSSIBLE
        self.in_a_row = 3
        self.retry_after: int | None = None  # seconds, sent with 503 and 429
        self.stall = 60.0  # seconds, then the connection is reset
        self.late = 0.5  # seconds before a slow first byte
        self.cap = 256 << 10  # bytes a second of a capped answer
        self.given: Counter[Fault] = Counter()
        self._lock = threading.Lock()
        self._always: dict[tuple[str, str], Fault] = {}
        self._script: deque[Fault | None] = deque()
        self._script_on = "range"
        self._asked: Counter[tuple[str, str, str]] = Counter()
        self._row: Counter[tuple[str, str, str]] = Counter()

    def always(self, fault: Fault, key: str = "*", on: str = "range") -> None:
        """Every request of kind `on` for `key` (`*` is any) gets this fault, until `pass_over` or `clear`."""
        self._check(fault, on)
        with self._lock:
            self._always[on, key] = fault

    def pass_over(self, key: str = "*", on: str = "range") -> None:
        """Ends `always` for a key."""
        with self._lock:
            self._always.pop((on, key), None)

    def script(self, *faults: Fault | None, on: str = "range") -> None:
        """The next requests of kind `on` get these, in order; None is a right answer."""
        for fault in faults:
            self._check(fault, on)
        with self._lock:
            self._script = deque(faults)
            self._script_on = on

    def clear(self) -> None:
        """No more faults; what was given stays counted."""
        with self._lock:
            self.rate = 0.0
            self._always.clear()
            self._script.clear()

    @property
    def total(self) -> int:
        """Faults given so far."""
        with self._lock:
            return self.given.total()

    def choose(self, kind: str, key: str, place: str) -> Given | None:
        """The fault for a request; `place` is its range, or its place in a listing."""
        with self._lock:
            what = (kind, key, place)
            if len(self._asked) > _REMEMBERED:
                self._asked.clear()
                self._row.clear()
            self._asked[what] += 1
            digest = hashlib.blake2b(f"{self.seed}\0{kind}\0{key}\0{place}\0{self._asked[what]}".encode(), digest_size=12).digest()
            chance, which, where = (int.from_bytes(digest[i : i + 4]) / 2**32 for i in (0, 4, 8))
            fault = self._chosen(kind, key, place, chance, which)
            if fault is None:
                return None
            self.given[fault] += 1
            return Given(fault, where)

    def _chosen(self, kind: str, key: str, place: str, chance: float, which: float) -> Fault | None:
        if self._script and kind == self._script_on:
            return self._script.popleft()
        fault = self._always.get((kind, key)) or self._always.get((kind, "*"))
        if fault is not None:
            return fault
        # A request that goes on inside a range ends where the range ends.
        row = (kind, key, place.rpartition("-")[2] if kind == "range" else place)
        if kind in self.on and chance < self.rate and self._row[row] < self.in_a_row:
            fault = _pick({f: w for f, w in self.kinds.items() if f in POSSIBLE[kind]}, which)
        if fault is None or fault in LATE:
            self._row.pop(row, None)
        else:
            self._row[row] += 1
        return fault

    def adjust(self, fields: Mapping[str, Any]) -> None:
        """Sets fields from JSON. ValueError names one that does not exist or can't have its value."""
        plain = {"seed": int, "rate": float, "in_a_row": int, "stall": float, "late": float, "cap": int, "retry_after": int}
        for name, value in fields.items():
            try:
                if name == "kinds":
                    self.kinds = _weights({Fault(f): float(w) for f, w in value.items()} if isinstance(value, Mapping) else map(Fault, value))
                elif name == "on":
                    self.on = frozenset(value) & frozenset(POSSIBLE)
                elif name == "always":
                    permanent = {("range", str(key)): Fault(fault) for key, fault in value.items()}
                    for fault in permanent.values():
                        self._check(fault, "range")
                    with self._lock:
                        self._always = permanent
                elif name == "script":
                    self.script(*(None if f is None else Fault(f) for f in value))
                elif name in plain:
                    setattr(self, name, plain[name](value))
                else:
                    raise ValueError(f"there is no such field; there are kinds, on, always, script, {', '.join(plain)}")
            except (TypeError, AttributeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from None

    @staticmethod
    def _check(fault: Fault | None, on: str) -> None:
        if on not in POSSIBLE:
            raise ValueError(f"on: {on!r} is none of {', '.join(POSSIBLE)}")
        if fault is not None and fault not in POSSIBLE[on]:
            raise ValueError(f"fault: {fault.value} can't be given to a request of kind {on!r}")


def _weights(kinds: Iterable[Fault] | Mapping[Fault, float] | None) -> dict[Fault, float]:
    """Weights of the kinds to choose from; by default equal for all that a client should survive."""
    if isinstance(kinds, Mapping):
        return dict(kinds)
    return dict.fromkeys(kinds if kinds is not None else POSSIBLE["range"], 1.0)


def _pick(weights: Mapping[Fault, float], which: float) -> Fault | None:
    rest = which * sum(weights.values())
    for fault, weight in weights.items():
        rest -= weight
        if rest < 0:
            return fault
    return None

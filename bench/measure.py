"""Values, their quartiles, bounds, and pairs of runs that take turns."""

from __future__ import annotations

import math
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

LONG_SECONDS = 10.0  # a run that takes longer is repeated less often


@dataclass(frozen=True)
class Bound:
    """What a figure must reach."""

    sign: str  # "≥" or "≤"
    limit: float

    def holds(self, value: float) -> bool:
        return value >= self.limit if self.sign == "≥" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:.4g}"


def at_least(limit: float) -> Bound:
    return Bound("≥", limit)


def at_most(limit: float) -> Bound:
    return Bound("≤", limit)


@dataclass(frozen=True)
class Figure:
    """One line of the result. `worst`: the bound is for every value, not for the median. Without a bound it informs."""

    what: str
    unit: str
    values: tuple[float, ...]
    bound: Bound | None = None
    worst: bool = False

    @property
    def judged(self) -> float:
        """The value that stands for the figure."""
        if self.worst and self.bound is not None:
            return min(self.values) if self.bound.sign == "≥" else max(self.values)
        return statistics.median(self.values)

    @property
    def reached(self) -> bool | None:
        """None where nothing must be reached."""
        return None if self.bound is None else self.bound.holds(self.judged)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile; a single value is all three."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


@dataclass(frozen=True)
class Repeats:
    """How often a run is made: `short`, or `long` where one takes over ten seconds."""

    short: int = 9
    long: int = 5
    clock: Callable[[], float] = time.monotonic  # of the runs, without what prepares them

    def times(self, run: Callable[[], float]) -> list[float]:
        """Values of one run made again and again."""
        return [value for (value,) in self.in_turn([run])]

    def in_turn(self, runs: Sequence[Callable[[], float]]) -> list[tuple[float, ...]]:
        """Rounds of all runs, each round beginning with another one; gives each round's values in the given order."""
        rounds: list[tuple[float, ...]] = []
        count = self.short
        while len(rounds) < count:
            values: dict[int, float] = {}
            for step in range(len(runs)):
                place = (step + len(rounds)) % len(runs)
                began = self.clock()
                values[place] = runs[place]()
                if self.clock() - began > LONG_SECONDS:
                    count = min(count, self.long)
            rounds.append(tuple(values[place] for place in range(len(runs))))
        return rounds

    def compare(self, runs: Mapping[str, Callable[[], float]], failed: Callable[[str, Exception], None]) -> Rounds:
        """Contestants take turns. One that fails is told to `failed`, which may raise; it is out, with what it had reached."""
        out: set[str] = set()

        def attempt(name: str) -> float:
            if name in out:
                return math.nan
            try:
                return runs[name]()
            except (RuntimeError, OSError, subprocess.SubprocessError) as failure:
                failed(name, failure)
                out.add(name)
                return math.nan

        rounds = self.in_turn([lambda name=name: attempt(name) for name in runs])  # type: ignore[misc]
        columns = dict(zip(runs, zip(*rounds, strict=True), strict=True))
        return Rounds({name: values for name, values in columns.items() if name not in out})


@dataclass(frozen=True)
class Rounds:
    """Values of several contestants, by name, one each a round."""

    values: Mapping[str, tuple[float, ...]]

    def ratios(self, name: str, *others: str) -> tuple[float, ...]:
        """Within each round, to the best (the highest) of the others."""
        return tuple(value / max(rest) for value, *rest in zip(*(self.values[each] for each in (name, *others)), strict=True))

    def among(self, names: Iterable[str]) -> list[str]:
        """Those of the names that took part."""
        return [name for name in names if name in self.values]

    def median(self, name: str) -> float:
        return statistics.median(self.values[name])

    def best(self, names: Iterable[str]) -> str | None:
        """Of the names that took part, the one with the highest median."""
        return max(self.among(names), key=self.median, default=None)


def ratios(rounds: Sequence[tuple[float, ...]], of: int = 0, to: int = 1) -> tuple[float, ...]:
    """Ratio of one run to another within each round."""
    return tuple(values[of] / values[to] for values in rounds)

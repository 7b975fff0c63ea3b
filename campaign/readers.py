"""Programs that read a mount and compare every byte, several of them, while something happens; see reader.py."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Report:
    """What all readers saw together."""

    processes: int
    threads: int
    opens: int
    reads: int
    fewest: int  # reads of the least busy process
    bytes: int
    longest: float  # seconds of the longest call
    wrong: list[tuple[str, int, str]]  # file, offset, "bytes" or an errno

    @property
    def wrong_bytes(self) -> int:
        return sum(what == "bytes" for _, _, what in self.wrong)

    @property
    def errors(self) -> int:
        return len(self.wrong) - self.wrong_bytes


class Readers:
    """One process for each name of `ways`; the name's first word is the way to read, the value the number of threads."""

    def __init__(self, mount: Path, reference: Path, ways: Mapping[str, int], seed: int) -> None:
        script = str(Path(__file__).with_name("reader.py"))
        self.ways = dict(ways)
        self._running = [
            subprocess.Popen(
                [sys.executable, script, way.split()[0], str(threads), f"{seed} {way}", str(mount), str(reference)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for way, threads in ways.items()
        ]  # fmt: skip

    def alive(self) -> bool:
        return all(process.poll() is None for process in self._running)

    def finish(self, seconds: float) -> Report:
        """Tells all to stop; what they saw. AssertionError for one that hangs or was killed, by SIGBUS for instance."""
        for process in self._running:
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        until = time.monotonic() + seconds
        parts: list[dict[str, Any]] = []
        for process in self._running:
            out, _ = process.communicate(timeout=max(0.0, until - time.monotonic()))
            assert process.returncode == 0, f"a reader ended with {process.returncode}"
            parts.append(json.loads(out))
        return Report(
            processes=len(parts),
            threads=sum(self.ways.values()),
            opens=sum(part["opens"] for part in parts),
            reads=sum(part["reads"] for part in parts),
            fewest=min(part["reads"] for part in parts),
            bytes=sum(part["bytes"] for part in parts),
            longest=max(part["longest"] for part in parts),
            wrong=[tuple(wrong) for part in parts for wrong in part["wrong"]],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._running:
            process.kill()
            process.wait()

"""Ways in which programs read, each in a process of its own so that nothing of an earlier run is left.

`python -m bench.readers WAY PATH …` is that process; it prints one JSON object.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PIECE = 8 << 20


@dataclass(frozen=True)
class Read:
    """What a reader took: seconds, bytes it made the kernel read from disks, and what it found."""

    seconds: float
    disk_bytes: int
    found: Any = None


def dd(path: Path) -> Read:
    """`dd bs=1M` to /dev/null; the seconds are its own."""
    with subprocess.Popen(
        ["dd", f"if={path}", "of=/dev/null", "bs=1M"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"LC_ALL": "C"},
    ) as process:
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = re.search(r"copied, ([\d.e+-]+) s", told)
    if process.returncode or seconds is None:
        raise RuntimeError(f"dd of {path} failed: {told}")
    return Read(float(seconds[1]), usage.ru_inblock * 512)


def dd_together(path: Path, readers: int) -> float:
    """Seconds until the last of several `dd` that begin at once has ended."""
    began = time.monotonic()
    command = ["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"]
    processes = [subprocess.Popen(command) for _ in range(readers)]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"dd of {path} failed: {codes}")
    return time.monotonic() - began


def run(way: str, path: Path, *arguments: object) -> Read:
    """One of the ways below, in a process of its own."""
    command = [sys.executable, "-m", "bench.readers", way, str(path), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"reading {path} ({way}) failed: {done.stderr}")
    return Read(**json.loads(done.stdout))


def mapped_sum(path: Path) -> int:
    """Maps the file and adds up all its words."""
    import numpy as np

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        words = np.frombuffer(view, np.uint64, count=len(view) // 8)
        total = int(words.sum())
        del words
    return total


def mapped_touch(path: Path) -> int:
    """Maps the file and adds up one byte of each page."""
    import numpy as np

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        return int(np.frombuffer(view, np.uint8)[:: mmap.PAGESIZE].sum())


def sequential_check(path: Path, seed: str) -> int | None:
    """Reads the file in pieces; offset of the first byte that is not content `seed`'s, None when all are right."""
    from headrace.testing.content import first_difference

    with path.open("rb", buffering=0) as file:
        offset = 0
        while piece := file.read(_PIECE):
            if (wrong := first_difference(piece, int(seed), offset)) is not None:
                return wrong
            offset += len(piece)
        return None if offset == os.fstat(file.fileno()).st_size else offset


def random_check(path: Path, seed: str, count: str) -> int | None:
    """`count` reads of up to 1 MiB anywhere, in an order that the seed gives; as `sequential_check`."""
    from headrace.testing.content import first_difference

    chosen = random.Random(int(seed))
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(int(count)):
            offset = chosen.randrange(size)
            length = min(chosen.randint(1, 1 << 20), size - offset)
            data = os.pread(file.fileno(), length, offset)
            if len(data) != length:
                return offset + len(data)
            if (wrong := first_difference(data, int(seed), offset)) is not None:
                return wrong
    return None


def mapped_check(path: Path, seed: str) -> int | None:
    """The whole file through one mapping; as `sequential_check`."""
    from headrace.testing.content import first_difference

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        for offset in range(0, len(view), _PIECE):
            if (wrong := first_difference(view[offset : offset + _PIECE], int(seed), offset)) is not None:
                return wrong
    return None


_WAYS = {way.__name__: way for way in (mapped_sum, mapped_touch, sequential_check, random_check, mapped_check)}


def main() -> None:
    """The process of one way."""
    import resource

    import numpy as np  # what a way needs is loaded before its time begins

    np.zeros(1).sum()
    way, path, *arguments = sys.argv[1:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
    began = time.monotonic()
    found = _WAYS[way](Path(path), *arguments)
    seconds = time.monotonic() - began
    disk = (resource.getrusage(resource.RUSAGE_SELF).ru_inblock - before) * 512
    print(json.dumps({"seconds": seconds, "disk_bytes": disk, "found": found}))


if __name__ == "__main__":
    main()

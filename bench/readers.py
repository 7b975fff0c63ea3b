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

from bench.seats import HERE, Seat

_PIECE = 8 << 20
_LONGEST_SECONDS = 900


@dataclass(frozen=True)
class Read:
    """What a reader took: seconds, bytes it made the kernel read from disks, what it found, and CPU-seconds."""

    seconds: float
    disk_bytes: int
    found: Any = None
    cpu_seconds: float = 0.0


def dd(path: Path, seat: Seat = HERE) -> Read:
    """`dd bs=1M` to /dev/null; the seconds are its own."""
    with subprocess.Popen(
        seat.command(["dd", f"if={path}", "of=/dev/null", "bs=1M"]),
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
    return Read(float(seconds[1]), usage.ru_inblock * 512, cpu_seconds=usage.ru_utime + usage.ru_stime)


def dd_together(path: Path, readers: int, seat: Seat = HERE) -> float:
    """Seconds until the last of several `dd` that begin at once has ended."""
    began = time.monotonic()
    command = seat.command(["dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none"])
    processes = [subprocess.Popen(command) for _ in range(readers)]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"dd of {path} failed: {codes}")
    return time.monotonic() - began


def run(way: str, path: Path, *arguments: object, seat: Seat = HERE) -> Read:
    """One of the ways below, in a process of its own."""
    return run_together(way, path, *arguments, readers=1, seat=seat)[0]


def run_together(way: str, path: Path, *arguments: object, readers: int, seat: Seat = HERE) -> list[Read]:
    """As `run`, by several processes that begin when all are ready."""
    command = seat.command([sys.executable, "-m", "bench.readers", way, str(path), *map(str, arguments)])
    return together([command] * readers)


def ranks(path: Path, count: int, seat: Seat = HERE) -> list[Read]:
    """`mapped_ranks` by several processes, each beginning at another place."""
    command = [sys.executable, "-m", "bench.readers", "mapped_ranks", str(path)]
    return together([seat.command([*command, str(number), str(count)]) for number in range(count)])


def together(commands: list[list[str]]) -> list[Read]:
    """Processes of this module, which begin when all are ready."""
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for command in commands]
    try:
        for each in started:
            assert each.stdout is not None
            each.stdout.readline()  # it is ready
        for each in started:  # all are told before any is waited for
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        told = [_end(each) for each in started]
    finally:
        for each in started:  # no file of a mount stays open when the bench is interrupted
            each.kill()
    for each, command, (_, complaint) in zip(started, commands, told, strict=True):
        if each.returncode:
            raise RuntimeError(f"reading failed: {' '.join(command)}: {complaint or each.returncode}")
    return [Read(**json.loads(found.splitlines()[-1])) for found, _ in told]


def _end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it printed; one that hangs in a mount is killed, and says so by its status."""
    try:
        return process.communicate(timeout=_LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


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


def first_bytes(path: Path, warm: str, offset: str, length: str) -> float:
    """Reads a little of `warm`, then opens the file and reads at an offset; the seconds of the latter alone."""
    with open(warm, "rb", buffering=0) as other:
        os.pread(other.fileno(), int(length), int(offset))
    began = time.monotonic()
    with path.open("rb", buffering=0) as file:
        got = os.pread(file.fileno(), int(length), int(offset))
        seconds = time.monotonic() - began
    if len(got) != int(length):
        raise ValueError(f"{path}: {len(got)} bytes at {offset}")
    return seconds


def random_pieces(path: Path, count: str, length: str, seed: str) -> int:
    """`count` reads of `length` bytes, each at a multiple of it, none twice; the bytes read."""
    with path.open("rb", buffering=0) as file:
        pieces = random.Random(int(seed)).sample(range(os.fstat(file.fileno()).st_size // int(length)), int(count))
        return sum(len(os.pread(file.fileno(), int(length), piece * int(length))) for piece in pieces)


def mapped_pieces(path: Path, count: str, length: str, seed: str) -> int:
    """As `random_pieces`, by touching each page of a mapping."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        pieces = random.Random(int(seed)).sample(range(len(view) // int(length)), int(count))
        for piece in pieces:
            for page in range(piece * int(length), (piece + 1) * int(length), mmap.PAGESIZE):
                view[page]
        return len(pieces) * int(length)


def strided(path: Path, length: str, stride: str) -> int:
    """`length` bytes at the beginning of each `stride`; the bytes read."""
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        return sum(len(os.pread(file.fileno(), int(length), offset)) for offset in range(0, size, int(stride)))


def read_tree(path: Path) -> int:
    """Every file below, one after the other in the order of their names; how many."""
    count = 0
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                file.read()
            count += 1
    return count


def tree_digest(path: Path) -> str:
    """Of the contents of every file below and their names."""
    import hashlib

    digest = hashlib.blake2b()
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            digest.update(os.path.relpath(os.path.join(folder, name), path).encode() + b"\0")
            digest.update(Path(folder, name).read_bytes())
    return digest.hexdigest()


def hashed(path: Path) -> str:
    """SHA-256 of a file or of every file below, as a program reckons it that looks a model up by it."""
    import hashlib

    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while piece := opened.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()


def loaded(path: Path) -> int:
    """Every tensor of the safetensors files below, copied to memory; bytes."""
    from safetensors import safe_open

    total = 0
    for file in sorted(path.glob("*.safetensors")):
        with safe_open(file, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                total += tensors.get_tensor(name).nbytes
    return total


def switched(path: Path, first: str) -> list[float]:
    """A switch to a model: hashed when it is the first, then loaded; the seconds of both."""
    began = time.monotonic()
    if first == "first":
        hashed(path)
    between = time.monotonic()
    loaded(path)
    return [between - began, time.monotonic() - between]


def mapped_ranks(path: Path, number: str, of: str) -> int:
    """One byte of each page of a mapping, beginning at share `number` of `of` and going round: ranks that fault in one file."""
    import numpy as np

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        pages = np.frombuffer(view, np.uint8)[:: mmap.PAGESIZE]
        start = len(pages) * int(number) // int(of)
        total = int(pages[start:].sum(dtype=np.uint64)) + int(pages[:start].sum(dtype=np.uint64))
        del pages
    return total


def shuffled(path: Path, length: str, seed: str) -> int:
    """All of the file, in pieces in an order that the seed gives; the bytes read."""
    with path.open("rb", buffering=0) as file:
        offsets = list(range(0, os.fstat(file.fileno()).st_size, int(length)))
        random.Random(int(seed)).shuffle(offsets)
        return sum(len(os.pread(file.fileno(), int(length), offset)) for offset in offsets)


_CHECKS = (sequential_check, random_check, mapped_check, tree_digest)
_TIMED = (mapped_sum, mapped_touch, mapped_ranks, first_bytes, random_pieces, mapped_pieces, strided, shuffled)
_PROGRAMS = (read_tree, hashed, loaded, switched)
_WAYS = {way.__name__: way for way in (*_CHECKS, *_TIMED, *_PROGRAMS)}


def main() -> None:
    """The process of one way."""
    import resource

    import numpy as np  # what a way needs is loaded before its time begins

    np.zeros(1).sum()
    way, path, *arguments = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.monotonic()
    found = _WAYS[way](Path(path), *arguments)
    seconds = time.monotonic() - began
    after = resource.getrusage(resource.RUSAGE_SELF)
    disk = (after.ru_inblock - before.ru_inblock) * 512
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"seconds": seconds, "disk_bytes": disk, "found": found, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main()

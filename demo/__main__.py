"""`python -m demo [--rounds N]`: starts an S3 server, fills it, mounts, loads, compares, prints, and cleans up.

A round takes each model once through four loads, each in a fresh process: from the local disk with the file dropped from
the page cache, through a new mount with an empty cache, from the local disk again, and through the mount again. Then
every file of the mount is compared with the original. At the end the acceleration service is walked through with one of them
(`demo.service`). The server runs on the same machine and shares its processors.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from types import FrameType
from typing import Any

from demo.load import PROMPT
from demo.models import Model, models
from demo.service import walk
from demo.table import COUNTED, Run, table
from demo.user import User, user
from headrace.testing.seaweed import seaweed

_BUCKET = "models"
_LOAD_SECONDS = 300


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description="Real models from a real S3 server, as local files.")
    parser.add_argument("--rounds", type=int, default=1, help="how often each load is measured; the table shows medians (default: %(default)s)")
    rounds = parser.parse_args().rounds
    signal.signal(signal.SIGTERM, _stop)
    began = perf_counter()
    chosen = models()
    results: dict[Model, list[Run]] = {model: [] for model in chosen}
    with seaweed(_BUCKET) as access, tempfile.TemporaryDirectory(prefix="headrace-demo-") as scratch:
        for model in chosen:
            access.put_tree(_BUCKET, f"{model.prefix}/", model.root)
        print(f"SeaweedFS holds both models ({perf_counter() - began:.0f} s)", flush=True)
        for number in range(rounds):
            for model in chosen:
                with user(Path(scratch) / f"{model.prefix}-{number}", access) as someone:
                    results[model] += _round(someone, model, tell=number == 0)
        with user(Path(scratch) / "service", access) as someone:
            walk(someone, access, _BUCKET, chosen[0])
    print(f"\n{_machine()}; median of {rounds}; server on the same machine\n\n{table(results)}\n")
    for model, runs in results.items():
        _tell(model, runs)
    print(f"done in {perf_counter() - began:.0f} s; nothing is left mounted or running")
    return 0


def _round(someone: User, model: Model, *, tell: bool) -> list[Run]:
    """Four loads and the comparison of every byte. RuntimeError when anything differs."""
    source, directory = f"s3://{_BUCKET}/{model.prefix}", someone.home / model.prefix
    mounted = directory / model.weights
    _drop_from_page_cache(model.original)
    first = Run("local disk, first read", _load(model, model.original))
    answer = someone.headrace("mount", source, directory.name)
    if tell:
        print(f"\n$ headrace mount {source} ./{directory.name}\n{answer}", flush=True)
    before = someone.counters()
    cold = _load(model, mounted)
    after = someone.counters()
    again = Run("local disk, again", _load(model, model.original))
    warm = _load(model, mounted)
    last = someone.counters()
    runs = [
        first,
        Run("bucket, cold", cold, *(after[name] - before[name] for name in COUNTED)),
        again,
        Run("bucket, warm", warm, *(last[name] - after[name] for name in COUNTED)),
    ]
    if len({run.told["answer"] for run in runs}) != 1:
        raise RuntimeError(f"{model.title}: the answers differ: {[run.told['answer'] for run in runs]}")
    _compare(model, directory)
    someone.headrace("umount", directory.name)
    return runs


def _load(model: Model, path: Path) -> dict[str, Any]:
    """Loads in a fresh process; its messages are shown only when it fails."""
    command = [sys.executable, "-m", "demo.load", model.loader, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LOAD_SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"loading {path} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout))


def _compare(model: Model, directory: Path) -> None:
    """Every byte of every file, and that there is none too many."""
    files = [str(path) for path in model.files()]
    held = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    if held != files:
        raise RuntimeError(f"{directory} shows {held}, the bucket was given {files}")
    _, different, failed = filecmp.cmpfiles(model.root, directory, files, shallow=False)
    if different or failed:
        raise RuntimeError(f"{directory}: different from the original: {different}; not readable: {failed}")


def _drop_from_page_cache(path: Path) -> None:
    """So that the next read comes from the disk; needs no privilege, and leaves the rest of the machine's cache alone."""
    with path.open("rb") as file:
        os.fdatasync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _tell(model: Model, runs: list[Run]) -> None:
    size = sum((model.root / path).stat().st_size for path in model.files())
    print(f"{model.title}: {len(model.files())} files, {size:,} bytes, every byte compared with the original: equal")
    ahead, used = sum(run.prefetched for run in runs), sum(run.prefetched_used for run in runs)
    print(f"  fetched ahead of the loader: {ahead:,} bytes, of which it asked for {100 * used / max(ahead, 1):.1f} %")
    answer = runs[0].told["answer"]
    print(f"  {PROMPT}\n ➜{answer}\n" if model.loader == "gguf" else f"  {answer}\n")


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{os.cpu_count()} processors, {memory:.0f} GiB memory, Linux {platform.release()}"


def _stop(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted; everything was cleaned up", file=sys.stderr)
        sys.exit(130)

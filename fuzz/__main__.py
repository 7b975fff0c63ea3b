"""`python -m fuzz [TARGET…] [--seconds N]`: replays each target's corpus, then looks for N seconds for something new.

What is found on the way stays under .cache/fuzz/TARGET, so the next run begins where this one ended; the corpus under fuzz/corpus
changes only with `--keep`, which takes over the smallest inputs that reach everything reached so far.

Exit status: 0 nothing found, 1 an input that fails, which is named, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz.targets import CORPUS, FOUND, ROOT, TARGETS, Target, build

_TAIL_LINES = 60
# Asked by schemathesis, without coverage: what it found is in tests with names, and there is no corpus.
_API = "api"
_API_ABOUT = "requests to the control plane"
# Less is not worth starting four servers; a short run is among the tests (tests/control/test_fuzzed.py).
_API_SECONDS_MIN = 30


def main() -> int:
    chosen = _arguments()
    targets = [target for target in TARGETS if not chosen.target or target.name in chosen.target]
    if targets:
        build()
    outcomes = [_run(target, chosen) for target in targets]
    if _API in chosen.target or (not chosen.target and chosen.seconds >= _API_SECONDS_MIN):
        outcomes.append(_run_api(chosen.seconds))
    return 0 if all(outcomes) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Coverage-guided fuzzing of everything that comes from outside.")
    parser.add_argument("target", nargs="*", metavar="TARGET", help="; ".join([*(f"{t.name}: {t.about}" for t in TARGETS), f"{_API}: {_API_ABOUT}"]))
    parser.add_argument("--seconds", type=int, default=60, help="how long each target looks for something new (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="afterwards, make the committed corpus the smallest that reaches what is known")
    chosen = parser.parse_args()
    there = [*(target.name for target in TARGETS), _API]
    unknown = sorted(set(chosen.target) - set(there))
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(there)}")
    return chosen


def _run(target: Target, chosen: argparse.Namespace) -> bool:
    """Replays and explores; False when an input fails."""
    own = FOUND / target.name
    crashes = own / "crashes"
    for directory in (own / "corpus", crashes):
        directory.mkdir(parents=True, exist_ok=True)
    known = CORPUS / target.name
    artifacts = f"-artifact_prefix={crashes}/"
    replay = [artifacts, "-runs=0", str(known)]
    explore = [artifacts, f"-max_total_time={chosen.seconds}", str(own / "corpus"), str(known)]
    told = ""
    for arguments in (replay, explore) if chosen.seconds else (replay,):
        done = _start(target, arguments)
        told = done.stderr
        if done.returncode:
            _tell_failure(target, told, done.returncode)
            return False
    print(f"{target.name}: {_figures(told)}; nothing found", flush=True)
    if chosen.keep:
        _keep(target, own / "corpus", known)
    return True


def _run_api(seconds: int) -> bool:
    """Asks the control plane's API; False when something is found, which is shown."""
    return subprocess.run([sys.executable, "-m", "fuzz.api", "--seconds", str(seconds)], cwd=ROOT, check=False).returncode == 0


def _start(target: Target, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a target with a scratch directory, in memory where there is one: some write a file for each input, and none cleans up."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-", dir=memory if memory.is_dir() else None) as scratch:
        return subprocess.run(
            [*target.command(), *target.options(), *arguments],
            cwd=ROOT, env={**os.environ, "TMPDIR": scratch}, capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip


def _figures(told: str) -> str:
    """Executions and coverage out of libFuzzer's last words."""
    runs = re.findall(r"^Done (\d+) runs in (\d+) second", told, re.MULTILINE)
    covered = re.findall(r"^#\d+\s+\w+\s+cov: (\d+) ft: (\d+)", told, re.MULTILINE)
    executions, seconds = runs[-1] if runs else ("0", "0")
    edges, features = covered[-1] if covered else ("0", "0")
    return f"{executions} executions in {seconds} s, {edges} edges, {features} features"


def _tell_failure(target: Target, told: str, status: int) -> None:
    print("\n".join(told.splitlines()[-_TAIL_LINES:]), file=sys.stderr)
    written = re.findall(r"Test unit written to (\S+)", told)
    print(f"{target.name}: FAILED with status {status}", file=sys.stderr)
    if written:
        command = " ".join(["PYTHONPATH=src:.", *target.command()] if target.written_in == "python" else target.command())
        print(f"the input: {written[-1]}\nto see it again: {command} {written[-1]}", file=sys.stderr)
        print(f"once mended, keep it: cp {written[-1]} fuzz/corpus/{target.name}/ (and a test with a name beside the code)", file=sys.stderr)


def _keep(target: Target, found: Path, known: Path) -> None:
    """The fewest inputs that reach every edge that both directories reach replace the committed ones.

    Edges only, not how often each is passed: that would be thousands of inputs, which a run finds again within minutes.
    """
    if target.written_in == "python":
        print(f"{target.name}: Atheris can't merge; copy what is worth it by hand from {found}")
        return
    merged = FOUND / target.name / "merged"
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir()
    _start(target, ["-set_cover_merge=1", "-use_counters=0", str(merged), str(known), str(found)]).check_returncode()
    # Inputs that a person wrote keep their names, also where a found one would do.
    for path in known.iterdir():
        if re.fullmatch(r"[0-9a-f]{40}", path.name):
            path.unlink()
    named = {path.read_bytes() for path in known.iterdir()}
    for path in merged.iterdir():
        if path.read_bytes() not in named:
            shutil.copy(path, known / path.name)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""`python -m campaign [TRIAL…] [--share S] [--seed N]`: runs trials, prints their figures, and fails when one is missed.

Exit status: 0 all reached, 1 a figure missed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import shutil
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from bench import machine, report
from campaign import trials
from campaign.plan import Plan

ROOT = Path(__file__).parent.parent


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(trials.__path__))


def usual() -> list[str]:
    """All but those that take an hour."""
    return [name for name in names() if not getattr(importlib.import_module(f"campaign.trials.{name}"), "LONG", False)]


def main() -> int:
    chosen = _arguments()
    if os.geteuid() != 0:
        print("campaign: loop devices, control groups and other users need root; run it with sudo", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _end)
    when = datetime.now(UTC)
    chosen.directory.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"when": when.isoformat(timespec="seconds"), "seed": chosen.seed, "share": chosen.share}
    about["machine"] = machine.describe(chosen.directory)
    outcomes = [_run(name, chosen) for name in chosen.trial or usual()]
    target = chosen.results / f"{when:%Y-%m-%d-%H%M%S}"
    report.write(target, outcomes, about)
    print(f"results: {target}")
    missed = report.missed(outcomes)
    for figure in missed:
        print(f"missed: {figure.what}: {report.number(figure.judged)} {figure.unit}, must be {figure.bound}", file=sys.stderr)
    return 1 if missed else 0


def _run(name: str, chosen: argparse.Namespace) -> report.Outcome:
    module = importlib.import_module(f"campaign.trials.{name}")
    print(f"{name}: {module.TITLE}", flush=True)
    began = time.monotonic()
    directory = chosen.directory / f"{name}-{os.getpid()}"
    directory.mkdir()
    try:
        figures = module.run(Plan(directory, chosen.seed, chosen.share))
    finally:
        shutil.rmtree(directory)
    outcome = report.Outcome(name, module.TITLE, tuple(figures), time.monotonic() - began)
    print(report.table([outcome]), flush=True)
    return outcome


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m campaign", description="Bad days, at full length.")
    parser.add_argument("trial", nargs="*", choices=[*names(), []], help=f"of {', '.join(names())}; without one all but soak", metavar="TRIAL")
    parser.add_argument("--share", type=float, default=1.0, help="length of each trial; 1.0 is the whole of it")
    parser.add_argument("--seed", type=int, default=20261124, help="of everything that is left to chance")
    parser.add_argument("--directory", type=Path, default=ROOT / ".cache/campaign", help="for caches and disk images")
    parser.add_argument("--results", type=Path, default=ROOT / "campaign/results", help="where results go")
    chosen = parser.parse_args()
    chosen.directory = chosen.directory.resolve()
    return chosen


def _end(_number: int, _frame: FrameType | None) -> None:
    """A termination runs the same clean-up as Ctrl-C."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

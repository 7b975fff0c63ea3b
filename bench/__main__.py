"""`python -m bench [SCENARIO…] [--quick]`: runs scenarios, prints the table, and fails when a figure is missed.

Exit status: 0 all reached, 1 a figure missed, 2 wrong usage, 130 interrupted. However it ends, servers, mounts and
files are taken away.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import re
import signal
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from bench import machine, report, scenarios
from bench.place import Place, place
from bench.plan import Plan
from bench.systems import installed

ROOT = Path(__file__).parent.parent
_terminated: list[bool] = []


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(scenarios.__path__))


def named(text: str) -> str:
    """The scenario of that name, or of that number: S1 is s01_link."""
    number = re.fullmatch(r"[sS](\d+)", text)
    wanted = f"s{int(number[1]):02}_" if number else f"{text}."
    found = [name for name in names() if f"{name}.".startswith(wanted)]
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"no scenario {text}; `python -m bench list` tells them")
    return found[0]


def main() -> int:
    if sys.argv[1:] == ["list"]:
        return _list()
    chosen = _arguments()
    if os.geteuid() != 0:
        print("bench: dropping the page cache needs root; run it with sudo", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    when = datetime.now(UTC)
    plan = Plan(quick=chosen.quick, peers=chosen.peers, rounds=chosen.rounds)
    about: dict[str, Any] = {"when": when.isoformat(timespec="seconds"), "quick": plan.quick, "rounds": plan.rounds, "seed": chosen.seed}
    chosen.directory.mkdir(parents=True, exist_ok=True)
    about["machine"] = machine.describe(chosen.directory)
    target = chosen.results / f"{when:%Y-%m-%d-%H%M%S}{'-quick' if plan.quick else ''}"
    outcomes: list[report.Outcome] = []
    failed: list[str] = []
    with place(chosen.directory / f"run-{os.getpid()}", plan, chosen.seed) as here:
        for name in chosen.scenario or names():
            try:
                outcomes.append(_run(name, here))
            except Exception:  # hours of other figures must not be lost with it; the run fails in the end
                if _terminated:  # a clean-up that failed has hidden it
                    raise
                traceback.print_exc()
                failed.append(name)
            here.record.tell(about)
            report.write(target, outcomes, about | {"failed": failed})
    print("\n" + report.table(outcomes))
    print(f"raw results: {target}")
    missed = report.missed(outcomes)
    for figure in missed:
        print(f"missed: {figure.what}: {report.number(figure.judged)} {figure.unit}, must be {figure.bound}", file=sys.stderr)
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return 1 if missed or failed else 0


def _list() -> int:
    for name in names():
        print(f"{name:18} {importlib.import_module(f'bench.scenarios.{name}').TITLE}")
    return 0


def _run(name: str, here: Place) -> report.Outcome:
    module = importlib.import_module(f"bench.scenarios.{name}")
    print(f"{name}: {module.TITLE}", flush=True)
    began = time.monotonic()
    outcome = report.Outcome(name, module.TITLE, tuple(module.run(here)), time.monotonic() - began)
    print("\n".join(report.table([outcome]).splitlines()[2:]), flush=True)
    return outcome


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Figures of Headrace on this machine.")
    parser.add_argument("scenario", nargs="*", type=named, help="names or numbers (S1) of scenarios, or `list`; all without one", metavar="SCENARIO")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repetitions")
    parser.add_argument("--rounds", type=int, help="in place of nine, or five where one takes over ten seconds")
    parser.add_argument(
        "--peers", type=_peers, metavar="NAME,…", help="to compare with, by name; all that are installed without it, none with an empty text"
    )
    parser.add_argument("--seed", type=int, default=1, help="of contents and random orders")
    parser.add_argument(
        "--directory", type=Path, default=ROOT / ".cache/bench", help="for data, server and caches; 75 GB on a real disk for all scenarios"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results", help="where raw results go")
    chosen = parser.parse_args()
    chosen.directory = chosen.directory.resolve()
    return chosen


def _peers(text: str) -> frozenset[str]:
    names = frozenset(filter(None, text.lower().split(",")))
    known = {name.lower(): name for name in installed.NAMES}
    if unknown := sorted(names - set(known)):
        raise argparse.ArgumentTypeError(f"no peer {unknown[0]}; there are {', '.join(known.values())}")
    return names


def _end(_number: int, _frame: FrameType | None) -> None:
    """A termination runs the same clean-up as Ctrl-C."""
    _terminated.append(True)
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)

"""`python -m fuzz.api [--seconds N]`: the control plane's API on both databases, as an administrator and as a user, N seconds in all.

Exit status: 0 nothing found, 1 something, which is shown with a command to see it again.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from subprocess import CompletedProcess

from fuzz.api.asking import ask
from fuzz.api.plane import asked
from headrace.testing.postgres import postgres

_EXAMPLES = 100
_ROLES = ("admin", "user")
_DATABASES = ("sqlite", "postgresql")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz.api", description="Asks the control plane whatever its document allows, and what it does not."
    )
    parser.add_argument("--seconds", type=int, default=60, help="how long, in all (default: %(default)s)")
    seconds = max(5, parser.parse_args().seconds // (len(_ROLES) * len(_DATABASES)))
    outcomes = [_asked_on(kind, seconds) for kind in _DATABASES]
    return 0 if all(outcomes) else 1


def _asked_on(kind: str, seconds: int) -> bool:
    with ExitStack() as stack:
        url = stack.enter_context(postgres()).create_database("fuzz") if kind == "postgresql" else None
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-fuzz-")))
        control = stack.enter_context(asked(scratch, url))
        outcomes = [
            _asked_as(kind, role, ask(control, role, phases="coverage,fuzzing,stateful", examples=_EXAMPLES, seconds=seconds)) for role in _ROLES
        ]
        failed = [line for line in control.log.read_text().splitlines() if "Traceback" in line]
        if failed:
            print(f"api: on {kind} the control plane failed; its log:\n{control.log.read_text()}", file=sys.stderr)
        return all(outcomes) and not failed


def _asked_as(kind: str, role: str, done: CompletedProcess[str]) -> bool:
    status, told = done.returncode, done.stdout
    if status:
        print(told, file=sys.stderr)
    cases = re.search(r"(\d+) generated", told)
    print(f"api: {cases[1] if cases else 'no'} requests as {role} on {kind}; {'FAILED' if status else 'nothing found'}", flush=True)
    return status == 0


if __name__ == "__main__":
    sys.exit(main())

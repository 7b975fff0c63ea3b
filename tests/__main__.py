"""`python -m tests`: the suite in two parts side by side, for most of its time is waiting; what each says is printed as a whole when it has ended.

Each part is a pytest of its own, with directories and servers of its own. Arguments are given to both. Any other way of running pytest does as well.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_HERE = Path(__file__).parent
# The control plane and the commands; and everything else, which has mounts, kills and counts in it.
_FIRST = ("control", "cli", "docs", "node")
_LOOK_SECONDS = 0.5
_TELL_SECONDS = 60.0
_SLOWEST = 15


def main(arguments: list[str]) -> int:
    folders = sorted(path.name for path in _HERE.iterdir() if any(path.glob("test_*.py")))
    parts = [[one for one in folders if one in _FIRST], [one for one in folders if one not in _FIRST]]
    with tempfile.TemporaryDirectory(prefix="hr-", ignore_cleanup_errors=True) as scratch:
        running = {number: _start(number, part, Path(scratch), arguments) for number, part in enumerate(parts)}
        worst, told = 0, time.monotonic()
        try:
            while running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    next(iter(running.values())).wait(_LOOK_SECONDS)
                if time.monotonic() - told > _TELL_SECONDS:
                    told = time.monotonic()
                    print("; ".join(f"{', '.join(parts[number])}: {_percent(Path(scratch), number)}" for number in running), flush=True)
                for number, process in list(running.items()):
                    if process.poll() is not None:
                        del running[number]
                        print(f"tests of {', '.join(parts[number])}:\n{_log(Path(scratch), number).read_text(errors='replace')}", flush=True)
                        worst = max(worst, abs(process.returncode))
        finally:
            for process in running.values():
                process.terminate()
                process.wait()
    return worst


def _start(number: int, part: list[str], scratch: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    folders = [str(_HERE / one) for one in part]
    command = [sys.executable, "-m", "pytest", f"--basetemp={scratch}/{number}", f"--durations={_SLOWEST}", *arguments, *folders]
    with _log(scratch, number).open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _percent(scratch: Path, number: int) -> str:
    found = re.findall(r"\[ *(\d+%)\]", _log(scratch, number).read_text(errors="replace"))
    return found[-1] if found else "begun"


def _log(scratch: Path, number: int) -> Path:
    return scratch / f"{number}.log"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)

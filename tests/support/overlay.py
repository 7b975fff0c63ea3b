"""An overlay file system, as containers have for their root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def overlay(base: Path) -> Iterator[Path]:
    """An empty, writable overlay below `base`, until the end of the `with`."""
    parts = {name: base / name for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir()
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", str(parts["merged"])], check=True)
    try:
        yield parts["merged"]
    finally:
        subprocess.run(["umount", str(parts["merged"])], check=True)

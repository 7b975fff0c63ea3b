"""The line of `headrace task run`, read without what other commands need: loading that takes longer than the task's whole start.

A line that has help, a mistake or anything unusual in it is left to Typer, which reads it the same way and has the words for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.errors import UsageError

WAIT_SECONDS = 600.0
WAIT_SECONDS_MAX = 3600.0


@dataclass
class Line:
    """What was typed."""

    region: str = ""
    mounts: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    follow: bool = False
    name: str | None = None
    wait_seconds: float = WAIT_SECONDS
    times: bool = False


def read(arguments: Sequence[str]) -> Line | None:
    """What follows `headrace task run`; None for a line that is not plainly right."""
    line, rest = Line(), list(arguments)
    while rest and rest[0].startswith("-"):
        option, equals, value = rest.pop(0).partition("=")
        if option == "--" and not equals:
            break
        if option in ("--follow", "--times") and not equals:
            setattr(line, option[2:], True)
            continue
        if not equals:
            if not rest or rest[0].startswith("-"):
                return None
            value = rest.pop(0)
        if not _take(line, option, value):
            return None
    line.command = rest
    return line if line.region and line.mounts and line.command else None


def _take(line: Line, option: str, value: str) -> bool:
    match option:
        case "--region":
            line.region = value
        case "--mount":
            line.mounts.append(value)
        case "--name":
            line.name = value
        case "--wait-seconds":
            try:
                line.wait_seconds = float(value)
            except ValueError:
                return False
            return math.isfinite(line.wait_seconds) and 0 <= line.wait_seconds <= WAIT_SECONDS_MAX
        case _:
            return False
    return True


def mount_of(text: str, *, follow: bool) -> dict[str, Any]:
    """`VOLUME[@VERSION][:PATH]`; a name has neither of these letters."""
    source, colon, path = text.partition(":")
    volume, at, version = source.partition("@")
    if not volume or (at and not version) or (colon and not path):
        raise UsageError("bad-setting", f"mount: {text!r} is not VOLUME[@VERSION]:PATH; write it like qwen:/mnt/models or qwen@v3:/mnt/old")
    said: dict[str, Any] = {"volume": volume, "path": path or None, "follow": follow and not at}
    return said | ({"version": version} if version else {})

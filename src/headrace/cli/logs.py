"""`headrace logs`: the node's log, its older file included."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from headrace import settings as configuration
from headrace.errors import NotFound

_LOOK_SECONDS = 0.3


def logs(
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last.")] = 100,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")] = False,
) -> None:
    """The node's log."""
    path = Path(configuration.load().log_file)
    if not path.exists():
        raise NotFound("unknown", f"log: {path} does not exist: no node has run with this cache directory")
    older = path.with_name(path.name + ".1")
    place = path.stat().st_size
    sys.stdout.writelines(deque(chain(_lines(older), _lines(path)), maxlen=lines))
    sys.stdout.flush()
    while follow:
        time.sleep(_LOOK_SECONDS)
        place = _go_on(path, place)


def _lines(path: Path) -> Iterator[str]:
    if path.exists():
        with path.open(errors="replace") as file:
            yield from file


def _go_on(path: Path, place: int) -> int:
    """Prints what is new from `place`; gives the next place. A log that was set aside meanwhile begins anew."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(place if place <= size else 0)
        sys.stdout.write(file.read().decode(errors="replace"))
        sys.stdout.flush()
        return file.tell()

"""`headrace task run` on a volume that the node holds: from the command line until the command runs.

The clock is the kernel's monotonic one. It is read before the process is made, and by the command as the first thing it does; the command is a bare
Python, so its own start is in the figure. Beside it: the same command without anything around it.
"""

from __future__ import annotations

import subprocess
import sys
import time

from bench.measure import Figure, at_most
from bench.objects import BUCKET
from bench.place import Place
from bench.service.region import Region, ended, region
from bench.systems.headrace import Headrace

TITLE = "task run: from the command line to the start of the command"
_CLOCK = [sys.executable, "-I", "-S", "-c", "import time; print(time.monotonic())"]
_VOLUME = "small"


def run(place: Place) -> list[Figure]:
    with region(place) as here, here.node("gpu-1") as node:
        for name in ("config.json", "weights.bin"):
            place.server.put(BUCKET, f"{_VOLUME}/{name}", bytes(1 << 20))
        here.register(_VOLUME, _VOLUME)
        here.accelerate(_VOLUME)
        first = _task(here, node)
        rounds = place.repeats.in_turn([lambda: _task(here, node), _alone])
    tasks, alone = zip(*rounds, strict=True)
    return [
        Figure("from the command line to the command", "ms", tasks, at_most(500.0), worst=True),
        Figure("the command without a task", "ms", alone),
        Figure("the very first one after the node has joined", "ms", (first,)),
    ]


def _task(here: Region, node: Headrace) -> float:
    began = time.monotonic()
    process = here.task(node, {_VOLUME: here.place.directory / "mnt-small"}, _CLOCK)
    took = float(ended(process)) - began
    here.wait("its mounts have ended", lambda: not node.status()["mounts"])
    return 1e3 * took


def _alone() -> float:
    began = time.monotonic()
    done = subprocess.run(_CLOCK, check=True, capture_output=True, text=True)
    return 1e3 * (float(done.stdout) - began)

"""A cold start of a real model: from the command line to the first answer of a llama.cpp server, with a real GGUF (`make demo` brings it).

Three ways take turns: `headrace task run` on a volume that the node holds, the same server on the same file on the local disk, and a download with
`s5cmd cp` over a link of 50 Mbit/s before the server is started on what it brought. An answer begins with its first piece, which comes over HTTP.

The page cache is the same on both sides of a ratio. Cold: dropped as a whole, so that Python, llama.cpp and the command are read from the disk
too. Warm: everything has been read just before. What was downloaded lies in the page cache, as it does for everybody who downloads.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import machine, packages, raw
from bench.measure import Figure, at_least, at_most, ratios
from bench.objects import BUCKET, GIB
from bench.place import Place
from bench.seats import Route
from bench.service.region import Region, ended, region
from bench.systems.headrace import Headrace
from demo.models import Model, models

TITLE = "cold start: from task run to the first answer of a llama.cpp server"
BITS_PER_SECOND = 50_000_000
_VOLUME = "gemma"
_SECONDS = 300.0


@dataclass
class Starts:
    """The ways to start; each gives the seconds to the first answer."""

    here: Region
    node: Headrace
    model: Model
    local: Path
    answers: set[str]

    def held(self) -> float:
        """On what the node holds. Its mounts have ended when this returns: the next one begins with nothing of the task."""
        mount = self.here.place.directory / "mnt-gemma"
        took = self._answered(lambda: self.here.task(self.node, {_VOLUME: mount}, self._server(mount / self.model.weights)))
        self.here.wait("its mounts have ended", lambda: not self.node.status()["mounts"])
        return took

    def on_disk(self) -> float:
        return self._answered(lambda: self._started(self._server(self.local)))

    def downloaded(self, route: Route) -> float:
        """Over the link, to the local disk, and from there."""
        target = self.local.with_name("downloaded.gguf")
        target.unlink(missing_ok=True)
        program = packages.program("s5cmd") or "s5cmd"
        copy = [program, "--endpoint-url", route.access.endpoint, "cp", f"s3://{BUCKET}/{_VOLUME}/{self.model.weights}", str(target)]

        def start() -> subprocess.Popen[str]:
            subprocess.run(
                route.seat.command(copy), env=os.environ | route.access.environment(), check=True, stdout=subprocess.DEVNULL, timeout=_SECONDS
            )
            return self._started(self._server(target))

        return self._answered(start)

    def cold(self, start: Callable[[], float]) -> float:
        """With an empty page cache, but for what the server serves, for it stands for a remote one."""
        machine.drop_caches()
        machine.claim_memory(2 * GIB)
        raw.fetch(self.here.place.route, BUCKET, f"{_VOLUME}/{self.model.weights}", self.local.stat().st_size)
        return start()

    def _server(self, path: Path) -> list[str]:
        return [sys.executable, "-m", "bench.service.llama", str(path)]

    @staticmethod
    def _started(command: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _answered(self, start: Callable[[], subprocess.Popen[str]]) -> float:
        began = time.monotonic()
        told = json.loads(ended(start(), _SECONDS).splitlines()[-1])
        self.answers.add(told["answer"])
        return float(told["first"]) - began


def run(place: Place) -> list[Figure]:
    model = _model()
    local = place.directory / "local" / model.weights
    local.parent.mkdir()
    shutil.copyfile(model.original, local)
    place.server.put_tree(BUCKET, f"{_VOLUME}/", model.root)
    with region(place) as here, here.node("gpu-1") as node, place.far_route(BITS_PER_SECOND, 0) as (route, _):
        here.register(_VOLUME, _VOLUME)
        here.accelerate(_VOLUME)
        starts = Starts(here, node, model, local, set())
        cold = place.repeats.in_turn([lambda: starts.cold(starts.held), lambda: starts.cold(starts.on_disk)])
        starts.held(), starts.on_disk()
        warm = place.repeats.in_turn([starts.held, starts.on_disk])
        far = place.repeats.in_turn([lambda: starts.cold(starts.held), lambda: starts.cold(lambda: starts.downloaded(route))])
    if len(starts.answers) != 1:
        raise RuntimeError(f"the answers differ: {starts.answers}")
    place.record.note(f"cold_start: {model.title}, {local.stat().st_size:,} bytes; the answer: {starts.answers.pop().strip()}")
    return [
        Figure("page cache dropped: held by the node, to on the local disk", "", ratios(cold), at_most(1.1)),
        Figure("page cache dropped: held by the node", "s", tuple(held for held, _ in cold)),
        Figure("page cache dropped: on the local disk", "s", tuple(disk for _, disk in cold)),
        Figure("all in the page cache: held by the node, to on the local disk", "", ratios(warm), at_most(1.1)),
        Figure("all in the page cache: held by the node", "s", tuple(held for held, _ in warm)),
        Figure("all in the page cache: on the local disk", "s", tuple(disk for _, disk in warm)),
        Figure("less time than a download over 50 Mbit/s first", "%", tuple(100 * (1 - ratio) for ratio in ratios(far)), at_least(90.0)),
        Figure("downloaded over 50 Mbit/s first", "s", tuple(downloaded for _, downloaded in far)),
    ]


def _model() -> Model:
    try:
        return next(model for model in models() if model.loader == "gguf")
    except SystemExit as missing:
        raise RuntimeError(str(missing)) from None

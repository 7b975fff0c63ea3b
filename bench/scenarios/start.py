"""From the start of an acceleration until it can be mounted, with the real server, a real control plane and a real node.

What is started is everything of the prefix, so the node pulls as soon as the list is published; that is cancelled, and the node has let go of
all before the next round. The engine's own listing of the same prefix, in a process of its own, takes turns with it.
"""

from __future__ import annotations

import time

from bench.measure import Figure, at_most
from bench.objects import BUCKET
from bench.place import Place
from bench.service.listing import raw_listing
from bench.service.region import NAME, Region, region
from bench.service.uploads import put_many
from bench.systems.headrace import Headrace
from headrace.client import ControlFailure

TITLE = "from the start of an acceleration until it can be mounted"
FEW, MANY = 100, 100_000
_BODY = b"a small file\n"
_IN_A_DIRECTORY = 1000
_RATIO, _BESIDE_SECONDS = 1.3, 2.0
_LOOK_SECONDS = 0.01


def run(place: Place) -> list[Figure]:
    figures: list[Figure] = []
    with region(place) as here, here.node("gpu-1") as node:
        for files in (FEW, place.plan.count(MANY)):
            prefix = f"start-{files}"
            began = time.monotonic()
            put_many(place.server, BUCKET, [f"{prefix}/{number // _IN_A_DIRECTORY:03}/{number:06}.json" for number in range(files)], _BODY)
            place.record.note(f"start: {files} objects put in {time.monotonic() - began:.0f} s")
            here.register(prefix, prefix)
            _start(here, node, prefix)  # not timed: the server reads its own directories for the first time
            rounds = place.repeats.in_turn(
                [
                    lambda prefix=prefix, files=files: raw_listing(place.server, BUCKET, f"{prefix}/", files),  # type: ignore[misc]
                    lambda prefix=prefix: _start(here, node, prefix),  # type: ignore[misc]
                ]
            )
            listed, started = zip(*rounds, strict=True)
            small = files == FEW
            figures.append(Figure(f"{files} files: start → mountable", "s", started, at_most(3.0) if small else None))
            figures.append(Figure(f"{files} files: the raw listing", "s", listed))
            if not small:
                beside = tuple(start - _RATIO * listing for listing, start in rounds)
                figures.append(Figure(f"{files} files: start → mountable, less {_RATIO} × the raw listing", "s", beside, at_most(_BESIDE_SECONDS)))
    return figures


def _start(here: Region, node: Headrace, volume: str) -> float:
    began = time.monotonic()
    here.admin.start_acceleration(volume, {"region": NAME})
    here.wait(f"{volume} can be mounted", lambda: here.shown(volume)["mountable"], every=_LOOK_SECONDS)
    took = time.monotonic() - began
    try:
        here.admin.cancel_pull(volume, NAME)
    except ControlFailure:  # it has all
        here.admin.release(volume, NAME)
    here.wait("the node has let go", lambda: _is_empty(node))
    return took


def _is_empty(node: Headrace) -> bool:
    """No list of files is kept, which is the last thing to go, and nothing is cached."""
    return not list((node.cache / "snapshots/control").glob("*.snap")) and not list(node.cache.rglob("*.data"))

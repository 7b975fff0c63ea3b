"""S13: without passthrough, and without root, cold and warm.

Without passthrough (an older kernel) the node answers every read itself. Without root the mount is fusermount3's, the reader
is the same user, and there is no passthrough either. Cold they are compared with root's mount; warm with the second read of
the best peer, which has root and all that it can use: each as a share of a native read of the same round, for peers were
measured in S3.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench import readers
from bench.measure import Figure, Rounds, at_least
from bench.objects import GIB
from bench.place import Place
from bench.scenarios.s03_warm import NATIVE, best_share
from bench.seats import NOBODY, Route, Seat
from bench.systems.headrace import Headrace

TITLE = "without passthrough, without root: warm / best peer's second read; cold / root"
ROOT, MASKED, USER = "root", "without passthrough", "without root"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(2 * GIB)
    as_user = Route(place.server, Seat(user=NOBODY))
    with ExitStack() as stack:
        stack.enter_context(_open_to_all("/dev/fuse"))
        systems: dict[str, Headrace] = {
            ROOT: stack.enter_context(place.headrace()),
            MASKED: stack.enter_context(place.headrace(settings={"HEADRACE_KERNEL_MASK": "passthrough"})),
            USER: stack.enter_context(place.headrace(route=as_user)),
        }

        def cold(system: Headrace) -> float:
            path = place.cold(system, wanted)
            rate = wanted.size / readers.dd(path, system.seat).seconds / 1e6
            place.leave(system)
            return rate

        def warm(system: Headrace) -> float:
            return wanted.size / readers.dd(system.directory / wanted.name, system.seat).seconds / 1e6

        colds = place.repeats.compare({name: lambda each=each: cold(each) for name, each in systems.items()}, place.failed)  # type: ignore[misc]
        for system in systems.values():
            place.check(place.cold(system, wanted), wanted, system.seat)
            system.wait_durable()
            warm(system)
        readers.dd(wanted.native)
        runs: dict[str, Callable[[], float]] = {name: lambda each=each: warm(each) for name, each in systems.items()}  # type: ignore[misc]
        runs[NATIVE] = lambda: wanted.size / readers.dd(wanted.native).seconds / 1e6
        warms = place.repeats.compare(runs, place.failed)
    return _figures(colds, warms, best_share(place))


def _figures(colds: Rounds, warms: Rounds, peer: float) -> list[Figure]:
    """`peer` is the share of a native read that the best peer's second read reaches."""
    figures = []
    for name in (MASKED, USER):
        figures.append(Figure(f"cold: {name} / {ROOT}", "", colds.ratios(name, ROOT), at_least(0.7)))
        if peer:
            beside = tuple(share / peer for share in warms.ratios(name, NATIVE))
            figures.append(Figure(f"warm: {name} / second read of the best peer", "", beside, at_least(1.0)))
    for what, rounds in (("cold", colds), ("warm", warms)):
        figures += [Figure(f"{what}: {name}", "MB/s", values) for name, values in rounds.values.items()]
    return figures


@contextmanager
def _open_to_all(device: str) -> Iterator[None]:
    """Every distribution opens the device to all users; a bare container may not."""
    mode = os.stat(device).st_mode & 0o777
    os.chmod(device, 0o666)
    try:
        yield
    finally:
        os.chmod(device, mode)

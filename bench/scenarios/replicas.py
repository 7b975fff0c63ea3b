"""Two replicas on PostgreSQL, one of them killed every five seconds, while two hundred accelerations begin, are listed, published and held.

Nodes are simulated: they ask, publish a list and tell that they hold it, as fast as they are answered, and turn to the other replica where one is
gone, as behind a load balancer. What was answered with success must be there in the end; each acceleration is active, and has one version, made
of one listing's answer and told of by one event.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from bench.measure import Figure, at_most
from bench.place import Place
from bench.service import books
from bench.service.books import REGION
from bench.service.replicas import Replicas, replicas
from headrace.client import ControlClient, ControlFailure
from headrace.testing.postgres import postgres
from headrace.testing.waiting import wait_until

TITLE = "two replicas, one killed every five seconds during 200 accelerations"
ACCELERATIONS = 200
_NODES = 8
_HELD_BY = 2
_KILL_SECONDS = 5.0
# So that kills come all the while: one acceleration begins every so often.
_PACE_SECONDS = 0.25
_STUCK_SECONDS = 120.0
_AGAIN_SECONDS = 0.05
_PASSING = frozenset({0, 500, 502, 503, 504})

T = TypeVar("T")


class Either:
    """Whichever replica answers. What fails on its way, or by a replica's end, is sent again, as clients do."""

    def __init__(self, control: Replicas, token: str, failures: Counter[str], over: threading.Event) -> None:
        self._clients = itertools.cycle([control.client(number, token) for number in range(len(control.all))])
        self._client = next(self._clients)
        self._failures = failures
        self._over = over

    def ask(self, what: Callable[[ControlClient], T]) -> T:
        while True:
            try:
                return what(self._client)
            except ControlFailure as failure:
                if failure.status not in _PASSING or self._over.is_set():
                    raise
                self._failures[f"{failure.code} {failure.status}"] += 1
            self._client = next(self._clients)
            time.sleep(_AGAIN_SECONDS)


def run(place: Place) -> list[Figure]:
    count = place.plan.count(ACCELERATIONS)
    with place.base("replicas") as base, postgres(synced=True) as server:
        url = server.create_database("replicas")
        with replicas(base, 2, url) as control:
            fleet = asyncio.run(books.fill(url, base / "state", nodes=_NODES, volumes_count=count, tasks_count=0, seed=place.seed, idle=True))
            over, failures = threading.Event(), Counter[str]()
            began = time.monotonic()
            with _nodes(control, fleet, failures, over), _killing(control, place.seed, over) as kills:
                answered = _start_all(control, count, failures, over)
                stuck = _wait_active(control, count, failures, over)
            took = time.monotonic() - began
            found = asyncio.run(books.outcomes(url))
            place.record.note(f"replicas: {len(kills)} kills in {took:.0f} s; requests that were sent again: {dict(failures)}")
            complaints = [line for each in control.all for line in each.complaints()]
            place.record.note(f"replicas: errors in the logs of the last starts: {len(complaints)} {complaints[:1]}")
    lost, doubled = len(answered - found.keys()), sum(one.doubled for one in found.values())
    return [
        Figure("lost: accelerations that began, and are not there in the end", "", (float(lost),), at_most(0.0)),
        Figure("doubled: with two versions, or two events of one start, listing or pull", "", (float(doubled),), at_most(0.0)),
        Figure("stuck: not active in the end", "", (float(len(stuck)),), at_most(0.0)),
        Figure("active in the end", "", (float(sum(one.state == "active" for one in found.values())),)),
        Figure("kills", "", (float(len(kills)),)),
        Figure("requests that were sent again", "", (float(sum(failures.values())),)),
        Figure("from the first start to the last that is active", "s", (took,)),
    ]


def _start_all(control: Replicas, count: int, failures: Counter[str], over: threading.Event) -> set[str]:
    """Each with a key, so that one whose answer was lost is asked for again and not begun twice."""
    either, answered = Either(control, control.token, failures, over), set()
    said = {"region": REGION, "placement": {"kind": "number", "number": _HELD_BY}}
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number * _PACE_SECONDS - time.monotonic()))
        name = books.volume_name(number)
        answered.add(str(either.ask(lambda client, name=name: client.start_acceleration(name, said, f"start-{name}"))["id"]))  # type: ignore[misc]
    return answered


def _wait_active(control: Replicas, count: int, failures: Counter[str], over: threading.Event) -> set[str]:
    """Those that are not active within the bound."""
    either, left = Either(control, control.token, failures, over), set[str]()

    def look() -> bool:
        nonlocal left
        shown = either.ask(lambda client: list(client.accelerations()))
        left = {one["volume"] for one in shown if one["state"] != "active"}
        return not left and len(shown) == count

    with contextlib.suppress(TimeoutError):
        wait_until(look, "all are active", timeout=_STUCK_SECONDS, every=0.5)
    return left


@contextlib.contextmanager
def _killing(control: Replicas, seed: int, over: threading.Event) -> Iterator[list[int]]:
    """One of them, by chance, every five seconds, and at once started again."""
    kills: list[int] = []
    chance, ended, failures = random.Random(seed), threading.Event(), list[Exception]()

    def kill() -> None:
        try:
            kill_for_ever()
        except (RuntimeError, TimeoutError, OSError) as failure:  # one did not start again
            failures.append(failure)

    def kill_for_ever() -> None:
        due = time.monotonic()
        while not ended.wait(max(0.0, (due := due + _KILL_SECONDS) - time.monotonic())):
            number = chance.randrange(len(control.all))
            control.all[number].kill()
            kills.append(number)
            control.all[number].start()

    thread = threading.Thread(target=kill, name="killing")
    thread.start()
    try:
        yield kills
    finally:
        ended.set()
        thread.join()
        over.set()
    if failures:
        raise failures[0]


@contextlib.contextmanager
def _nodes(control: Replicas, fleet: books.Fleet, failures: Counter[str], over: threading.Event) -> Iterator[None]:
    """Simulated nodes, each a thread."""
    threads = [threading.Thread(target=_live, args=(control, seat, failures, over), name="node") for seat in fleet.nodes]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(60)


def _live(control: Replicas, seat: books.Seat, failures: Counter[str], over: threading.Event) -> None:
    """Asks, lists, holds and tells until it is over."""
    either, known, beat = Either(control, seat.token, failures, over), -1, float("-inf")
    told: dict[str, int] = {}
    while not over.is_set():
        with contextlib.suppress(ControlFailure):  # at the end
            if time.monotonic() - beat > 10:
                beat = time.monotonic()
                either.ask(lambda client: client.heartbeat({"version": "0.1.0", "capacity_bytes": 1 << 40}))
            desired = either.ask(lambda client, known=known: client.desired(known, 1.0))  # type: ignore[misc]
            known = desired["version"]
            for item in desired["accelerations"]:
                if item["list"] is not None:
                    _publish(either, item)
                if item["hold"] is not None and told.get(item["id"]) != item["hold"]:
                    either.ask(lambda client, item=item: client.progress([books.held(item["id"], item["hold"])]))  # type: ignore[misc]
                    told[item["id"]] = item["hold"]


def _publish(either: Either, item: dict[str, Any]) -> None:
    """A list of its own for each listing: were one answered twice, there would be two versions."""
    content = f"{item['id']} {item['list']}".encode()
    digest = hashlib.sha256(content).hexdigest()
    said = {"listing": item["list"], "digest": digest, "parts": 1, "files": 40, "bytes": 8 * 10**9}
    try:
        either.ask(lambda client: client.send_snapshot_part(item["id"], item["list"], digest, 0, content))
        either.ask(lambda client: client.publish_snapshot(item["id"], said))
    except ControlFailure as failure:
        if failure.code != "stale-listing":  # it was published, and the answer was lost
            raise

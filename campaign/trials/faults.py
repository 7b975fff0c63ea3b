"""An origin that fails all the time, under many readers, while what is cached is dropped again and again.

Every fault passes: no read may fail, and none may give a wrong byte. Beside it some objects fail for good: reading one
ends in EIO within the deadline, and nothing else does.
"""

from __future__ import annotations

import errno
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from bench.measure import Figure, at_least, at_most
from campaign.plan import Plan
from campaign.readers import Readers, Report
from headrace import settings as configuration
from headrace.node.client import connect
from headrace.testing.content import content
from headrace.testing.faults import LATE, POSSIBLE, Fault
from headrace.testing.origin import Origin, failing_origin
from support.headrace import Headrace, wait_until

TITLE = "faults of the origin under many readers"
FAULTS = 100_000
DEADLINE = 60  # seconds
_LONGEST = 1800.0  # seconds for all faults
WRONG = (Fault.WRONG_ETAG, Fault.WRONG_RANGE, Fault.WRONG_LENGTH, Fault.WHOLE)
_FOR_GOOD = [fault for fault in POSSIBLE["range"] if fault not in LATE]
_WAYS = {"random": 16, "random too": 8, "sequential": 2, "sequential too": 2, "mapped": 1, "mapped again": 1, "mapped once more": 1}
_SIZES = [0, 1, 4095, 4096, 16383, 16384, 16385, 100_000, (1 << 20) - 1, (1 << 20) + 1, *[3 << 20] * 6, *[5_000_003] * 6]


def run(plan: Plan) -> list[Figure]:
    wanted = plan.count(FAULTS)
    with failing_origin("models", seed=plan.seed) as origin:
        headrace = Headrace(plan.directory, origin.access.environment())
        headrace.environment["HEADRACE_DEADLINE"] = str(DEADLINE)
        try:
            reference = _fill(plan, origin)
            mount = headrace.mount("s3://models/m")
            lost = headrace.mount("s3://models/lost", "lost")
            with ThreadPoolExecutor(len(_FOR_GOOD)) as pool:
                ends = [pool.submit(_end_of, lost / fault) for fault in _FOR_GOOD]
                report = _under_readers(headrace, origin, Readers(mount, reference, _WAYS, plan.seed), wanted)
                counters = headrace.counters()
            return _figures(origin, report, counters, ends, wanted)
        finally:
            origin.faults.clear()
            headrace.stop()


def _fill(plan: Plan, origin: Origin) -> Path:
    """Objects to read under `m/`, and under `lost/` one for each fault that it has for good. Gives a directory with the former's bytes."""
    reference = plan.directory / "reference"
    reference.mkdir()
    for number, size in enumerate(_SIZES):
        data = content(plan.seed + number, 0, size)
        (reference / f"f{number}").write_bytes(data)
        origin.bucket("models").put(f"m/f{number}", data)
    for fault in _FOR_GOOD:
        origin.bucket("models").put(f"lost/{fault}", content(plan.seed, 0, 20_000))
        origin.faults.always(fault, f"lost/{fault}")
    return reference


def _end_of(path: Path) -> tuple[str, float]:
    """How reading a file ends, and after how many seconds."""
    began = time.monotonic()
    try:
        path.read_bytes()
    except OSError as error:
        return errno.errorcode[error.errno or 0], time.monotonic() - began
    return "bytes", time.monotonic() - began


def _under_readers(headrace: Headrace, origin: Origin, readers: Readers, wanted: int) -> Report:
    faults = origin.faults
    faults.kinds = {**dict.fromkeys(POSSIBLE["range"], 1.0), Fault.STALL: 0.2, Fault.CAPPED: 0.5}
    faults.late, faults.cap = 0.2, 4 << 20
    faults.script(Fault.STALL, Fault.STALL, Fault.STALL)
    client = connect(configuration.load(environ=headrace.environment))
    assert client is not None
    with client, readers:
        wait_until("stalls that outlast the client's patience", lambda: faults.given[Fault.STALL] >= 3)
        faults.stall, faults.rate = 1.0, 0.5

        def enough() -> bool:
            # What is cached is never asked for again, so it is dropped again and again.
            client.call("cache.evict", paths=[], all=True)
            return faults.total >= wanted or not readers.alive()

        wait_until(f"the fault number {wanted}", enough, _LONGEST)
        faults.rate = 0.0
        return readers.finish(DEADLINE)


def _figures(origin: Origin, report: Report, counters: dict[str, float], ends: list[Future[tuple[str, float]]], wanted: int) -> list[Figure]:
    given = origin.faults.given
    wrong_given = sum(given[fault] for fault in WRONG)
    lost = [end.result() for end in ends]
    return [
        Figure("faults given", "", (given.total(),), at_least(wanted)),
        Figure("… of them right answers that came late or slowly", "", (sum(given[fault] for fault in LATE),)),
        Figure("kinds of faults", "", (len(given),), at_least(len(POSSIBLE["range"]))),
        Figure("processes that read", "", (report.processes,)),
        Figure("threads that read", "", (report.threads,)),
        Figure("opens", "", (report.opens,)),
        Figure("reads", "", (report.reads,)),
        # How many depends on the machine; each of them must have read through the faults.
        Figure("reads of the least busy process", "", (report.fewest,), at_least(20)),
        Figure("bytes compared", "MB", (report.bytes / 1e6,)),
        Figure("calls with wrong bytes", "", (report.wrong_bytes,), at_most(0)),
        Figure("calls that failed, of what fails for a while", "", (report.errors,), at_most(0)),
        Figure("longest call", "s", (report.longest,), at_most(DEADLINE)),
        # All but some that were on their way when a better answer had come.
        Figure("wrong answers seen as such / given", "", (counters["origin_rejected_answers_total"] / wrong_given,), at_least(0.95)),
        Figure("body bytes counted / sent", "", (counters["origin_body_bytes_total"] / origin.counters.body_bytes,), at_most(1)),
        Figure("objects that fail for good", "", (len(lost),)),
        Figure("… and did not end in EIO", "", (sum(how != "EIO" for how, _ in lost),), at_most(0)),
        Figure("… longest read", "s", tuple(seconds for _, seconds in lost), at_most(DEADLINE + 5), worst=True),
    ]

"""An S3 server of our own for tests: keys are flat, and it fails in every way an origin can.

    with failing_origin("models", seed=7, rate=0.3) as origin:
        origin.bucket("models").put("qwen/config.json", b"{}")
        ...                                        # read through origin.access
        origin.faults.always(Fault.STALL, "qwen/weights.safetensors")
        print(origin.counters.requests, origin.faults.given)

It speaks path-style S3 over HTTP/1.1: ListObjectsV2 and ListObjectVersions in strict byte order, GET with ranges,
If-Match and versionId, HEAD, PUT, DELETE, versioning. There are no multipart uploads: objects are put whole, or
through Python as files and seeds. Signatures are checked once `origin.signatures` is set.

Requests to `/-/faults` (GET, or PUT with JSON fields of `Faults`) and `/-/counters` reach the controls of an origin
in another process; they are neither counted nor failed.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from headrace.testing.access import Access
from headrace.testing.answers import Answers
from headrace.testing.faults import Fault, Faults
from headrace.testing.signatures import Key, Signatures
from headrace.testing.store import Bucket
from headrace.testing.wire import Connection, Malformed, Pace, Request


@dataclass
class Counters:
    """What an origin has served."""

    requests: Counter[str] = field(default_factory=Counter)  # by kind: range, get, head, list, other
    connections: int = 0
    body_bytes: int = 0  # of objects: handed to the kernel, or on the way to it


class Origin:
    """A running server. `failing_origin` starts and stops it."""

    def __init__(self, faults: Faults, host: str = "127.0.0.1", port: int = 0) -> None:
        self.faults = faults
        self.buckets: dict[str, Bucket] = {}
        self.counters = Counters()
        self.signatures: Signatures | None = None
        self.pace: Pace | None = None  # a ceiling for all bodies together
        self.held = threading.Event()  # while it is set, no GET of an object is answered
        self._listener = socket.create_server((host, port), backlog=1024)
        self.access = Access(f"http://{host}:{self._listener.getsockname()[1]}")
        self._lock = threading.Lock()
        self._live: set[Connection] = set()
        self._threads: set[threading.Thread] = set()
        self._stopped = False
        self._acceptor = threading.Thread(target=self._accept, name="origin-accept", daemon=True)
        self._acceptor.start()

    def bucket(self, name: str) -> Bucket:
        """The bucket of that name; made if need be."""
        with self._lock:
            return self.buckets.setdefault(name, Bucket())

    def check_signatures(self) -> Signatures:
        """From now on only requests that `access` has signed are let in, or whom the answer's `keys` say."""
        self.signatures = Signatures({self.access.access_key: Key(self.access.secret_key)}, self.access.region)
        return self.signatures

    def limit(self, bytes_per_second: float | None) -> None:
        """A ceiling for all bodies together; None lifts it."""
        self.pace = None if bytes_per_second is None else Pace(bytes_per_second)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Answers no GET of an object until the end of the `with`: whoever wants bytes waits."""
        self.held.set()
        try:
            yield
        finally:
            self.held.clear()

    def count(self, kind: str) -> None:
        """One more request of a kind."""
        with self._lock:
            self.counters.requests[kind] += 1

    def sent(self, count: int) -> None:
        """So many more bytes of objects, or fewer."""
        with self._lock:
            self.counters.body_bytes += count

    def stop(self) -> None:
        """Ends every connection and thread."""
        with self._lock:
            self._stopped = True
        # A listening socket that is shut down wakes the thread in accept.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            live, threads = list(self._live), list(self._threads)
        for connection in live:
            connection.interrupt()
        for thread in threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                if self._stopped:
                    return
                time.sleep(0.05)  # out of descriptors: some will be closed
                continue
            connection = Connection(sock)
            thread = threading.Thread(target=self._serve, args=(connection,), name="origin", daemon=True)
            with self._lock:
                self.counters.connections += 1
                self._live.add(connection)
                self._threads.add(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        answers = Answers(self, connection)
        try:
            while (request := self._next(connection, answers)) is not None:
                if request.bucket == "-":
                    self._control(connection, request)
                elif not answers.answer(request):
                    break
        except OSError:
            pass  # the client went away, or was sent away: to it that is all there is to know
        finally:
            connection.close()
            with self._lock:
                self._live.discard(connection)
                self._threads.discard(threading.current_thread())

    @staticmethod
    def _next(connection: Connection, answers: Answers) -> Request | None:
        """The next request; None at the end, or after bytes that were no request."""
        try:
            return connection.request()
        except Malformed as error:
            answers.refuse(400, "InvalidRequest", str(error))
            return None

    def _control(self, connection: Connection, request: Request) -> None:
        status, answer = 200, dict[str, object]()
        if request.method == "PUT" and request.key == "faults":
            try:
                self.faults.adjust(json.loads(request.body))
            except ValueError as error:
                status, answer = 400, {"error": str(error)}
        elif request.method == "GET" and request.key in ("faults", "counters"):
            answer = self.report()
        else:
            status, answer = 404, {"error": "there are GET and PUT /-/faults, and GET /-/counters"}
        body = json.dumps(answer).encode()
        connection.answer(status, {"Content-Type": "application/json", "Content-Length": str(len(body))}, body)

    def report(self) -> dict[str, object]:
        """Counters and faults given, for JSON."""
        with self._lock:
            counters = self.counters
            return {
                "requests": dict(counters.requests),
                "connections": counters.connections,
                "body_bytes": counters.body_bytes,
                "faults": {fault.value: count for fault, count in self.faults.given.items()},
            }


@contextmanager
def failing_origin(
    *buckets: str,
    seed: int = 0,
    rate: float = 0.0,
    kinds: Iterable[Fault] | Mapping[Fault, float] | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[Origin]:
    """An origin on a port of its own with these buckets, for as long as the `with` lasts.

    `rate` (0 to 1) is the share of ranged GETs that get a fault out of `kinds`, by `seed`; all of it, and more, can be
    changed through `origin.faults` meanwhile.
    """
    origin = Origin(Faults(seed=seed, rate=rate, kinds=kinds), host, port)
    try:
        for bucket in buckets:
            origin.bucket(bucket)
        yield origin
    finally:
        origin.stop()

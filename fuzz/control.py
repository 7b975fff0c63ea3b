"""The control socket: whatever a command writes, each line gets one answer that is JSON, and nonsense is told from a failure.

The node is the real one, with its engine, a keeper's end and a bucket to list; only what would leave the process is held back:
nothing is mounted, and credentials come from here instead of from a process with an environment that the input chose.
The input is what a command writes before it hangs up.
"""

from __future__ import annotations

import io
import json
import os
import random
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, NoReturn

import atheris

with atheris.instrument_imports(include=["headrace.node", "headrace.errors"]):
    import headrace.node.methods  # noqa: F401 - the node imports it late, when nothing is instrumented any more
    from headrace.node import keeper, parcel, protocol, resolver, volume_methods
    from headrace.node.listing import publish_listing
    from headrace.node.parameters import PARAMETERS
    from headrace.node.service import Node
    from headrace.node.volumes import VolumeStore

from headrace._engine import Engine
from headrace.errors import MountFailure
from headrace.testing.origin import Origin, failing_origin

# Short enough that inputs can be longer than a line may be.
LINE_MAX = 2048
DIRECTORY = "/fuzz/mount"
VOLUME = "0123456789ab"
MOUNT = "fuzz"
# Values that get through to where methods use them, beside those that do not.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, 2**32 - 1, "", "current", "v1", VOLUME, DIRECTORY, f"{DIRECTORY}/d", f"{DIRECTORY}/../x", "d", "/", "..", "s3://b/p", "s3://b",
    {}, {"A": "b"}, {"region": "r"}, {"file_mode": 0o444}, [], [DIRECTORY], [f"{DIRECTORY}/a.bin"], ["d", "nothing"], ["*"], ["[!a]*", "**/*"],
)  # fmt: skip


class NeverMounts:
    """The engine, without a way to `/dev/fuse`; its one mount is only written down."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def mount(self, *_: object, **__: object) -> NoReturn:
        raise MountFailure("mount-failed", "directory: nothing is mounted here")

    def unmount(self, *_: object) -> NoReturn:
        raise MountFailure("mount-failed", "directory: nothing is unmounted here")

    def mount_current_slot(self, _: str) -> int:
        return 1

    def mount_status(self, _: str) -> dict[str, Any]:
        return {}


class Spoken:
    """A connection on which everything has been said already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.said = bytearray()

    def makefile(self, _: str) -> io.BytesIO:
        return io.BytesIO(self._data)

    def sendall(self, data: bytes) -> None:
        self.said += data

    def close(self) -> None:
        """There is nothing to close."""


def begin(directory: Path, origin: Origin) -> Node:
    """A node with one volume and one mount, in a directory of its own."""
    os.environ |= {
        "HEADRACE_CACHE_DIR": f"{directory}/cache", "HEADRACE_CACHE_SIZE": "64Mi", "HEADRACE_CACHE_RESERVE": "0",
        "HEADRACE_NODE": f"{directory}/run/node.sock", "HEADRACE_MEMORY": "32Mi", "HEADRACE_CONNECTIONS": "2",
    }  # fmt: skip
    kept = keeper.begin(os.environ["HEADRACE_NODE"])
    assert kept is not None, "a new directory has no other keeper"
    ours, theirs = socket.socketpair()
    threading.Thread(target=_acknowledge, args=(theirs,), daemon=True).start()
    node = Node(ours, kept, os.getpid())
    if node.fault:
        raise node.fault
    node.engine = NeverMounts(node.engine)  # type: ignore[assignment]
    right: dict[str, Any] = {
        "endpoint": origin.access.endpoint, "region": "us-east-1", "addressing": "path", "ca_bundle": None, "proxy": None, "anonymous": True,
        "access_key": None, "secret_key": None, "session_token": None, "expires": None,
    }  # fmt: skip
    resolver.resolve = lambda *_: dict(right)
    entry: dict[str, Any] = {
        "directory": DIRECTORY, "bucket": "b", "prefix": "p/", "origin": right, "environment": {}, "options": {}, "look": {}, "pin": False,
        "since": 0,
    }  # fmt: skip
    node.add_origin(node.engine, MOUNT, entry)
    store = VolumeStore(node.settings.snapshots, right["endpoint"], "b", "p/")
    version, _ = publish_listing(node.engine, MOUNT, store, lambda _: True)
    path = str(store.path(version))
    node.kept.mounts[MOUNT] = {**entry, "snapshot": version, "slots": {"1": path}}
    hold(node)
    return node


def hold(node: Node) -> None:
    """The volume that inputs can name, also after one has closed it."""
    mount = node.kept.mounts[MOUNT]
    node.volumes._held[VOLUME] = volume_methods.Held(mount, MOUNT, mount["snapshot"], mount["slots"]["1"])
    node.volumes._users[MOUNT] = 1


def _acknowledge(channel: socket.socket) -> None:
    """A keeper's end: takes everything, keeps nothing."""
    while (received := parcel.receive(channel)) is not None:
        for fd in received[1]:
            os.close(fd)
        parcel.send(channel, {"ok": True})


def check(data: bytes, said: bytes) -> None:
    """One greeting, then one answer a line, up to the first line that is no request."""
    lines = [json.loads(line, parse_constant=_refuse) for line in said.split(b"\n")[:-1]]
    assert lines[0]["protocol"] == [1, 1], "no greeting"
    assert said.endswith(b"\n"), "half an answer"
    answers = [line for line in lines[1:] if "progress" not in line]
    asked = data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    malformed = bool(answers) and answers[-1]["id"] is None and answers[-1].get("error", {}).get("code") == "bad-request"
    assert len(answers) == asked or (malformed and len(answers) < asked) or len(data) > LINE_MAX, f"{len(answers)} answers to {asked} lines"
    for answer in answers:
        assert answer.keys() in ({"id", "result"}, {"id", "error"}), f"neither result nor error: {answer}"
        if "error" in answer:
            code, message = answer["error"]["code"], answer["error"]["message"]
            assert code != "internal", message
            assert code, f"an error without a code: {message}"
            assert message, f"an error without a message: {code}"


def _refuse(name: str) -> NoReturn:
    raise AssertionError(f"{name} is not JSON")


def mutate(data: bytes, bytes_max: int, seed: int) -> bytes:
    """Bytes as libFuzzer changes them, or one more call that is well formed: bytes alone seldom stay JSON."""
    chance = random.Random(seed)
    if chance.random() < 0.5:
        return bytes(atheris.Mutate(data, bytes_max))
    method = chance.choice(list(PARAMETERS))
    call = {"id": chance.randrange(9), "method": method, "params": {name: _value(chance) for name in PARAMETERS[method]}}
    lines = data.split(b"\n")
    lines.insert(chance.randrange(len(lines)), json.dumps(call).encode())
    return b"\n".join(lines)[:bytes_max]


def _value(chance: random.Random) -> Any:
    value = chance.choice(VALUES)
    if isinstance(value, str) and chance.random() < 0.3:
        return bytes(atheris.Mutate(value.encode(), 64)).decode(errors="replace")
    return value


def main() -> None:
    protocol.LINE_MAX = LINE_MAX
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as directory, failing_origin("b") as origin:
        for key in ("p/a.bin", "p/d/m.safetensors", "p/d/empty"):
            origin.bucket("b").put(key, key.encode())
        node = begin(Path(directory), origin)
        atheris.Setup(sys.argv, lambda data: _one(node, data), custom_mutator=mutate)
        atheris.Fuzz()


def _one(node: Node, data: bytes) -> None:
    hold(node)
    connection = Spoken(data)
    node.connections += 1
    node._serve(protocol.Lines(connection))  # type: ignore[arg-type]
    node.stopping.clear()
    check(data, bytes(connection.said))


if __name__ == "__main__":
    main()

"""A task's side of the task door (`headrace.node.task_door`)."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import Any

from headrace.errors import NodeFailure, NotFound, UsageError, from_code
from headrace.node import parcel
from headrace.node.runtime import other_end
from headrace.settings import ROOT_TASK_SOCKET, Settings

# A node that was killed is back long before this.
_CONNECT_SECONDS = 5.0
_TRY_SECONDS = 0.02
_GREETING_SECONDS = 20.0
# A list of files may have to come first.
_ANSWER_SECONDS = 120.0


class _BrokenOff(NodeFailure):
    def __init__(self, cause: object) -> None:
        super().__init__("node-unreachable", f"the node broke off while it prepared the task ({cause}); start it again, or see the node's log")


class _Full(ConnectionError):
    def __init__(self, said: dict[str, Any]) -> None:
        super().__init__(str(said["message"]))
        self.failure = from_code(str(said["code"]), str(said["message"]))


@dataclass(frozen=True)
class Mount:
    """What hangs somewhere for this process: by a descriptor, or at a directory of the node's."""

    path: str
    device: int
    tree: int | None
    directory: str


class Door:
    """A connection to the node of this machine that serves tasks of a region. Closed before `placed`, the task ends."""

    def __init__(self, channel: socket.socket, path: str, greeting: dict[str, Any]) -> None:
        self._channel = channel
        self._path = path
        self.node = str(greeting["node"])
        self.region = str(greeting["region"])

    def watch(self, task: str) -> None:
        """From here on the task ends with this process."""
        self._ask({"op": "watch", "task": task})

    def mounts(self, task: str) -> list[Mount]:
        """Has the task's mounts made. A node that was restarted while the task waited is asked once more."""
        try:
            answer, descriptors = self._ask({"op": "mount", "task": task})
        except _BrokenOff:
            self._channel.close()
            if (again := _connect(self._path)) is None:
                raise
            self._channel = again._channel
            answer, descriptors = self._ask({"op": "mount", "task": task})
        told = answer["mounts"]
        trees: list[int | None] = [*descriptors] if descriptors else [None] * len(told)
        return [Mount(str(one["path"]), int(one["device"]), tree, str(one["directory"])) for one, tree in zip(told, trees, strict=True)]

    def placed(self) -> None:
        """This process has them in its namespace."""
        self._ask({"op": "placed"})

    def close(self) -> None:
        self._channel.close()

    def _ask(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        try:
            parcel.send(self._channel, message)
            received = parcel.receive(self._channel)
        except OSError as error:
            raise _BrokenOff(error) from None
        if received is None:
            raise _BrokenOff("it closed the connection")
        answer, descriptors = received
        if "error" in answer:
            raise from_code(str(answer["error"]["code"]), str(answer["error"]["message"]))
        return answer, descriptors


def open_door(settings: Settings, region: str) -> Door:
    """The door of this machine's node in a region: this user's own, or root's. Raises UsageError where it is of another region."""
    looked = list(dict.fromkeys((settings.task_socket,) if settings.task_socket_named else (settings.task_socket, ROOT_TASK_SOCKET)))
    others, failed = [], None
    for path in looked:
        try:
            door = _connect(path)
        except NodeFailure as failure:  # the first place may be anybody's who was there before this user: it keeps nobody from the next
            failed = failed or failure
            continue
        if door is None:
            continue
        if door.region == region:
            return door
        others.append(door.region)
        door.close()
    if failed is not None:
        raise failed
    if others:
        raise UsageError(
            "other-region",
            f"region: this machine's node is of the region {' and '.join(others)}, not of {region}; give that region, or start the task on a "
            f"machine of {region} (`headrace task place --region {region}` names one)",
        )
    raise NotFound(
        "not-joined", f"node: none that has joined a control plane serves tasks here (looked at {', '.join(looked)}); `headrace node join` joins one"
    )


def _connect(path: str) -> Door | None:
    """A greeted connection; None where nobody listens. A node that is just starting again is waited for."""
    until = time.monotonic() + _CONNECT_SECONDS
    while True:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        channel.settimeout(_CONNECT_SECONDS)  # also so that a queue that is full refuses, instead of keeping us in it
        try:
            channel.connect(path)
            return _greeted(channel, path)
        except FileNotFoundError:
            channel.close()
            return None
        except (ConnectionError, BlockingIOError, TimeoutError) as error:
            channel.close()
            if time.monotonic() > until:
                if isinstance(error, _Full):
                    raise error.failure from None
                raise NodeFailure("node-unreachable", f"node: it does not answer at {path} ({error}); see its log") from None
            time.sleep(_TRY_SECONDS)
        except PermissionError:
            channel.close()
            return None
        except BaseException:
            channel.close()
            raise


def _greeted(channel: socket.socket, path: str) -> Door:
    if (uid := other_end(channel)) not in (0, os.geteuid()):
        raise NodeFailure("node-unreachable", f"node: {path} belongs to the user {uid}; set HEADRACE_TASK_SOCKET to your own node's or root's")
    channel.settimeout(_GREETING_SECONDS)
    received = parcel.receive(channel)
    if received is None:
        raise ConnectionResetError("it closed the connection before it said a word")
    if "error" in received[0]:
        raise _Full(received[0]["error"])
    channel.settimeout(_ANSWER_SECONDS)
    return Door(channel, path, received[0])

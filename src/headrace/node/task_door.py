"""The task door: a socket at which processes get the mounts of their tasks, other users' processes at root's node too.

Messages are those of `parcel`. The door speaks first: `{"headrace": VERSION, "node": ID, "region": NAME}`. It takes
`{"op": "watch", "task": ID}`: from here on the task ends when the connection does; `{"op": "mount", "task": ID}`: makes its mounts and answers
`{"mounts": [{"path", "directory", "device"}]}`, with a descriptor for each from a root node, and without from an ordinary user's, whose
mounts hang at the directories named; and `{"op": "placed"}`: the process has them in its namespace, and the task is its own
from now on. Answers are `{"ok": true}` or `{"error": {"code", "message"}}`; a door that is full begins with an error. It takes nothing else.

Who is at the other end is what the kernel says. A task is served to the user that the control plane names, and to root. Nobody can take more than a
bounded share: of connections, of bytes in a message, of time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from headrace._engine import EngineError
from headrace.errors import HeadraceError, NodeFailure
from headrace.node import parcel
from headrace.node.runtime import check_length
from headrace.node.task_mounts import Made, close_trees, is_root

if TYPE_CHECKING:
    from headrace.node.agent.task_document import Task
    from headrace.node.agent.tasks import Tasks

_CONNECTIONS_MAX = 256
_OF_ONE_USER_MAX = 64
# Whoever asks for what is not theirs asks the control plane by this node's name: all of them together no faster than this.
_REFUSAL_SECONDS = 0.1
_MESSAGE_BYTES_MAX = 4096
_FIRST_SECONDS = 10.0
# A first listing may take long; whoever waits for it renews the lease meanwhile.
_WATCHED_SECONDS = 3700.0
# From the mounts to the command's start only the command's own process is at work.
_PLACING_SECONDS = 30.0
_TURN_SECONDS = 60.0


class Door:
    """Listens from `open` to `close`."""

    def __init__(self, path: str, tasks: Tasks, greeting: dict[str, Any]) -> None:
        self._path = path
        self._tasks = tasks
        self._greeting = greeting
        self._listener: socket.socket | None = None
        self._identity: os.stat_result | None = None
        self._lock = threading.Lock()
        self._users: Counter[int] = Counter()
        self._refusals = threading.Lock()
        # An ordinary user's mounts hang in a place that a namespace made meanwhile would hold too: one task at a time.
        self._turn = threading.Lock()

    def open(self) -> None:
        """Raises NodeFailure where another node serves tasks, OSError where the socket can't be made."""
        check_length(f"{self._path}.new")
        if _is_served(self._path):
            raise NodeFailure("task-socket", f"task socket: another node serves {self._path}; give each its own (HEADRACE_TASK_SOCKET)")
        self._listener = _listening(self._path)
        self._identity = os.stat(self._path)
        threading.Thread(target=self._accept, args=(self._listener,), name="task door", daemon=True).start()

    def close(self) -> None:
        """Takes nobody more."""
        if self._listener is None:
            return
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with contextlib.suppress(OSError):
            if self._identity is not None and os.path.samestat(os.stat(self._path), self._identity):
                os.unlink(self._path)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if listener.fileno() < 0 or error.errno in (errno.EINVAL, errno.EBADF):  # closed
                    return
                print(f"node: a connection for a task could not be taken: {error}", file=sys.stderr, flush=True)
                threading.Event().wait(0.1)
                continue
            _, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if not self._has_room(uid):
                full = NodeFailure("task-refused", "node: too many tasks are starting or waiting at its door; try again")
                with connection, contextlib.suppress(OSError):
                    connection.setblocking(False)
                    parcel.send(connection, _error(full))
                continue
            try:
                threading.Thread(target=self._serve, args=(connection, uid, gid), daemon=True).start()
            except RuntimeError as error:  # no more threads are to be had
                print(f"node: a connection for a task could not be served: {error}", file=sys.stderr, flush=True)
                connection.close()
                self._gone(uid)

    def _has_room(self, uid: int) -> bool:
        """Takes a place for a connection, if there is one. Some are root's alone, whatever other users do."""
        with self._lock:
            others = self._users.total() - self._users[0]
            if self._users[uid] >= _OF_ONE_USER_MAX or (uid != 0 and others >= _CONNECTIONS_MAX - _OF_ONE_USER_MAX):
                return False
            self._users[uid] += 1
            return True

    def _gone(self, uid: int) -> None:
        with self._lock:
            self._users[uid] -= 1
            if not self._users[uid]:
                del self._users[uid]

    def _serve(self, connection: socket.socket, uid: int, gid: int) -> None:
        visit = _Visit(self._tasks, connection, uid, gid, self._turn, self._refusals)
        try:
            connection.settimeout(_FIRST_SECONDS)
            parcel.send(connection, self._greeting)
            visit.serve()
        except OSError:
            pass  # it went away, or said what nobody understands: both end the visit
        except Exception:
            traceback.print_exc(file=sys.stderr)
        finally:
            try:
                visit.end()
            finally:
                connection.close()
                self._gone(uid)


class _Visit:
    """One connection, and the one task that it is about."""

    def __init__(self, tasks: Tasks, connection: socket.socket, uid: int, gid: int, turn: threading.Lock, refusals: threading.Lock) -> None:
        self._tasks = tasks
        self._connection = connection
        self._uid, self._gid = uid, gid
        self._turn = turn
        self._refusals = refusals
        self._has_turn = False
        self._task: Task | None = None
        self._made: list[Made] = []

    def serve(self) -> None:
        """Until the other end has what it came for, or is gone."""
        answers: dict[str, Callable[[str], bool]] = {"watch": self._watch, "mount": self._mount, "placed": self._placed}
        while (message := parcel.receive_plain(self._connection, _MESSAGE_BYTES_MAX)) is not None:
            operation, task = message.get("op"), message.get("task", "")
            answer = answers.get(operation) if isinstance(operation, str) else None
            if answer is None or not isinstance(task, str):
                raise ConnectionError
            try:
                if answer(task):
                    return None
            except (HeadraceError, EngineError) as error:
                # One try a visit: each asks the control plane.
                if self._task is None:
                    with self._refusals:
                        time.sleep(_REFUSAL_SECONDS)
                return self._say(_error(error))
            except OSError as error:
                # Of the mounting; one of the connection shows at once when this is sent.
                message_of = f"the task's mounts could not be made: {error}"
                print(f"node: {message_of}", file=sys.stderr, flush=True)
                return self._say({"error": {"code": "mount-failed", "message": message_of}})
        return None

    def end(self) -> None:
        """A task that was not placed is given up."""
        task, self._task = self._task, None
        if task is not None:
            self._tasks.abandon(task, self._made)
        if self._has_turn:
            self._has_turn = False
            self._turn.release()

    def _watch(self, task_id: str) -> bool:
        self._take(task_id)
        self._connection.settimeout(_WATCHED_SECONDS)
        self._say({"ok": True})
        return False

    def _mount(self, task_id: str) -> bool:
        if self._made:
            raise NodeFailure("task-refused", "task: it is mounted already")
        if not is_root() and not self._has_turn:
            self._has_turn = self._turn.acquire(timeout=_TURN_SECONDS)
            if not self._has_turn:
                raise NodeFailure("task-refused", "task: others have been starting for a minute; try again")
        self._made = self._tasks.make(self._take(task_id), self._uid, self._gid)
        self._connection.settimeout(_PLACING_SECONDS)
        try:
            told = [{"path": one.path, "directory": one.directory, "device": one.device} for one in self._made]
            parcel.send(self._connection, {"mounts": told}, [one.tree for one in self._made if one.tree is not None])
        finally:
            close_trees(self._made)
        return False

    def _placed(self, _: str) -> bool:
        if not self._made:
            raise NodeFailure("task-refused", "task: nothing was mounted that could have been placed")
        self._tasks.placed(self._made)
        # Said before the task is its own: if this can't be heard, nobody begins.
        self._say({"ok": True})
        if self._task is not None:
            self._tasks.begun(self._task)
        self._task = None
        return True

    def _take(self, task_id: str) -> Task:
        """The task as it is now; one connection is about one task."""
        if self._task is None:
            self._task = self._tasks.take(task_id, self._uid)
        elif self._task.id == task_id:
            self._task = self._tasks.fetch(task_id)
        else:
            raise NodeFailure("task-refused", "task: this connection is about another")
        return self._task

    def _say(self, message: dict[str, Any]) -> None:
        parcel.send(self._connection, message)


def _error(failure: HeadraceError | EngineError) -> dict[str, Any]:
    return {"error": {"code": failure.code, "message": failure.message}}


def _is_served(path: str) -> bool:
    """Whether somebody listens there. A socket that a killed node left behind is free."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        try:
            asking.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
        return True


def _listening(path: str) -> socket.socket:
    """A socket with its rights before anybody can find it. Root's is for every user: what it serves depends on who asks."""
    fresh = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise NodeFailure("task-socket", f"task socket: {path} is there and no socket; choose another path (HEADRACE_TASK_SOCKET)")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(fresh)
        os.chmod(fresh, 0o666 if is_root() else 0o600)
        listener.listen(_CONNECTIONS_MAX)
        os.rename(fresh, path)
    except BaseException:
        listener.close()
        raise
    return listener

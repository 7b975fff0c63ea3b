"""Tasks with mounts on this node: their leases are renewed as long as the mounts live, and end with them.

What is held is what `kept.mounts` says, so a node that was killed goes on where it was. While the control plane is away, tasks read on:
only its own word ends one.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from headrace._engine import EngineError
from headrace.errors import CredentialFailure, HeadraceError, NodeFailure
from headrace.node import task_mounts
from headrace.node.agent.backoff import Backoff
from headrace.node.agent.contact import Contact, plain
from headrace.node.agent.desired import Desired, Item, Origin
from headrace.node.agent.listing import PASSING
from headrace.node.agent.origins import Origins
from headrace.node.agent.snapshots import Snapshots
from headrace.node.agent.task_document import Task, TaskMount, parse_task
from headrace.node.task_mounts import Made, close_trees
from headrace.node.task_paths import allowed_roots, checked_paths

if TYPE_CHECKING:
    from headrace.client import ControlClient
    from headrace.node.service import Node

_LOOK_SECONDS = 0.25
# Half of the 30 seconds in which a lease should be renewed: one answer may be lost.
_RENEW_SECONDS = 15.0
# As many as the control plane takes in one request.
_HELD_MAX = 2000
_ENDED_MAX = 200
_EVENTS_MAX = 20
_ENDED = "its last process has ended"
_WENT_AWAY = "the command went away before it began"
_STOPPED = "the node was stopped"
_GONE = "its mounts could not be served any longer when the node started again"


class Tasks:
    """Those of one enrolled node."""

    def __init__(
        self,
        node: Node,
        node_id: str,
        control: ControlClient,
        contact: Contact,
        origins: Origins,
        snapshots: Snapshots,
        desired: Callable[[], tuple[Desired | None, float]],
    ) -> None:
        self._node = node
        self._node_id = node_id
        self._control = control
        self._contact = contact
        self._origins = origins
        self._snapshots = snapshots
        self._desired = desired
        self._lock = threading.Lock()
        self._held: dict[str, int] = self._mounted()  # leases
        before = {task["id"]: (task["lease"], _GONE) for task in node.tasks_before if task["node"] == node_id}
        # Not told yet: leases and reasons.
        self._ended: dict[str, tuple[int, str]] = {task: told for task, told in before.items() if task not in self._held}
        self._starting: set[str] = set()  # somebody at the door waits for them
        self._making = 0  # mounts
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS_MAX)
        self._complaints: set[str] = set()
        self._wake = threading.Event()
        self._due = 0.0
        self._told_of = -1

    # For the door

    def take(self, task_id: str, uid: int) -> Task:
        """A task for one visitor of the door, whom it ends with from now on, unless it is placed before.

        Raises CredentialFailure for another user's, NodeFailure for one that somebody has taken before, ControlFailure for one that is not
        of this node.
        """
        desired, _ = self._desired()
        if desired is not None and desired.draining:
            raise NodeFailure("task-refused", "node: it is drained and takes no new tasks; `headrace task place` names another")
        task = self.fetch(task_id)
        if task.user is None or uid not in (0, task.user):
            raise CredentialFailure("task-refused", f"task: {task.id} is not of the user {uid}; start one of your own")
        with self._lock:
            if task.id in self._starting or task.id in self._held or task.id in self._mounted():
                raise NodeFailure("task-refused", f"task: {task.id} is mounted already; start another")
            self._starting.add(task.id)
            self._ended.pop(task.id, None)  # of a node that was killed before it could hand the mounts over: it begins again
        return task

    def fetch(self, task_id: str) -> Task:
        """A task as it is now."""
        return parse_task(self._control.node_task(task_id))

    def make(self, task: Task, uid: int, gid: int) -> list[Made]:
        """Mounts all of a task; leaves nothing when one fails."""
        paths = checked_paths([mount.path for mount in task.mounts], allowed_roots(self._node.settings.task_paths, uid))
        made: list[Made] = []
        with self._room_for(len(paths)):
            try:
                for mount, path in zip(task.mounts, paths, strict=True):
                    made.append(self._make(task, mount, path, uid, gid))
            except BaseException:
                close_trees(made)
                self._take_back(made)
                raise
        with self._lock:
            self._held[task.id] = task.lease
        return made

    @contextlib.contextmanager
    def _room_for(self, count: int) -> Iterator[None]:
        """While so many mounts are made. Raises NodeFailure where there would be too many."""
        most = self._node.settings.task_mounts
        with self._lock:
            if len(task_mounts.of_tasks(self._node)) + self._making + count > most:
                raise NodeFailure("task-refused", f"node: tasks have as many mounts as task_mounts allows, {most}; end some, or use another node")
            self._making += count
        try:
            yield
        finally:
            with self._lock:
                self._making -= count

    def placed(self, made: list[Made]) -> None:
        """The task's process has them in its namespace."""
        for one in made:
            task_mounts.let_go(self._node, one.mount_id)

    def begun(self, task: Task) -> None:
        """Its process knows, and it is its own from now on."""
        with self._lock:
            self._starting.discard(task.id)

    def abandon(self, task: Task, made: list[Made]) -> None:
        """Whoever asked for a task went away before its command began: nothing stays of it."""
        self._take_back(made)
        with self._lock:
            self._starting.discard(task.id)
            self._held.pop(task.id, None)
            self._ended[task.id] = (task.lease, _WENT_AWAY)
        self.soon()

    def _take_back(self, made: list[Made]) -> None:
        for one in made:
            task_mounts.end(self._node, one.mount_id)

    def _make(self, task: Task, mount: TaskMount, path: str, uid: int, gid: int) -> Made:
        if mount.version is None:
            raise NodeFailure("task-refused", f"mount: {mount.origin.volume} can't be mounted yet; wait until its files are listed")
        origin, version = mount.origin, mount.version
        snapshot = self._snapshots.get(version, origin)
        kept = {
            "id": task.id, "node": self._node_id, "lease": task.lease, "user": uid, "acceleration": mount.acceleration, "follow": mount.follow,
            "path": path, "volume": origin.volume, "volume_id": origin.volume_id, "revision": origin.revision, "version": version.number,
        }  # fmt: skip
        with self._origins.lent(origin) as (name, resolved):
            wanted = task_mounts.Wanted(kept, name, resolved, origin.bucket, origin.prefix, snapshot, version.number, uid, gid)
            return task_mounts.make(self._node, wanted)

    # By itself

    def soon(self) -> None:
        """Something has changed."""
        self._wake.set()

    def counts(self) -> dict[str, int]:
        """For `headrace status`."""
        with self._lock:
            return {"tasks": len(self._held.keys() - self._starting), "tasks_starting": len(self._starting)}

    def events(self) -> list[dict[str, Any]]:
        return list(reversed(self._events))

    def happened(self, kind: str, message: str, task: str = "") -> None:
        """Told in the log, and by `headrace status`."""
        print(f"node: {message}", file=sys.stderr, flush=True)
        self._events.append({"time_ns": time.time_ns(), "kind": kind, "object": task, "message": message})

    def run(self, stopping: threading.Event) -> None:
        """Until `stopping`."""
        from headrace.client import ControlFailure

        backoff = Backoff()
        quiet_until = 0.0
        while not stopping.is_set():
            self._look()
            try:
                if time.monotonic() >= quiet_until:
                    self._step()
                    backoff.reset()
            except ControlFailure as failure:
                self._contact.failed(failure.message)
                quiet_until = time.monotonic() + backoff.next()
            self._wake.wait(_LOOK_SECONDS)
            self._wake.clear()

    def tell_end(self, seconds: float) -> None:
        """At the node's end: everything has been unmounted. Waits so long for the answer and no longer."""
        with self._lock:
            self._ended |= {task: (lease, _STOPPED) for task, lease in self._held.items()}
            self._held.clear()
            left = bool(self._ended)
        if left:
            telling = threading.Thread(target=self._tell_at_end, daemon=True)
            telling.start()
            telling.join(seconds)

    def _tell_at_end(self) -> None:
        try:
            self._tell()
        except HeadraceError as error:
            print(f"node: the end of tasks was not told: {error.message}", file=sys.stderr, flush=True)

    def _mounts(self) -> dict[str, dict[str, Any]]:
        """Mounts of tasks of this membership. Those from before the node left go on by themselves, and nobody is told of them."""
        return {i: entry for i, entry in task_mounts.of_tasks(self._node).items() if entry["task"]["node"] == self._node_id}

    def _mounted(self) -> dict[str, int]:
        return {entry["task"]["id"]: entry["task"]["lease"] for entry in self._mounts().values()}

    def _look(self) -> None:
        """Finds tasks whose mounts have all ended."""
        for mount_id in self._mounts():
            if not self._is_alive(mount_id):
                task_mounts.forget_dead(self._node, mount_id)
        with self._lock:
            there = self._mounted()
            for task in self._held.keys() - there.keys():
                self._ended[task] = (self._held.pop(task), _ENDED)
                self._due = 0.0

    def _is_alive(self, mount_id: str) -> bool:
        try:
            return self._node.engine.mount_alive(mount_id)
        except EngineError:  # forgotten by now
            return True

    def _step(self) -> None:
        desired, heard = self._desired()
        if desired is not None and desired.version != self._told_of:
            self._told_of, self._due = desired.version, 0.0  # what has changed may be an end
        if self._ended or (self._held and time.monotonic() >= self._due):
            self._tell()
        if desired is not None:
            items = {item.id: item for item in desired.items}
            for mount_id, entry in self._mounts().items():
                item = items.get(entry["task"]["acceleration"])
                if item is not None:
                    self._follow(mount_id, entry, item, heard)
                    self._renew_keys(entry, item)

    def _tell(self) -> None:
        """Renews what is held and ends what has ended."""
        with self._lock:
            held = list(self._held.items())
            ended = dict(list(self._ended.items())[:_ENDED_MAX])
        pieces = [held[start : start + _HELD_MAX] for start in range(0, len(held), _HELD_MAX)] or [[]]
        for piece in pieces:
            answer = self._control.tell_tasks(
                [{"id": task, "lease": lease} for task, lease in piece],
                [{"id": task, "lease": lease, "reason": reason} for task, (lease, reason) in ended.items()],
            )
            self._contact.heard()
            with self._lock:
                for task, told in ended.items():
                    if self._ended.get(task) == told:
                        del self._ended[task]
            ended = {}
            for task in answer["gone"]:
                self._end(str(task))
        self._due = time.monotonic() + _RENEW_SECONDS

    def _end(self, task: str) -> None:
        """The control plane has ended a task, or somebody else has its lease."""
        with self._lock:
            if self._held.pop(task, None) is None:
                return
        self.happened("task-ended", f"the task {task} was ended, or its lease taken over: its mounts end, reads there fail with ENOTCONN", task)
        for mount_id, entry in self._mounts().items():
            if entry["task"]["id"] == task:
                task_mounts.end(self._node, mount_id)

    def _follow(self, mount_id: str, entry: dict[str, Any], item: Item, heard: float) -> None:
        task = entry["task"]
        # What was heard before the mount was made may be older than what the mount shows.
        if not task["follow"] or heard <= task.get("made", 0.0) or item.current in (None, task["version"]):
            return
        version = item.version(item.current)
        if version is None:
            return
        try:
            task_mounts.switch(self._node, mount_id, version.number, self._snapshots.get(version, item.origin))
        except (EngineError, NodeFailure, OSError) as error:
            self._complain(f"the mount of the task {task['id']} at {task['path']} can't follow to v{version.number}: "
                           f"{getattr(error, 'message', error)}")  # fmt: skip
        else:
            print(f"node: {task['path']} of the task {task['id']} now shows v{version.number} of {task['volume']}", file=sys.stderr, flush=True)

    def _renew_keys(self, entry: dict[str, Any], item: Item) -> None:
        """A volume's new keys, also for those who read by an earlier revision, unless they are for another place."""
        task, old, new = entry["task"], entry["origin"], item.origin
        if new.revision <= task["revision"]:
            return
        if (new.endpoint, new.bucket, new.addressing, new.anonymous) != (old["endpoint"], entry["bucket"], old["addressing"], old["anonymous"]):
            self._complain(f"the volume {task['volume']} is somewhere else now; the mount of the task {task['id']} stays with what it had")
            return
        keys = {} if new.anonymous else self._keys_of(new)
        if keys is None:
            return
        if keys:
            self._origins.give(entry["origin_id"], keys)
        for mount_id, other in self._mounts().items():
            if other["origin_id"] == entry["origin_id"]:
                task_mounts.change(self._node, mount_id, {"revision": new.revision}, origin={**other["origin"], **keys})

    def _keys_of(self, origin: Origin) -> dict[str, Any] | None:
        """A volume's keys; None where this node can't have them, which is no matter of the others."""
        from headrace.client import ControlFailure

        try:
            return self._origins.fetched(origin.volume_id)
        except ControlFailure as failure:
            if failure.status in PASSING:
                raise
            self._complain(f"keys of the volume {origin.volume} can't be had: {failure.message}; mounts of tasks go on with those they have")
            return None

    def _complain(self, message: str) -> None:
        """Once."""
        if message not in self._complaints:
            self._complaints.add(message)
            print(f"node: {plain(message)}", file=sys.stderr, flush=True)

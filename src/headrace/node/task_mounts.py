"""Mounts of tasks: made where nobody sees them, handed to one process, and over when its mount namespace ends.

A root node mounts on a directory of its own, takes a copy of the mount that hangs nowhere (`open_tree`), and takes the mount away again:
what is left is the copy's descriptor, which the task's process hangs into its namespace. Between the two it must not get into
another process's namespace for good, where it would live on, so it hangs below a directory that is bound onto itself and shared: what is unmounted
there is unmounted in every copy.

A node of an ordinary user can't copy mounts. It leaves its mount in place until the process, in a user namespace of its own, has made
the copy; the door lets one task at a time do this.

The node sees the end as that of any mount: the kernel ends the FUSE connection with the last namespace that holds it. To end one that a
program still holds, the connection is aborted.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace._engine import EngineError
from headrace.errors import MountFailure
from headrace.node import namespaces, slots
from headrace.node.engines import add_origin
from headrace.node.private import private_directory_below

if TYPE_CHECKING:
    from headrace.node.service import Node

_HELPER_SECONDS = 10.0


@dataclass(frozen=True)
class Wanted:
    """One mount of a task, with everything that it needs here: a list on this disk, and an origin that the engine knows."""

    task: dict[str, Any]  # what `kept.mounts` says of it beside what every mount has
    origin_id: str
    origin: dict[str, Any]
    bucket: str
    prefix: str
    snapshot: str
    version: int
    uid: int
    gid: int


@dataclass(frozen=True)
class Made:
    """A mount that waits for its process: by a descriptor of the tree, or at a private directory."""

    mount_id: str
    path: str
    device: int
    tree: int | None
    directory: str


def close_trees(made: Iterable[Made]) -> None:
    """Closes this process's descriptors: a mount that nobody else has ends."""
    for one in made:
        if one.tree is not None:
            os.close(one.tree)


def directory_of_all(node: Node) -> Path:
    return node.settings.snapshots.parent / "control" / "tasks"


def is_root() -> bool:
    return os.geteuid() == 0


def make(node: Node, wanted: Wanted) -> Made:
    """Mounts; leaves nothing behind when it fails."""
    mount_id = secrets.token_hex(6)
    place = directory_of_all(node) / mount_id
    private_directory_below(node.settings.snapshots.parent, place)
    try:
        # One at a time: a directory that is bound onto itself is taken away with all that is below it.
        with node.commands, _shared(place.parent):
            return _mount(node, mount_id, str(place), wanted)
    except BaseException:
        end(node, mount_id)
        with contextlib.suppress(OSError):
            place.rmdir()
        raise


@contextlib.contextmanager
def _shared(directory: Path) -> Iterator[None]:
    if not is_root():
        yield
        return
    namespaces.mount(str(directory), str(directory), None, namespaces.MS_BIND)
    try:
        namespaces.mount("none", str(directory), None, namespaces.MS_PRIVATE)
        namespaces.mount("none", str(directory), None, namespaces.MS_SHARED)
        yield
    finally:
        namespaces.unmount(str(directory), namespaces.MNT_DETACH)


def _mount(node: Node, mount_id: str, place: str, wanted: Wanted) -> Made:
    look: dict[str, Any] = {
        "uid": wanted.uid, "gid": wanted.gid, "file_mode": 0o444, "dir_mode": 0o555, "allow_other": is_root(), "passthrough": True,
    }  # fmt: skip
    if is_root():
        os.makedirs(place, mode=0o700, exist_ok=True)  # below the binding
    found = slots.identity(wanted.snapshot)
    node.engine.mount(mount_id, wanted.origin_id, wanted.snapshot, directory=place, **look)
    device = os.stat(place).st_dev
    entry: dict[str, Any] = {
        "directory": place, "bucket": wanted.bucket, "prefix": wanted.prefix, "origin": wanted.origin, "origin_id": wanted.origin_id,
        "environment": {}, "options": {}, "look": look, "pin": not wanted.task["follow"], "since": time.time(),
        **slots.first(node, mount_id, f"v{wanted.version}", found),
        # By a clock that nobody sets, and that the node's successor goes by too.
        "task": {**wanted.task, "device": device, "hung": not is_root(), "made": time.monotonic()},
    }  # fmt: skip
    node.keep_mount(mount_id, entry)
    if not is_root():
        return Made(mount_id, wanted.task["path"], device, None, place)
    namespaces.mount("none", place, None, namespaces.MS_PRIVATE)
    tree = namespaces.clone_tree(place)
    try:
        namespaces.unmount(place, namespaces.MNT_DETACH)
        os.rmdir(place)
    except BaseException:
        os.close(tree)
        raise
    return Made(mount_id, wanted.task["path"], device, tree, place)


def let_go(node: Node, mount_id: str) -> None:
    """Takes an ordinary user's mount away from its private directory: from now on only the task's namespace holds it."""
    entry = node.kept.mounts.get(mount_id)
    if entry is None or not entry["task"]["hung"]:
        return
    take_down(entry["directory"])
    change(node, mount_id, {"hung": False})


def change(node: Node, mount_id: str, task: dict[str, Any], **more: Any) -> None:
    """Changes what is kept of a task's mount; of one that has ended nothing is."""
    with node.commands:
        entry = node.kept.mounts.get(mount_id)
        if entry is not None:
            node.update_mount(mount_id, {**more, "task": {**entry["task"], **task}})


def take_down(place: str) -> None:
    """Unmounts what hangs at a private directory, without waiting for who uses it, and takes the directory away."""
    if is_root():
        with contextlib.suppress(OSError):  # it hangs there no more
            namespaces.unmount(place, namespaces.MNT_DETACH)
    else:
        subprocess.run(["fusermount3", "-uz", "--", place], check=False, capture_output=True, timeout=_HELPER_SECONDS)
    with contextlib.suppress(OSError):
        os.rmdir(place)


def clear(node: Node) -> None:
    """At the node's start: what a killed one was about to hand out is taken down. Whoever waits for it is told so by the broken connection."""
    for mount_id, entry in list(node.kept.mounts.items()):
        if "task" in entry:
            let_go(node, mount_id)
    everything = directory_of_all(node)
    with contextlib.suppress(FileNotFoundError):
        for place in everything.iterdir():
            take_down(str(place))
    if is_root():
        with contextlib.suppress(OSError):  # it is bound onto itself no more
            namespaces.unmount(str(everything), namespaces.MNT_DETACH)


def end(node: Node, mount_id: str) -> None:
    """Ends a mount whoever holds it: programs get ENOTCONN there from now on. One that has ended is no error."""
    entry = node.kept.mounts.get(mount_id)
    if entry is None:  # mounted, and not kept yet
        with contextlib.suppress(EngineError):
            node.engine.unmount(mount_id, True)
        return
    take_down(entry["directory"])
    with contextlib.suppress(EngineError):
        if node.engine.mount_alive(mount_id):
            _abort(node, entry)
    node.engine.mount_forget(mount_id)
    node.forget_mount(mount_id)


def _abort(node: Node, entry: dict[str, Any]) -> None:
    number = os.minor(entry["task"]["device"])
    if not (_abort_at(Path("/sys/fs/fuse/connections"), number) or _abort_by_own(node, number)):
        task = entry["task"]
        print(f"node: the mount of the task {task['id']} at {task['path']} can't be ended; it goes with its process", file=sys.stderr, flush=True)


def _abort_at(connections: Path, number: int) -> bool:
    try:
        (connections / str(number) / "abort").write_text("1")
    except OSError:
        return False
    return True


def _abort_by_own(node: Node, number: int) -> bool:
    """By a control file system mounted for the moment: not every machine has one."""
    if not is_root():
        return False
    place = directory_of_all(node).with_name("connections")
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        namespaces.mount("none", str(place), "fusectl", namespaces.MS_NOSUID | namespaces.MS_NODEV | namespaces.MS_NOEXEC)
    except OSError:
        return False
    try:
        return _abort_at(place, number)
    finally:
        namespaces.unmount(str(place), namespaces.MNT_DETACH)


def forget_dead(node: Node, mount_id: str) -> None:
    """After the end of a mount's last namespace."""
    node.engine.mount_forget(mount_id)
    node.forget_mount(mount_id)


def switch(node: Node, mount_id: str, version: int, snapshot: str) -> None:
    """Shows another version: the keeper knows the slot before the kernel can."""
    with node.commands:
        entry = node.kept.mounts.get(mount_id)
        if entry is None:
            return
        slots.switch(node, mount_id, entry, f"v{version}", snapshot, task={**entry["task"], "version": version})


def of_tasks(node: Node) -> dict[str, dict[str, Any]]:
    """The mounts of tasks, by their id."""
    return {mount_id: entry for mount_id, entry in list(node.kept.mounts.items()) if "task" in entry}


def lists_in_use(node: Node) -> set[str]:
    """Paths of the lists that mounts of tasks show, or have shown: a restart opens them again."""
    return {path for entry in of_tasks(node).values() for path in entry["slots"].values()}


def refuse(entry: dict[str, Any]) -> MountFailure:
    task = entry["task"]
    return MountFailure(
        "task-mount",
        f"directory: {task['path']} is a mount of the task {task['id']}, which alone sees it; `headrace task show {task['id']}` tells of it, "
        f"`headrace task end {task['id']}` ends it",
    )


def drop_lists(node: Node, entry: dict[str, Any]) -> None:
    """After the end of a mount on a node that has left the control plane: nobody else would take its lists away."""
    for path in set(entry["slots"].values()) - lists_in_use(node):
        Path(path).unlink(missing_ok=True)


def know_origin(node: Node, engine: Any, entry: dict[str, Any], known: set[str]) -> None:
    """After a restart: the origin that several mounts may read from."""
    if entry["origin_id"] not in known:
        add_origin(engine, node.settings, entry["origin_id"], entry["bucket"], entry["origin"], learn_order=False)
        known.add(entry["origin_id"])

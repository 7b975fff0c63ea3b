"""Where a task's mounts hang: looked for, made, and mounted on without ever going through a link.

Every step goes from an open directory to a name in it, so that nobody can put a link in the way between two looks. What is made is removed again
when the command does not come about.

Whoever removes a directory takes away what hangs on it in every namespace (rmdir(2) asks only the caller's own). So a directory that one task has
just made, and may yet remove, is entered by another only when that is decided: the maker holds a lock (flock) on it until it has become its
command or has removed it, and whoever finds the directory waits for that, a moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from headrace.errors import MountFailure, UsageError
from headrace.node import mountinfo, namespaces

_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEEDED = {"ro", "nosuid", "nodev"}
# Of all directories of a task together. A maker takes a hundredth of this; one that holds a lock for longer is no task, or is stopped.
_MAKER_SECONDS = 5.0
_TRY_SECONDS = 0.01
_TRIES_MAX = 20


def look(path: str) -> None:
    """Raises UsageError where a directory can't be: a link or a file is in the way. One that is not there yet is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.close(_walk(path))


class Places:
    """The mount points of one task. Use with `with`: at the end goes what was made and hung; only an exec leaves it."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._making = _Making()
        self._hung: list[str] = []

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._hung:
            with contextlib.suppress(OSError):  # the namespace goes with this process anyway
                namespaces.unmount(path, namespaces.MNT_DETACH)
        self._making.take_away()

    def make(self) -> None:
        """Makes what is missing, as this user. Raises MountFailure where it can't."""
        self._making.until = time.monotonic() + _MAKER_SECONDS
        # In one order, so that no two tasks wait for each other.
        for path in sorted(self._paths, key=lambda one: one.split("/")):
            os.close(_walk(path, self._making))

    def hang(self, path: str, tree: int) -> None:
        """Hangs a tree onto a path of this process's own namespace."""
        with _closing(_walk(path)) as target:
            namespaces.move_tree(tree, target)
        self._hung.append(path)


class _Making:
    """Directories that a task has made, and those of others that it has entered, with their locks."""

    def __init__(self) -> None:
        self.until = 0.0
        self._made: list[tuple[int, str]] = []
        self._locks: list[int] = []
        self._known: set[tuple[int, int]] = set()

    def make(self, above: int, name: str, path: str) -> bool:
        """Whether the directory is this task's: another may be faster. Raises MountFailure."""
        parent = -1
        try:
            parent = os.dup(above)
            os.mkdir(name, 0o755, dir_fd=parent)
        except OSError as error:
            if parent >= 0:
                os.close(parent)
            if isinstance(error, FileExistsError):
                return False
            raise MountFailure(
                "mount-failed", f"mount: {path} can't be made ({error.strerror}); make the directory, or give one in a place you may write to"
            ) from None
        self._made.append((parent, name))
        try:
            own = os.open(name, _READ, dir_fd=parent)
        except OSError:  # the umask is such that nobody may look into it: nobody else enters it either
            return True
        if not _is_locked(own, fcntl.LOCK_EX):  # somebody has entered it already: it is not this task's to remove
            os.close(own)
            self._made.pop()
            os.close(parent)
            return False
        self._keep(own)
        return True

    def enter(self, found: int, above: int, name: str) -> bool:
        """Waits for whoever has just made a directory; whether it is there then."""
        if _identity(found) in self._known:
            return True
        try:
            own = os.open(".", _READ, dir_fd=found)
        except OSError:  # it may be entered and not looked into
            return True
        while not _is_locked(own, fcntl.LOCK_SH):
            if time.monotonic() > self.until:
                os.close(own)
                return True
            time.sleep(_TRY_SECONDS)
        self._keep(own)
        try:
            return os.path.samestat(os.stat(name, dir_fd=above, follow_symlinks=False), os.fstat(own))
        except FileNotFoundError:
            return False

    def take_away(self) -> None:
        for parent, name in reversed(self._made):
            with contextlib.suppress(OSError):  # somebody else's by now
                os.rmdir(name, dir_fd=parent)
            os.close(parent)
        for own in self._locks:
            os.close(own)

    def _keep(self, own: int) -> None:
        self._locks.append(own)
        self._known.add(_identity(own))


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


def _is_locked(directory: int, kind: int) -> bool:
    """Whether the lock was to be had now. A file system without any is as if it was."""
    try:
        fcntl.flock(directory, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def own_namespace() -> None:
    """Gives this process mounts of its own. Root needs no more; others are themselves in a user namespace, with no rights outside of it."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        namespaces.unshare(namespaces.CLONE_NEWNS)
    else:
        try:
            namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNS)
        except OSError as error:
            raise MountFailure(
                "mount-failed",
                f"namespace: this machine gives users no namespaces of their own ({error.strerror}); have an administrator permit them "
                "(user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns), or start the task as root",
            ) from None
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    # What is mounted here stays here; what is unmounted outside goes here too.
    namespaces.mount("none", "/", None, namespaces.MS_SLAVE | namespaces.MS_REC)


def check_hung(path: str) -> None:
    """Raises MountFailure unless a path shows a read-only mount of ours, without devices and programs that change the user."""
    found = mountinfo.mounted_at(path)
    if found is None or found.fstype != mountinfo.FSTYPE or not _NEEDED.issubset(found.options):
        raise MountFailure("mount-failed", f"mount: {path} does not show what it should (read-only, nosuid, nodev); see the node's log")


def _walk(path: str, making: _Making | None = None) -> int:
    """A descriptor of the directory. With `making`, directories that are missing are made."""
    current = os.open("/", _OPEN | os.O_DIRECTORY)
    so_far = ""
    for name in path.strip("/").split("/"):
        so_far += f"/{name}"
        with _closing(current) as above:
            current = _entered(above, name, so_far, path, making) if making is not None else _step(above, name, so_far, path)
    return current


def _entered(above: int, name: str, so_far: str, path: str, making: _Making) -> int:
    """A step to a directory that stays: made by this task, or nobody's to remove."""
    for _ in range(_TRIES_MAX):
        try:
            found = _step(above, name, so_far, path)
        except FileNotFoundError:
            if making.make(above, name, path):
                return _step(above, name, so_far, path)
            continue
        if making.enter(found, above, name):
            return found
        os.close(found)
    raise MountFailure("mount-failed", f"mount: {so_far} is made and removed all the time; make the directory, and leave it there")


def _step(above: int, name: str, so_far: str, path: str) -> int:
    try:
        found = os.open(name, _OPEN, dir_fd=above)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError("bad-path", f"mount: {path}: {so_far} can't be entered ({error.strerror}); give a path that you may enter") from None
    mode = os.fstat(found).st_mode
    if not stat.S_ISDIR(mode):
        os.close(found)
        if stat.S_ISLNK(mode):
            raise UsageError("bad-path", f"mount: {path} leads through the link {so_far}; give the path without it")
        raise UsageError("bad-path", f"mount: {so_far} is no directory; give another path")
    return found


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)

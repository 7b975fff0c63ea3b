"""Where a task's mounts hang: looked for, made, and mounted on without ever going through a link.

Every step goes from an open directory to a name in it, so that nobody can put a link in the way between two looks. What is made is removed again
when the command does not come about.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from headrace.errors import MountFailure, UsageError
from headrace.node import mountinfo, namespaces

_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_NEEDED = {"ro", "nosuid", "nodev"}


def look(path: str) -> None:
    """Raises UsageError where a directory can't be: a link or a file is in the way. One that is not there yet is fine."""
    with contextlib.suppress(FileNotFoundError):
        os.close(_walk(path))


class Places:
    """The mount points of one task. Use with `with`: at the end goes what was made and hung, unless it is to `stay`."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._made: list[tuple[int, str]] = []
        self._hung: list[str] = []
        self._stays = False

    def __enter__(self) -> Places:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._stays:
            self._take_away()

    def make(self) -> None:
        """Makes what is missing, as this user. Raises MountFailure where it can't."""
        for path in self._paths:
            os.close(_walk(path, self._made))

    def hang(self, path: str, tree: int) -> None:
        """Hangs a tree onto a path of this process's own namespace."""
        with _closing(_walk(path)) as target:
            namespaces.move_tree(tree, target)
        self._hung.append(path)

    def stay(self) -> None:
        """The command begins."""
        self._stays = True

    def _take_away(self) -> None:
        for path in self._hung:
            with contextlib.suppress(OSError):  # the namespace goes with this process anyway
                namespaces.unmount(path, namespaces.MNT_DETACH)
        for parent, name in reversed(self._made):
            with contextlib.suppress(OSError):  # somebody else's by now
                os.rmdir(name, dir_fd=parent)
            os.close(parent)


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


def _walk(path: str, made: list[tuple[int, str]] | None = None) -> int:
    """A descriptor of the directory. With `made`, directories that are missing are made, and noted with an open directory above each."""
    current = os.open("/", _OPEN | os.O_DIRECTORY)
    so_far = ""
    for name in path.strip("/").split("/"):
        so_far += f"/{name}"
        with _closing(current) as above:
            current = _step(above, name, so_far, path, made)
    return current


def _step(above: int, name: str, so_far: str, path: str, made: list[tuple[int, str]] | None) -> int:
    try:
        found = os.open(name, _OPEN, dir_fd=above)
    except FileNotFoundError:
        if made is None:
            raise
        _make(above, name, path, made)
        found = os.open(name, _OPEN, dir_fd=above)
    except OSError as error:
        raise UsageError("bad-path", f"mount: {path}: {so_far} can't be entered ({error.strerror}); give a path that you may enter") from None
    mode = os.fstat(found).st_mode
    if not stat.S_ISDIR(mode):
        os.close(found)
        if stat.S_ISLNK(mode):
            raise UsageError("bad-path", f"mount: {path} leads through the link {so_far}; give the path without it")
        raise UsageError("bad-path", f"mount: {so_far} is no directory; give another path")
    return found


def _make(above: int, name: str, path: str, made: list[tuple[int, str]]) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=above)
    except FileExistsError:  # another task was faster
        return
    except OSError as error:
        raise MountFailure(
            "mount-failed", f"mount: {path} can't be made ({error.strerror}); make the directory, or give one in a place you may write to"
        ) from None
    made.append((os.dup(above), name))


@contextlib.contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)

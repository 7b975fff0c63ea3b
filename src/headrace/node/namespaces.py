"""The system calls of mount namespaces that Python's library does not have, as libc or the kernel give them.

Each raises OSError with the kernel's errno. Numbers are those of x86-64 and arm64, which are the same for all calls since 2019.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 2, 4, 8, 4096, 16384
MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 18, 1 << 19, 1 << 20
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT = 428, 429
_AT_FDCWD, _AT_RECURSIVE, _AT_SYMLINK_NOFOLLOW = -100, 0x8000, 0x100
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, subject: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject or None)
    return result


def unshare(flags: int) -> None:
    """Gives this process namespaces of its own. A user namespace needs a process of one thread."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def enter(descriptor: int, kind: int) -> None:
    """Joins the namespace that a descriptor of `/proc/PID/ns/…` stands for."""
    _checked(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)))


def mount(source: str, target: str, kind: str | None, flags: int) -> None:
    """mount(2), without data."""
    fstype = None if kind is None else kind.encode()
    _checked(_libc.mount(os.fsencode(source), os.fsencode(target), fstype, ctypes.c_ulong(flags), None), target)


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2); never through a link at the end of the path."""
    _checked(_libc.umount2(os.fsencode(target), ctypes.c_int(flags | UMOUNT_NOFOLLOW)), target)


def clone_tree(path: str) -> int:
    """A descriptor of a copy of the mount at `path` that hangs nowhere; the copy ends with its last descriptor, unless it is moved somewhere."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE | _AT_SYMLINK_NOFOLLOW
    return _checked(_libc.syscall(ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(_AT_FDCWD), os.fsencode(path), ctypes.c_uint(flags)), path)


def move_tree(tree: int, target: int) -> None:
    """Hangs a tree onto the directory that the descriptor `target` stands for, in this process's namespace."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _checked(_libc.syscall(ctypes.c_long(_SYS_MOVE_MOUNT), ctypes.c_int(tree), b"", ctypes.c_int(target), b"", ctypes.c_uint(flags)))

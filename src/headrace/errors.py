"""Errors as people see them: what failed, why, and what to do.

HeadraceError
├── UsageError          a setting or an argument is wrong
├── OriginFailure       the bucket can't be read (network, name)
│   └── CredentialFailure
├── CacheFailure        the cache directory can't be used
├── MountFailure        FUSE or the mount point refused
│   └── BusyFailure
├── NodeFailure         the node can't be reached or broke off
├── CommandFailure      the command of a task can't be executed
│   └── CommandNotFound
├── NotFound            no such mount, snapshot or path
│   └── PathNotFound    no such file in a volume; also a FileNotFoundError
└── ReadFailure         a read of the SDK failed; also an OSError with the errno that the mount would give
    └── Replaced        the object was replaced or deleted in the bucket (ESTALE)

Every one of them survives pickling, so that it may cross from a worker process.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes of the `headrace` command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    DENIED = 4
    UNREACHABLE = 5
    BUSY = 6
    CACHE = 7
    NOT_EXECUTABLE = 126
    COMMAND_NOT_FOUND = 127
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Exit.OK: "done",
    Exit.FAILED: "failed",
    Exit.USAGE: "wrong usage: an option, an argument or a setting",
    Exit.NOT_FOUND: "not found, or not mounted",
    Exit.DENIED: "credentials or permission",
    Exit.UNREACHABLE: "the origin cannot be reached, or not used as it is named",
    Exit.BUSY: "busy",
    Exit.CACHE: "the cache directory cannot be used",
    Exit.NOT_EXECUTABLE: "`task run`: the command can't be executed (any other code may be the command's own)",
    Exit.COMMAND_NOT_FOUND: "`task run`: the command is not found",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
}


class HeadraceError(Exception):
    """A failure with a stable code; the message names field, cause and remedy."""

    exit_code = Exit.FAILED

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message)


class UsageError(HeadraceError):
    exit_code = Exit.USAGE


class OriginFailure(HeadraceError):
    exit_code = Exit.UNREACHABLE


class CredentialFailure(OriginFailure):
    exit_code = Exit.DENIED


class CacheFailure(HeadraceError):
    exit_code = Exit.CACHE


class MountFailure(HeadraceError):
    exit_code = Exit.FAILED


class BusyFailure(MountFailure):
    exit_code = Exit.BUSY


class NodeFailure(HeadraceError):
    exit_code = Exit.FAILED


class CommandFailure(HeadraceError):
    """The command of `headrace task run` can't be executed; exit codes are those of shells."""

    exit_code = Exit.NOT_EXECUTABLE


class CommandNotFound(CommandFailure):
    exit_code = Exit.COMMAND_NOT_FOUND


class NotFound(HeadraceError):
    exit_code = Exit.NOT_FOUND


class PathNotFound(NotFound, FileNotFoundError):
    """There is no such file in a volume's snapshot."""

    def __init__(self, path: str, message: str) -> None:
        OSError.__init__(self, errno.ENOENT, message, path)
        self.code = "unknown"
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.filename, self.message)


class ReadFailure(HeadraceError, OSError):
    """Bytes of a file could not be had; `errno` is what the same read through the mount would give."""

    def __init__(self, code: str, message: str, number: int, path: str) -> None:
        OSError.__init__(self, number, message, path)
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.errno, self.filename)


class Replaced(ReadFailure):
    """The object was replaced or deleted in the bucket: this version's missing bytes are gone for good.

    Bytes that the cache holds stay readable. Open the volume again for the new version.
    """


_BY_CODE: dict[str, type[HeadraceError]] = {
    "bad-setting": UsageError,
    "bad-request": UsageError,
    "bad-order": UsageError,
    "bad-identity": UsageError,
    "already-joined": UsageError,
    "unauthenticated": CredentialFailure,
    "control-unreachable": OriginFailure,
    "bad-credentials": CredentialFailure,
    "expired-credentials": CredentialFailure,
    "access-denied": CredentialFailure,
    "no-such-bucket": OriginFailure,
    "wrong-region": OriginFailure,
    "protocol": OriginFailure,
    "unreachable": OriginFailure,
    "tls": OriginFailure,
    "clock-skew": OriginFailure,
    "deadline": OriginFailure,
    "empty-prefix": NotFound,
    "unknown": NotFound,
    "unknown-snapshot": NotFound,
    "unknown-volume": NotFound,
    "not-mounted": NotFound,
    "not-joined": NotFound,
    "no-task": NotFound,
    "task-mount": MountFailure,
    "task-refused": CredentialFailure,
    "bad-path": UsageError,
    "other-region": UsageError,
    "not-executable": CommandFailure,
    "command-not-found": CommandNotFound,
    "bad-desired": NodeFailure,
    "bad-snapshot": NodeFailure,
    "busy": BusyFailure,
    "fuse-unavailable": MountFailure,
    "mount-failed": MountFailure,
    "node-unreachable": NodeFailure,
}


def from_code(code: str, message: str) -> HeadraceError:
    """The error class for a code that came over the wire or out of the engine."""
    if code.startswith("cache-"):
        return CacheFailure(code, message)
    return _BY_CODE.get(code, HeadraceError)(code, message)

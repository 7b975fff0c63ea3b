"""What a volume stands on: the node, or an engine of its own. And one translation of the engine's errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from headrace._engine import EngineError
from headrace.errors import HeadraceError, ReadFailure, Replaced, from_code


class Handle(Protocol):
    """A file, open for reading at any place. Several threads may use it at once."""

    def read_into(self, offset: int, buffer: Any) -> int:
        """Fills a writable buffer from `offset`; gives the bytes read, fewer only at the end of the file."""
        ...

    def descriptor(self) -> int | None:
        """A read-only descriptor of the complete file, which the caller closes; None while it is incomplete."""
        ...

    def close(self) -> None: ...


class Ground(Protocol):
    """One version of a volume's list, and the bytes behind it."""

    version: str

    def entries(self, directory: str) -> Iterator[dict[str, Any]]: ...

    def stat(self, path: str) -> dict[str, Any] | None: ...

    def handle(self, path: str) -> Handle: ...

    def warm(self, paths: list[str], progress: Callable[[dict[str, Any]], None]) -> dict[str, Any]: ...

    def close(self) -> None: ...


def read_failure(error: EngineError, path: str) -> HeadraceError:
    """The error of a read, for the caller of the SDK."""
    if error.code == "replaced":
        return Replaced(error.code, f"{error.message}; open the volume again for the new version", error.errno, path)
    return ReadFailure(error.code, error.message, error.errno, path)


def call_failure(error: EngineError) -> HeadraceError:
    """The error of any other call."""
    return from_code(error.code, error.message)

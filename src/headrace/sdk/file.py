"""A file of a volume as a Python file.

While the file is incomplete each read goes to the engine, which fetches what is missing into the caller's buffer. Once
it is complete its descriptor is asked for, and from then on reads are reads of the local cache file.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.sdk.ground import Handle

# After this many bytes of an incomplete file it is asked again whether it is complete by now.
_ASK_AGAIN_BYTES = 16 << 20
BUFFER_BYTES = 256 << 10


class File(io.RawIOBase):
    """A file of a volume, open for reading; unbuffered, like `open(path, "rb", buffering=0)`.

    It never changes: every byte is of the version that the volume's snapshot lists. Besides what every raw Python file
    has, `pread` and `pread_into` read at a place of their own and may be called from several threads at once.

    Reads raise `headrace.Replaced` when the object was replaced in the bucket and the bytes are not in the cache,
    `headrace.ReadFailure` when they can't be had for another reason, both with an `errno`.
    """

    mode = "rb"

    def __init__(self, handle: Handle, name: str, size: int, at_close: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._handle = handle
        self.name = name
        self._size = size
        self._at_close = at_close
        self._position = 0
        self._turn = threading.Lock()
        self._descriptor: int | None = None
        self._until_asked = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self._size

    @property
    def complete(self) -> bool:
        """True when the cache holds every byte, so that `fileno` and mapping work."""
        self._check_open()
        return self._own_descriptor(True) is not None

    def readable(self) -> bool:
        self._check_open()
        return True

    def seekable(self) -> bool:
        self._check_open()
        return True

    def tell(self) -> int:
        """Bytes from the start of the file."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to `offset` bytes from the start, the position or the end; gives the new position. Past the end is allowed."""
        self._check_open()
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}
        if whence not in bases:
            raise ValueError(f"whence: {whence} is none of SEEK_SET, SEEK_CUR and SEEK_END")
        position = bases[whence] + offset
        if position < 0:
            raise ValueError(f"offset: {position} lies before the start of the file")
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        """Fills `buffer` from the position and moves on; gives the bytes read, fewer only at the end of the file."""
        with self._turn:
            count = self.pread_into(buffer, self._position)
            self._position += count
        return count

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes from the position; all the rest when `size` is negative or None."""
        if size is None or size < 0:
            return self.readall()
        with self._turn:
            found = self.pread(size, self._position)
            self._position += len(found)
        return found

    def readall(self) -> bytes:
        """Everything from the position to the end."""
        with self._turn:
            found = self.pread(self._size, self._position)
            self._position += len(found)
        return found

    def pread(self, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset`, without moving; fewer only at the end of the file."""
        self._check_open()
        count = max(0, min(size, self._size - offset))
        # The stream hands its bytes object out as it is, without a copy.
        target = io.BytesIO(bytes(count))
        with target.getbuffer() as buffer:
            self.pread_into(buffer, offset)
        return target.getvalue()

    def pread_into(self, buffer: Any, offset: int) -> int:
        """Fills a writable, contiguous buffer from `offset`, without moving; gives the bytes read."""
        self._check_open()
        if offset < 0:
            raise ValueError(f"offset: {offset} lies before the start of the file")
        with memoryview(buffer) as view, view.cast("B") as part, part[: max(0, self._size - offset)] as wanted:
            if not wanted.nbytes:
                return 0
            descriptor = self._own_descriptor(self._until_asked <= 0)
            if descriptor is not None:
                return _read_all(descriptor, wanted, offset)
            self._until_asked -= wanted.nbytes
            return self._handle.read_into(offset, wanted)

    def fileno(self) -> int:
        """The descriptor of the complete file: read-only, closed with this file.

        Raises io.UnsupportedOperation while the file is incomplete: a descriptor would show holes where bytes are missing.
        """
        self._check_open()
        descriptor = self._own_descriptor(True)
        if descriptor is None:
            raise io.UnsupportedOperation(f"{self.name}: the file is not complete on this machine, so it has no descriptor; warm it first")
        return descriptor

    def close(self) -> None:
        if not self.closed:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)
            self._handle.close()
            if self._at_close:
                self._at_close()
        super().close()

    def _own_descriptor(self, ask: bool) -> int | None:
        if self._descriptor is None and ask:
            self._until_asked = _ASK_AGAIN_BYTES
            descriptor = self._handle.descriptor()
            if descriptor is not None and self._descriptor is not None:
                os.close(descriptor)
            elif descriptor is not None:
                self._descriptor = descriptor
        return self._descriptor

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"{self.name}: I/O operation on closed file")

    def __repr__(self) -> str:
        return f"<headrace.File {self.name!r}{' closed' if self.closed else ''}>"


def _read_all(descriptor: int, buffer: memoryview, offset: int) -> int:
    """One read moves at most 2 GiB."""
    done = 0
    while done < buffer.nbytes:
        count = os.preadv(descriptor, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done

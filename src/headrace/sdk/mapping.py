"""A complete file as memory."""

from __future__ import annotations

import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.sdk.ground import Handle


class Mapping(mmap.mmap):
    """A mapped file that the node counts as in use for as long as the memory is."""

    handle: Handle

    def __del__(self) -> None:
        self.handle.close()


def mapped(handle: Handle, descriptor: int, size: int) -> memoryview:
    """The whole file, read-only, without a copy. Takes the descriptor and the handle over; the view keeps the mapping alive."""
    try:
        mapping = Mapping(descriptor, size, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
    mapping.handle = handle
    return memoryview(mapping)

"""Bytes that are known at every offset, and models made of them.

A byte depends on nothing but the seed and its offset, so a test can check any range of a file of any size
without keeping the file: every 8 bytes are one step of SplitMix64 over their position. That is good enough
for telling ranges apart: no block resembles another and nothing compresses.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

_PIECE = 8 << 20
_STEP = 16 << 10  # words of a step: they stay in the processor's cache from the first operation to the last
_WIDTHS = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "I32": 4, "U8": 1, "I8": 1}


def content(seed: int, offset: int, length: int) -> bytes:
    """Bytes `offset` to `offset + length` of the endless file number `seed`."""
    first = offset // 8
    words = _words(seed, first, (offset + length + 7) // 8 - first)
    start = offset - first * 8
    return words.tobytes()[start : start + length]


def pieces(seed: int, size: int, piece: int = _PIECE) -> Iterator[bytes]:
    """The first `size` bytes, in pieces: for files larger than memory should hold."""
    for offset in range(0, size, piece):
        yield content(seed, offset, min(piece, size - offset))


def write_file(path: Path, seed: int, size: int) -> None:
    """Writes the first `size` bytes to a file."""
    with path.open("wb") as file:
        for piece in pieces(seed, size):
            file.write(piece)


def first_difference(data: bytes, seed: int, offset: int) -> int | None:
    """Offset of the first byte of `data` that is not what file `seed` has at `offset`; None when all are."""
    expected = content(seed, offset, len(data))
    if data == expected:
        return None
    differ = np.frombuffer(data, np.uint8) != np.frombuffer(expected, np.uint8)
    return offset + int(np.argmax(differ))


def safetensors_header(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[bytes, int]:
    """Header of a safetensors file with these tensors (type, shape), with its length; and the data's size."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (kind, shape) in tensors.items():
        start, end = end, end + _WIDTHS[kind] * int(np.prod(shape, dtype=np.int64))
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start on 8 bytes, as the format advises
    return len(text).to_bytes(8, "little") + text, end


def write_safetensors(path: Path, seed: int, tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    """Writes a valid safetensors file whose data are the bytes of `seed`; returns its size."""
    header, size = safetensors_header(tensors)
    with path.open("wb") as file:
        file.write(header)
        for piece in pieces(seed, size):
            file.write(piece)
    return len(header) + size


def _words(seed: int, first: int, count: int) -> npt.NDArray[np.uint64]:
    """SplitMix64 at positions `first`… of the sequence that `seed` starts; overflow is part of it."""
    start = np.uint64((seed * 0xD1342543DE82EF95 + 1) % 2**64)
    words = np.empty(count, np.dtype("<u8"))
    with np.errstate(over="ignore"):
        for low in range(0, count, _STEP):
            z = words[low : low + _STEP]
            z[:] = np.arange(first + low, first + low + len(z), dtype=np.uint64)
            z *= np.uint64(0x9E3779B97F4A7C15)
            z += start
            z ^= z >> np.uint64(30)
            z *= np.uint64(0xBF58476D1CE4E5B9)
            z ^= z >> np.uint64(27)
            z *= np.uint64(0x94D049BB133111EB)
            z ^= z >> np.uint64(31)
    return words

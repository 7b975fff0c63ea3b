"""Models of the bench: valid safetensors and GGUF files of a given size, whose data are bytes of a seed."""

from __future__ import annotations

import struct
from pathlib import Path

from headrace.testing.content import pieces, safetensors_header

TENSOR = 8 << 20  # bytes; a projection of a model of a few billion weights has as much
_ALIGNMENT = 32
_STRING, _F16 = 8, 1  # kinds of a value and of a tensor in GGUF


def write_safetensors(path: Path, seed: int, size: int) -> None:
    """About `size` bytes in tensors of 8 MiB."""
    shapes = {f"model.layers.{number}.weight": ("F16", (1024, TENSOR // 2048)) for number in range(size // TENSOR)}
    header, data = safetensors_header(shapes)
    _write(path, header, seed, data)


def write_gguf(path: Path, seed: int, size: int) -> None:
    """About `size` bytes in tensors of 8 MiB."""
    count = size // TENSOR
    head = b"GGUF" + struct.pack("<IQQ", 3, count, 1)
    head += _text("general.architecture") + struct.pack("<I", _STRING) + _text("llama")
    for number in range(count):
        head += _text(f"blk.{number}.weight") + struct.pack("<IQQIQ", 2, TENSOR // 2048, 1024, _F16, number * TENSOR)
    head += bytes(-len(head) % _ALIGNMENT)
    _write(path, head, seed, count * TENSOR)


def _write(path: Path, header: bytes, seed: int, data: int) -> None:
    with path.open("wb") as file:
        file.write(header)
        for piece in pieces(seed, data):
            file.write(piece)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()

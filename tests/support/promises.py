"""What a mount promises on every kernel, for every user and on every file system, as one short story."""

from __future__ import annotations

import mmap
from pathlib import Path

from support.bucket import Bucket
from support.headrace import Headrace

MIB = 1 << 20
SIZE = 6 * MIB + 77


def mapped(path: Path) -> bytes:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
        return view[:]


def keeps_every_promise(headrace: Headrace, bucket: Bucket) -> None:
    """Cold, complete, mapped, held over a refresh: always the right bytes, each of them fetched once."""
    old = bucket.put("m/sub/a", SIZE)
    bucket.put("m/small", 10_000)
    directory = headrace.mount(bucket.uri("m"))
    path = directory / "sub/a"
    with path.open("rb") as held, path.open("rb") as viewed, mmap.mmap(viewed.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert held.read(10) == old[:10]
        assert (path.read_bytes(), mapped(path)) == (old, old)
        headrace.wait_durable(1)
        assert (path.read_bytes(), mapped(path), view[:]) == (old, old, old)
        assert (directory / "small").read_bytes() == bucket.objects["m/small"]
        new = bucket.put("m/sub/a", SIZE - 5, seed=1)
        headrace.run("refresh", str(directory))
        assert (path.read_bytes(), mapped(path)) == (new, new)
        assert held.read() == old[10:]
    assert headrace.counters()["origin_body_bytes_total"] == len(old) + len(new) + 10_000

"""Two nodes of a region hold a volume; after its pull, tasks on both read all of it: what the server sends then.

Until there is a cache group each node pulls its own copy, so the pull itself is told too, as a multiple of the volume.
"""

from __future__ import annotations

import sys

from bench.measure import Figure, at_most
from bench.objects import BUCKET, GIB
from bench.place import Place
from bench.service.region import Region, ended, region
from bench.systems.headrace import Headrace

TITLE = "origin bytes for a second node of the region that reads the same volume"
_VOLUME = "model"
_READ = "import hashlib, sys; print(hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256').hexdigest())"


def run(place: Place) -> list[Figure]:
    wanted = place.objects.file(GIB)
    before = place.server.sent_bytes(BUCKET)
    with region(place) as here, here.node("gpu-1") as first, here.node("gpu-2") as second:
        here.register(_VOLUME, wanted.key.rpartition("/")[0])
        here.accelerate(_VOLUME)
        pulled = place.server.sent_bytes(BUCKET)
        digests, sent = [], [pulled]
        for node in (first, second):
            digests.append(_read(here, node, wanted.name))
            sent.append(place.server.sent_bytes(BUCKET))
    if digests[0] != digests[1]:
        raise RuntimeError("the nodes read different bytes")
    if digests[0] != _digest(str(wanted.native)):
        raise RuntimeError("the nodes read other bytes than were put")
    return [
        Figure("sent for the second node that reads", "bytes", (float(sent[2] - sent[1]),), at_most(0.0)),
        Figure("sent for the first node that reads", "bytes", (float(sent[1] - sent[0]),), at_most(0.0)),
        Figure("sent for the pull, by both nodes together, as a multiple of the volume", "", ((pulled - before) / wanted.size,)),
    ]


def _read(here: Region, node: Headrace, name: str) -> str:
    path = here.place.directory / "mnt-second"
    return ended(here.task(node, {_VOLUME: path}, [sys.executable, "-c", _READ, str(path / name)])).strip()


def _digest(path: str) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

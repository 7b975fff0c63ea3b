"""The cache directory as a power loss would leave it at any moment, adopted after another boot: no wrong byte.

The cache lies on a file system on a loop device whose backing file lies on an XFS. A reflink of the backing file is an
atomic image of that device at one moment: what the disk would hold if the power went away just then. Images are taken
while files are read, completed, evicted and replaced; then each is attached, its journal is replayed, and a new node
that sees another boot takes the directory over. Every byte is read through the mount and through a mapping.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Figure, at_least, at_most
from campaign.model import ways
from campaign.plan import Plan
from campaign.readers import Readers
from headrace import settings as configuration
from headrace.node.client import connect
from headrace.testing.content import content
from headrace.testing.origin import Origin, failing_origin
from support.boot import another_boot
from support.disk import attached
from support.headrace import Headrace

TITLE = "power losses at any moment"
IMAGES = 200
_ROUND = 20  # images taken before they are looked at
_WAYS = {"random": 4, "sequential": 2}
_SIZES = [0, 1, 16_384, 100_000, (1 << 20) - 1, (1 << 20) + 1, *[3 << 20] * 3, *[5_000_003] * 3, 24 << 20]
_OUTER, _INNER = 8 << 30, 512 << 20  # bytes, both sparse
_READ = 1 << 20


def run(plan: Plan) -> list[Figure]:
    found: Counter[str] = Counter()
    chance = random.Random(plan.seed)
    wanted = plan.count(IMAGES)
    with _reflinking(plan.directory) as outer, failing_origin("models", seed=plan.seed) as origin:
        data = _fill(plan, origin)
        for kind in ("ext4", "xfs"):
            missing = wanted // 2 if kind == "ext4" else wanted - wanted // 2
            while missing > 0:
                images = _taken(plan, outer, origin, chance, kind, min(_ROUND, missing))
                missing -= len(images)
                for image in images:
                    _look(plan, image, origin, data, found)
                    image.unlink()
                print(f"  {found['images']} images, {found['wrong']} wrong, {found['kept'] >> 20} MiB adopted", flush=True)
    return [
        Figure("images", "", (found["images"],), at_least(wanted)),
        Figure("files read back", "", (found["files"],)),
        Figure("bytes compared", "MB", (found["bytes"] / 1e6,)),
        Figure("bytes adopted from the images", "MB", (found["kept"] / 1e6,), at_least(1)),
        Figure("bytes fetched again", "MB", (found["fetched"] / 1e6,)),
        Figure("blocks that the power loss had damaged, found before use", "", (found["damaged"],)),
        Figure("files read back with wrong bytes", "", (found["wrong"],), at_most(0)),
        Figure("damaged blocks left for `cache verify`", "", (found["left"],), at_most(0)),
    ]


@contextmanager
def _reflinking(base: Path) -> Iterator[Path]:
    """An XFS, where a copy of a file costs nothing and is of one moment."""
    image, directory = base / "outer.img", base / "outer"
    with image.open("wb") as file:
        file.truncate(_OUTER)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", str(image)], check=True)
    with attached(image, directory):
        yield directory


def _fill(plan: Plan, origin: Origin) -> dict[str, bytes]:
    data = {f"f{number}": content(plan.seed + number, 0, size) for number, size in enumerate(_SIZES)}
    reference = plan.directory / "reference"
    reference.mkdir()
    for name, body in data.items():
        origin.bucket("models").put(f"m/{name}", body)
        (reference / name).write_bytes(body)
    return data


def _taken(plan: Plan, outer: Path, origin: Origin, chance: random.Random, kind: str, count: int) -> list[Path]:
    """Images of a cache at work."""
    backing = outer / "backing.img"
    backing.unlink(missing_ok=True)
    with backing.open("wb") as file:
        file.truncate(_INNER)
    subprocess.run([f"mkfs.{kind}", "-q", *(["-e", "remount-ro"] if kind == "ext4" else []), str(backing)], check=True)
    images = []
    with attached(backing, plan.directory / "disk"), _headrace(plan.directory / "at-work", plan.directory / "disk", origin) as headrace:
        mount = headrace.mount("s3://models/m")
        with Readers(mount, plan.directory / "reference", _WAYS, plan.seed) as readers, _evicting(headrace, chance.random()):
            for number in range(count):
                time.sleep(chance.uniform(0.02, 0.6))  # the moment is what is tried
                images.append(outer / f"image-{number}.img")
                subprocess.run(["cp", "--reflink=always", str(backing), str(images[-1])], check=True)
            assert readers.finish(60).wrong == []
    return images


@contextmanager
def _headrace(base: Path, disk: Path, origin: Origin) -> Iterator[Headrace]:
    base.mkdir()
    headrace = Headrace(base, origin.access.environment())
    headrace.environment |= {"HEADRACE_CACHE_DIR": f"{disk}/cache", "HEADRACE_CACHE_SIZE": "200Mi"}
    try:
        yield headrace
    finally:
        headrace.stop()
        shutil.rmtree(base)


@contextmanager
def _evicting(headrace: Headrace, seed: float) -> Iterator[None]:
    """Drops now one file, now all: in between they become complete."""
    stop = threading.Event()
    chance = random.Random(seed)
    settings = configuration.load(environ=headrace.environment)
    mount = headrace.base / "mnt"

    def evict() -> None:
        while not stop.wait(chance.uniform(0.05, 0.8)):
            client = connect(settings)
            assert client is not None
            with client:
                some = [str(mount / f"f{chance.randrange(len(_SIZES))}") for _ in range(3)]
                client.call("cache.evict", paths=some, all=chance.random() < 0.2)

    thread = threading.Thread(target=evict)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _look(plan: Plan, image: Path, origin: Origin, data: dict[str, bytes], found: Counter[str]) -> None:
    """What a node makes of an image after another boot."""
    disk = plan.directory / "lost-power"
    with attached(image, disk), another_boot(), _headrace(plan.directory / "after", disk, origin) as headrace:
        mount = headrace.mount("s3://models/m")
        before = headrace.counters()
        found["images"] += 1
        for name, expected in data.items():
            found["files"] += 1
            found["wrong"] += _differs(mount / name, expected)
            found["bytes"] += 2 * len(expected)
        after = headrace.counters()
        fetched = int(after["origin_body_bytes_total"] - before["origin_body_bytes_total"])
        found["fetched"] += fetched
        found["kept"] += sum(map(len, data.values())) - fetched
        found["damaged"] += int(after["cache_digest_failures_total"])
        found["left"] += headrace.verify()["bad_blocks"]


def _differs(path: Path, expected: bytes) -> bool:
    with path.open("rb", buffering=0) as file:
        read = b"".join(iter(lambda: file.read(_READ), b""))
        return read != expected or ways.mapped(file.fileno(), 0, len(expected)) != expected

"""What is read: objects on the server, and native files with the same bytes.

They are made when they are first asked for, and shared by the scenarios of a run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import models, raw
from bench.plan import Plan
from bench.seats import Route
from headrace.testing.access import Access
from headrace.testing.content import write_file

BUCKET = "bench"
GIB = 1 << 30
MIB = 1 << 20
_UPLOADS = 16  # at once
_IN_A_DIRECTORY = 100


@dataclass(frozen=True)
class Object:
    """An object on the server: the bytes of content `seed`, or a model. `native` is a file with the same bytes."""

    key: str
    size: int
    seed: int
    native: Path

    @property
    def source(self) -> str:
        """What to mount."""
        return f"s3://{BUCKET}/{self.key.rpartition('/')[0]}"

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]


@dataclass(frozen=True)
class Tree:
    """Many objects below one prefix, and their signed addresses at the server itself."""

    prefix: str
    objects: tuple[Object, ...]
    signed: tuple[str, ...]

    @property
    def source(self) -> str:
        return f"s3://{BUCKET}/{self.prefix}"

    @property
    def size(self) -> int:
        return sum(each.size for each in self.objects)

    def __add__(self, other: Tree) -> Tree:
        """Both, below the prefix that they share."""
        prefix = os.path.commonpath([self.prefix, other.prefix])
        return Tree(prefix, self.objects + other.objects, self.signed + other.signed)

    def path(self, below: Path, wanted: Object) -> Path:
        """Of an object, with the tree mounted on `below`."""
        return below / wanted.key.removeprefix(f"{self.prefix}/")


class Objects:
    """Native files lie below `native`, in the tree that their keys make."""

    def __init__(self, native: Path, plan: Plan, seed: int, server: Callable[[], Access]) -> None:
        self.native = native
        self._plan = plan
        self._seed = seed
        self._server = server
        self._objects: dict[str, Object] = {}
        self._trees: dict[str, Tree] = {}

    def file(self, full_size: int) -> Object:
        """An object of this size (less in a quick run), with a native file beside it."""
        size = self._plan.size(full_size)
        return self._object(f"{size >> 20}-mib/weights.bin", size, self._seed)

    def tree(self, prefix: str, count: int, size: int) -> Tree:
        """Objects of one size below a prefix, a hundred in a directory, each with contents of its own."""
        if prefix not in self._trees:
            keys = [f"{prefix}/{number // _IN_A_DIRECTORY:03}/{number:06}.bin" for number in range(count)]
            with ThreadPoolExecutor(_UPLOADS) as uploads:
                made = list(uploads.map(lambda each: self._object(each[1], size, self._seed + each[0]), enumerate(keys)))
            self._trees[prefix] = Tree(prefix, tuple(made), tuple(raw.addresses(Route(self._server()), BUCKET, keys)))
        return self._trees[prefix]

    def model(self, name: str, full_size: int, shards: int = 1) -> Tree:
        """A model in safetensors, or in GGUF where the name ends in .gguf, of about this size in all (less in a quick run)."""
        if name not in self._trees:
            size = self._plan.size(full_size) // shards
            write = models.write_gguf if name.endswith(".gguf") else models.write_safetensors
            ending = "gguf" if name.endswith(".gguf") else "safetensors"
            keys = [f"{name}/model-{shard + 1:05}-of-{shards:05}.{ending}" for shard in range(shards)]
            made = [self._object(key, size, self._seed + number, write) for number, key in enumerate(keys)]
            self._trees[name] = Tree(name, tuple(made), tuple(raw.addresses(Route(self._server()), BUCKET, keys)))
        return self._trees[name]

    def _object(self, key: str, size: int, seed: int, write: Callable[[Path, int, int], None] = write_file) -> Object:
        if key not in self._objects:
            native = self.native / key
            native.parent.mkdir(parents=True, exist_ok=True)
            write(native, seed, size)
            with native.open("rb") as body:
                self._client.put_object(Bucket=BUCKET, Key=key, Body=body)
            self._objects[key] = Object(key, native.stat().st_size, seed, native)
        return self._objects[key]

    @cached_property
    def _client(self) -> Any:
        return self._server().client()

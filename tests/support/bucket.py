"""A bucket of a test's own, and content that can be checked at any place."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from headrace.testing.access import Access


class Bucket:
    """Puts objects and remembers their bytes."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name
        self.objects: dict[str, bytes] = {}

    @classmethod
    def create(cls, server: Access, test: str) -> Bucket:
        name = "t-" + hashlib.blake2b(test.encode(), digest_size=8).hexdigest()
        server.create_bucket(name)
        return cls(server.client(), name)

    def put(self, key: str, size_or_bytes: int | bytes, seed: int = 0) -> bytes:
        data = size_or_bytes if isinstance(size_or_bytes, bytes) else random.Random(f"{key}{seed}").randbytes(size_or_bytes)
        self.client.put_object(Bucket=self.name, Key=key, Body=data)
        self.objects[key] = data
        return data

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)
        self.objects.pop(key, None)

    def uri(self, prefix: str = "") -> str:
        return f"s3://{self.name}/{prefix}".rstrip("/")

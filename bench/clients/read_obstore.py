"""Reads an object with obstore; see the package. Runs in the peers' environment."""

import asyncio
import os
import sys
import time

from obstore import Bytes
from obstore.store import S3Store

PART = 8 << 20
IN_FLIGHT = 8


async def read(store: S3Store, key: str, size: int) -> int:
    """Everything is in memory at the end."""
    offsets = iter(range(0, size, PART))
    held: list[Bytes] = []

    async def work() -> None:
        for offset in offsets:
            held.append(await store.get_range_async(key, start=offset, length=min(PART, size - offset)))  # noqa: PERF401

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return sum(map(len, held))


def main() -> None:
    bucket, key, size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    store = S3Store(
        bucket,
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region=os.environ["AWS_REGION"],
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    began = time.monotonic()
    got = asyncio.run(read(store, key, size))
    seconds = time.monotonic() - began
    if got != size:
        sys.exit(f"{got} of {size} bytes")
    print(seconds)


if __name__ == "__main__":
    main()

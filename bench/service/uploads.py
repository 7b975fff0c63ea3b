"""Very many small objects, quickly: signed addresses and connections that stay, from a few processes."""

from __future__ import annotations

import http.client
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from urllib.parse import urlsplit

from headrace.testing.access import Access

_PROCESSES = 4
_SIGNED_SECONDS = 3600


def put_many(access: Access, bucket: str, keys: Sequence[str], body: bytes) -> None:
    """Puts the same body under each key."""
    with ProcessPoolExecutor(_PROCESSES, multiprocessing.get_context("spawn")) as processes:
        shares = [(access, bucket, list(keys[number::_PROCESSES]), body) for number in range(_PROCESSES)]
        list(processes.map(_put_share, shares))


def _put_share(share: tuple[Access, str, list[str], bytes]) -> None:
    access, bucket, keys, body = share
    client, place = access.client(), urlsplit(access.endpoint)
    connection = http.client.HTTPConnection(place.hostname or "", place.port)
    for key in keys:
        address = urlsplit(client.generate_presigned_url("put_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=_SIGNED_SECONDS))
        connection.request("PUT", f"{address.path}?{address.query}", body)
        answer = connection.getresponse()
        answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{key} was not put: {answer.status}")
    connection.close()

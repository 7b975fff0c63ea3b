"""Signed S3 requests of a connection check: few, small, bounded in time and size, and only to addresses that may be asked.

botocore signs; httpcore speaks HTTP through a backend that resolves a name, holds what it got against the rules, and connects to
that very address. Redirects are followed here, and only to hosts of the same provider.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import ssl
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

import httpcore
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Keys

from headrace.checking.addresses import AddressRules
from headrace.checking.origin import Credentials, Origin, is_host
from headrace.printable import printable

_SECONDS = 10.0
# The resolver of the system blocks: names are asked for by threads of their own, so that slow ones hold up nothing else.
_RESOLVERS = ThreadPoolExecutor(8, thread_name_prefix="resolve")
# A page of a listing with long names is below that.
_BODY_MAX = 2 * 2**20
_REDIRECTS_MAX = 3
_SHOWN_MAX = 100
_UNRESERVED = "-._~"


class AddressDenied(Exception):
    """The endpoint's name leads to addresses that may not be asked."""

    def __init__(self, host: str, address: str) -> None:
        super().__init__(f"{host} is at {address}")
        self.host, self.address = host, address


class RedirectedAway(Exception):
    """The server sent us to a host that is not the provider's."""

    def __init__(self, host: str) -> None:
        super().__init__(host)
        self.host = host


class AnswerTooLarge(Exception):
    """A server sent more than any answer to these requests has."""


@dataclass(frozen=True)
class Answer:
    """Status, headers in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def element(self, name: str) -> str | None:
        """The text of the first element of this name in an XML body; None where there is none, or no XML."""
        return next(iter(self.elements(name)), None)

    def elements(self, name: str) -> list[str]:
        root = self.xml()
        return [] if root is None else [node.text or "" for node in root.iter() if _local(node) == name]

    def objects(self) -> list[dict[str, str]]:
        """What a listing holds: `Key`, `ETag`, `Size`, `StorageClass`."""
        root = self.xml()
        rows = [] if root is None else [node for node in root.iter() if _local(node) == "Contents"]
        return [{_local(part): part.text or "" for part in row} for row in rows]

    def xml(self) -> ElementTree.Element | None:
        try:
            # The body is at most 2 MiB, and expat bounds what entities may grow to.
            return ElementTree.fromstring(self.body)  # noqa: S314
        except (ElementTree.ParseError, ValueError, LookupError):  # LookupError: an encoding that nobody knows
            return None


def _local(node: ElementTree.Element) -> str:
    return node.tag.rpartition("}")[2]


class Probe:
    """One origin, asked with these credentials. Use with `async with`."""

    def __init__(self, origin: Origin, credentials: Credentials, rules: AddressRules) -> None:
        self._origin = origin
        self._signer = None if credentials.anonymous else _signer(origin, credentials)
        self._pool = httpcore.AsyncConnectionPool(ssl_context=_trusted(), max_connections=2, network_backend=_Checked(rules))

    async def __aenter__(self) -> Probe:
        await self._pool.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._pool.aclose()

    async def ask(
        self, method: str, key: str = "", query: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Answer:
        """One request. Raises what httpcore raises, AddressDenied, RedirectedAway or AnswerTooLarge."""
        url = self._url(key, query or {})
        for _ in range(_REDIRECTS_MAX):
            answer = await self._send(method, url, headers or {}, body)
            moved = self._moved(url, answer)
            if moved is None:
                return answer
            url = moved
        return answer

    def _url(self, key: str, query: Mapping[str, str]) -> str:
        parts = urlsplit(self._origin.endpoint)
        path = "/" + quote(key, safe="/" + _UNRESERVED)
        if self._origin.addressing == "path":
            path = f"/{self._origin.bucket}{path}"
        text = "&".join(f"{quote(name, safe=_UNRESERVED)}={quote(value, safe=_UNRESERVED)}" for name, value in sorted(query.items()))
        return f"{parts.scheme}://{self._origin.host}{path}{'?' + text if text else ''}"

    async def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        request = AWSRequest(method=method, url=url, headers=dict(headers), data=body)
        if self._signer is not None:
            self._signer.add_auth(request)
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), _SECONDS)
        sent = {name: str(value) for name, value in request.headers.items()}
        async with (
            asyncio.timeout(2 * _SECONDS),
            self._pool.stream(method, url, headers=sent, content=body, extensions={"timeout": timeouts}) as answer,
        ):
            parts, length = [], 0
            async for part in answer.aiter_stream():
                parts.append(part)
                length += len(part)
                if length > _BODY_MAX:
                    raise AnswerTooLarge(url)
        received = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
        return Answer(answer.status, received, b"".join(parts))

    def _moved(self, url: str, answer: Answer) -> str | None:
        """Where a temporary redirect leads; a permanent one is a wrong endpoint, which the check tells."""
        location = answer.headers.get("location", "")
        if answer.status not in (302, 303, 307) or not location:
            return None
        here = urlsplit(url)
        try:
            there = urlsplit(location)
            same = (there.hostname, there.port) == (here.hostname, here.port)
        except ValueError:  # no URL at all
            raise RedirectedAway(printable(location, _SHOWN_MAX)) from None
        host = there.hostname or ""
        inside = bool(self._origin.provider.domains) and self._origin.provider.owns(host)
        if there.scheme != here.scheme or not (same or inside) or "@" in there.netloc or not is_host(host) or not location.isascii():
            raise RedirectedAway(printable(host or location, _SHOWN_MAX))
        return location


# At the level DEBUG botocore's signer writes what it signs, a session token among it.
logging.getLogger("botocore.auth").setLevel(logging.INFO)


def _signer(origin: Origin, credentials: Credentials) -> Any:
    return S3SigV4Auth(Keys(credentials.access_key, credentials.secret_key, credentials.session_token or None), "s3", origin.region)


@functools.lru_cache(1)
def _trusted() -> ssl.SSLContext:
    """Read from the disk once: it takes milliseconds in which nobody else is served."""
    return ssl.create_default_context()


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects to addresses that the rules permit, and to no other."""

    def __init__(self, rules: AddressRules) -> None:
        self._rules = rules
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolved(host, port)
        permitted = [address for address in addresses if self._rules.permits(address)]
        if not permitted:
            raise AddressDenied(host, addresses[0])
        for address in permitted[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(permitted[-1], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


async def _resolved(host: str, port: int) -> list[str]:
    try:
        asked = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        async with asyncio.timeout(_SECONDS):
            found = await asyncio.get_running_loop().run_in_executor(_RESOLVERS, asked)
    except TimeoutError as error:
        raise NameUnknown(host, "no answer in time") from error
    except (OSError, UnicodeError) as error:  # UnicodeError: a label that no name has
        raise NameUnknown(host, str(error)) from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class NameUnknown(Exception):
    """The endpoint's name has no address."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host}: {reason}")
        self.host = host

"""The connection check: what a bucket must let us do, tried for real, before a volume is stored.

In this order, ending at the first thing nothing else makes sense without: the directory is listed; one byte of an object is read
with a range and a right If-Match, and refused with a wrong one; unless registered read-only, a small object is written, read back
and removed. An endpoint that ignores If-Match is accepted with a note, since each answer's ETag is compared anyway.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpcore

from headrace.checking import refusals
from headrace.checking.addresses import AddressRules
from headrace.checking.findings import Finding
from headrace.checking.origin import Credentials, Origin
from headrace.checking.probe import AddressDenied, Answer, AnswerTooLarge, NameUnknown, Probe, RedirectedAway
from headrace.printable import printable

log = logging.getLogger("headrace.checking")

# Keys that listings leave out: what a check wrote, should it have been killed before it could remove it.
CHECK_NAME = ".headrace-check-"
_SECONDS_MAX = 60
_REASON_MAX = 200
_TIDY_SECONDS = 10
_LISTED = "50"
_SAMPLES_MAX = 5
# Of a number of 64 bits.
_SIZE_DIGITS_MAX = 19
_NO_ETAG = '"00000000000000000000000000000000"'
_ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE", "Archive", "ColdArchive", "DeepColdArchive", "ARCHIVE"})


class _Ended(Exception):
    """Nothing more can be tried."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.code)
        self.finding = finding


@dataclass(frozen=True)
class Sample:
    """An object to read from."""

    key: str
    etag: str
    size: int


async def check(origin: Origin, credentials: Credentials, rules: AddressRules, *, read_only: bool, seconds: float = _SECONDS_MAX) -> list[Finding]:
    """What is wrong with this origin, or worth knowing. Within these seconds and a few more, whatever the server does."""
    found: list[Finding] = []
    try:
        async with Probe(origin, credentials, rules) as probe:
            one = _Check(probe, origin, found, read_only=read_only)
            try:
                async with asyncio.timeout(seconds):
                    await one.run()
            finally:
                await one.tidy_up()
    except _Ended as end:
        found.append(end.finding)
    except Exception as error:
        found.append(unreachable(origin, error))
    return found


class _Check:
    """The steps; what each finds goes into `found`."""

    def __init__(self, probe: Probe, origin: Origin, found: list[Finding], *, read_only: bool) -> None:
        self._probe, self._origin, self._found, self._read_only = probe, origin, found, read_only
        # What was written, or may have been: its key, and its version once the server named it.
        self._written: tuple[str, str] | None = None

    async def run(self) -> None:
        listed = await self._list()
        objects = [entry for entry in listed.objects() if CHECK_NAME not in entry.get("Key", "")]
        if not objects:
            self._found.append(refusals.EMPTY_DIRECTORY)
        if any(not entry.get("ETag") for entry in objects):
            raise _Ended(refusals.NO_ETAG)
        untried = not await self._read_one_of(_samples(objects))
        await self._write(untried=untried)

    async def _list(self) -> Answer:
        answer = await self._probe.ask("GET", query={"list-type": "2", "max-keys": _LISTED, "prefix": self._origin.prefix})
        if answer.status != 200:
            raise _Ended(refusals.of_listing(self._origin, answer))
        root = answer.xml()
        if root is None or not root.tag.endswith("ListBucketResult"):
            raise _Ended(refusals.NOT_S3)
        told = answer.headers.get("x-amz-bucket-region")
        if told and told != self._origin.region:
            raise _Ended(refusals.region_is(told, self._origin.region))
        return answer

    async def _read_one_of(self, samples: Sequence[Sample]) -> bool:
        """Whether any of them could be read; those that somebody removed meanwhile are passed over."""
        for sample in samples[:_SAMPLES_MAX]:
            if await self._read(sample):
                return True
        return False

    async def _read(self, sample: Sample) -> bool:
        """Reads a byte of an object, with the right If-Match and with a wrong one. False where it is gone."""
        answer = await self._probe.ask("GET", sample.key, headers={"range": "bytes=0-0", "if-match": sample.etag})
        if answer.status == 404:
            return False
        if answer.status in (401, 403):
            raise _Ended(refusals.unreadable(sample.key))
        if answer.status == 412:
            raise _Ended(refusals.changed_meanwhile(sample.key))
        if answer.status != 206 or answer.headers.get("content-range") != f"bytes 0-0/{sample.size}" or len(answer.body) != 1:
            raise _Ended(refusals.no_ranges(answer.status))
        told = answer.headers.get("etag")
        if not told:
            raise _Ended(refusals.NO_ETAG)
        if _quoted(told) != sample.etag:
            raise _Ended(refusals.other_etag(sample.key))
        refused = await self._probe.ask("GET", sample.key, headers={"range": "bytes=0-0", "if-match": _NO_ETAG})
        if refused.status != 412:
            self._found.append(refusals.IF_MATCH_IGNORED)
        return True

    async def _write(self, *, untried: bool) -> None:
        if self._read_only:
            self._found.append(refusals.READ_ONLY)
            return
        lock = await self._probe.ask("GET", query={"object-lock": ""})
        if lock.status == 200 and lock.element("ObjectLockEnabled") == "Enabled":
            self._found.append(refusals.OBJECT_LOCK)
            return
        key, body = f"{self._origin.prefix}{CHECK_NAME}{secrets.token_hex(8)}", secrets.token_hex(16).encode()
        # Before it is sent: it may be kept although its answer never comes.
        self._written = key, ""
        written = await self._probe.ask("PUT", key, body=body)
        if written.status not in (200, 201, 204):
            self._written = None if written.status < 500 else self._written
            raise _Ended(refusals.unwritable(self._origin, written))
        self._written = key, written.headers.get("x-amz-version-id", "")
        back = await self._probe.ask("GET", key)
        if back.status != 200 or back.body != body:
            self._found.append(refusals.wrong_read_back(back.status))
        elif not back.headers.get("etag"):
            self._found.append(refusals.NO_ETAG)
        elif untried:
            await self._read(Sample(key, _quoted(back.headers["etag"]), len(body)))

    async def tidy_up(self) -> None:
        """Removes what was written, in seconds of its own; what is not known to be gone is told, with its key."""
        if self._written is None:
            return
        key, version = self._written
        try:
            async with asyncio.timeout(_TIDY_SECONDS):
                removed = await self._probe.ask("DELETE", key, query={"versionId": version} if version and version != "null" else {})
        except Exception as error:
            log.warning("%s was not removed from %s: %s", key, self._origin.bucket, printable(str(error) or type(error).__name__, 200))
            self._found.append(refusals.left_behind(key, None))
            return
        if removed.status not in (200, 204, 404):
            self._found.append(refusals.left_behind(key, removed.status))


def _samples(objects: Sequence[Mapping[str, str]]) -> list[Sample]:
    """Objects with bytes that can be read at once."""
    found = []
    for entry in objects:
        size = entry.get("Size", "")
        if size.isascii() and size.isdigit() and len(size) <= _SIZE_DIGITS_MAX and int(size) > 0 and entry.get("StorageClass") not in _ARCHIVED:
            found.append(Sample(entry.get("Key", ""), _quoted(entry.get("ETag", "")), int(size)))
    return found


def _quoted(etag: str) -> str:
    """An ETag in quotes: some listings leave them out. Raises for one that no header can have."""
    if not etag.isascii() or not etag.isprintable():
        raise _Ended(refusals.NOT_S3)
    return etag if etag.startswith(('"', "W/")) else f'"{etag}"'


def unreachable(origin: Origin, error: Exception) -> Finding:
    """What a request that got no answer says of the endpoint. An error that is not of the network is raised again."""
    host = origin.host
    if isinstance(error, NameUnknown):
        return refusals.endpoint(
            "unknown-host",
            f"{error.host} has no address",
            f"{error.host} 无法解析",
            "correct the endpoint or the region, or check from a region that knows the name (check_region)",
            "请更正接入点或地域，或从能解析该名称的地域校验（check_region）",
        )
    if isinstance(error, AddressDenied):
        return refusals.endpoint(
            "address-denied",
            f"{error.host} is at {error.address}, where a check may not connect to",
            f"{error.host} 位于 {error.address}，连接校验不允许连接该地址",
            "give another endpoint, or have an administrator allow its network: control_origins_allow (HEADRACE_CONTROL_ORIGINS_ALLOW)",
            "请更换接入点，或请管理员放行其网段：control_origins_allow（HEADRACE_CONTROL_ORIGINS_ALLOW）",
        )
    if isinstance(error, RedirectedAway):
        return refusals.endpoint(
            "redirected-away",
            f"the server redirects to {error.host}, which is not the provider's",
            f"服务器重定向到 {error.host}，不属于该服务商",
            "give the endpoint the bucket is really at",
            "请填写存储桶实际所在的接入点",
        )
    reason = printable(str(error), _REASON_MAX)
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError) or "certificate" in str(error).lower():
        return refusals.endpoint(
            "tls",
            f"no TLS connection to {host}: {reason}",
            f"无法与 {host} 建立 TLS 连接：{reason}",
            "correct the endpoint or its certificate",
            "请更正接入点或其证书",
        )
    if isinstance(error, AnswerTooLarge):
        return refusals.NOT_S3
    if isinstance(error, (TimeoutError, httpcore.TimeoutException)):
        return refusals.endpoint("timeout", f"{host} does not answer in time", f"{host} 未在规定时间内响应", *refusals.OPEN_THE_WAY)
    if isinstance(error, (OSError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol)):
        return refusals.endpoint("unreachable", f"{host} cannot be reached: {reason}", f"无法连接 {host}：{reason}", *refusals.OPEN_THE_WAY)
    if isinstance(error, (ValueError, LookupError)):
        # What came could not be understood at all. It is in the log, for the fault may be here.
        log.warning("an answer of %s: %s", host, reason, exc_info=error)
        return refusals.NOT_S3
    raise error

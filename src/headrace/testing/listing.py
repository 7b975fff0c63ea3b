"""ListObjectsV2 and ListObjectVersions over flat keys: byte order, pages, common prefixes, url-encoded keys.

A delimiter's group is passed over in one step, so that listing the top of a bucket with a million keys is quick.
"""

from __future__ import annotations

import base64
import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

from headrace.testing.faults import Fault
from headrace.testing.store import Bucket, Version

_PAGE_MAX = 1000
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True)
class _Row:
    """An object, a version of one, or a group of keys (then `version` is None)."""

    name: str
    version: Version | None = None
    latest: bool = True


@dataclass(frozen=True)
class Question:
    """What a listing asks for."""

    prefix: str = ""
    delimiter: str = ""
    after: str = ""  # the last key or group of the page before
    after_version: str = ""
    count: int = _PAGE_MAX
    encoded: bool = False
    versions: bool = False

    @classmethod
    def parse(cls, query: dict[str, str]) -> Question:
        """From the query of a request. ValueError for a token or a number that is none."""
        versions = "versions" in query
        token = query.get("continuation-token", "")
        after = base64.b64decode(token, altchars=b"-_", validate=True).decode() if token else query.get("start-after", "")
        return cls(
            prefix=query.get("prefix", ""),
            delimiter=query.get("delimiter", ""),
            after=query.get("key-marker", "") if versions else after,
            after_version=query.get("version-id-marker", ""),
            count=max(0, min(int(query.get("max-keys") or _PAGE_MAX), _PAGE_MAX)),
            encoded=query.get("encoding-type") == "url",
            versions=versions,
        )

    def text(self, name: str) -> str:
        """A key as it goes into the answer; S3 encodes as forms do, and leaves slashes."""
        return quote_plus(name, safe="/") if self.encoded else _xml(name)


def page(name: str, bucket: Bucket, question: Question, fault: Fault | None = None) -> bytes:
    """One page as XML; right, or with one of the faults that only listings have."""
    rows = list(islice(_rows(bucket, question), question.count + 1)) if question.count else []
    truncated = len(rows) > question.count or (fault is not None and bool(rows))
    rows = rows[: question.count]
    root = "ListVersionsResult" if question.versions else "ListBucketResult"
    parts = [
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{NAMESPACE}"><Name>{_xml(name)}</Name>',
        f"<Prefix>{question.text(question.prefix)}</Prefix><MaxKeys>{question.count}</MaxKeys>",
        f"<IsTruncated>{str(truncated).lower()}</IsTruncated>",
    ]
    if question.delimiter:
        parts.append(f"<Delimiter>{question.text(question.delimiter)}</Delimiter>")
    if question.encoded:
        parts.append("<EncodingType>url</EncodingType>")
    if not question.versions:
        parts.append(f"<KeyCount>{len(rows)}</KeyCount>")
    if truncated and fault is not Fault.MISSING_TOKEN:
        parts += _next(question, rows[-1], itself=fault is Fault.REPEATED_TOKEN and question.after != "")
    # Keys come before groups; versions and delete markers come mixed, newest first.
    parts += [_item(question, row) for row in sorted(rows, key=lambda row: row.version is None)]
    parts.append(f"</{root}>")
    text = "".join(parts).encode()
    return text[: len(text) // 2] if fault is Fault.CUT_LISTING else text


def when(seconds: float) -> str:
    """A time as S3 writes it into XML."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _next(question: Question, last: _Row, *, itself: bool) -> list[str]:
    """What leads to the next page, or back to this one."""
    name = question.after if itself else last.name
    if not question.versions:
        return [f"<NextContinuationToken>{base64.urlsafe_b64encode(name.encode()).decode()}</NextContinuationToken>"]
    version = question.after_version if itself else last.version.version if last.version else ""
    marker = f"<NextVersionIdMarker>{version}</NextVersionIdMarker>" if version else ""
    return [f"<NextKeyMarker>{question.text(name)}</NextKeyMarker>{marker}"]


def _rows(bucket: Bucket, question: Question) -> Iterator[_Row]:
    """What follows `after`, in byte order."""
    keys = bucket.keys()
    prefix, delimiter = question.prefix, question.delimiter
    index = max(bisect.bisect_left(keys, prefix), bisect.bisect_left(keys, question.after))
    while index < len(keys) and keys[index].startswith(prefix):
        key = keys[index]
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut >= 0:
            group = key[: cut + len(delimiter)]
            index = bisect.bisect_left(keys, group[:-1] + chr(ord(group[-1]) + 1))
            live = question.versions or any(not bucket.versions(k)[0].deleted for k in keys[bisect.bisect_left(keys, group) : index])
            if group > question.after and live:
                yield _Row(group)
            continue
        index += 1
        yield from _versions(bucket, question, key)


def _versions(bucket: Bucket, question: Question, key: str) -> Iterator[_Row]:
    held = bucket.versions(key)
    if not question.versions:
        if held and not held[0].deleted and key > question.after:
            yield _Row(key, held[0])
        return
    passed = key != question.after
    if not passed and not question.after_version:
        return
    for version in held:
        if passed:
            yield _Row(key, version, version is held[0])
        passed = passed or version.version == question.after_version


def _item(question: Question, row: _Row) -> str:
    version = row.version
    if version is None:
        return f"<CommonPrefixes><Prefix>{question.text(row.name)}</Prefix></CommonPrefixes>"
    name = f"<Key>{question.text(row.name)}</Key><LastModified>{when(version.modified)}</LastModified>"
    if question.versions:
        name += f"<VersionId>{version.version}</VersionId><IsLatest>{str(row.latest).lower()}</IsLatest>"
    if version.deleted:
        return f"<DeleteMarker>{name}</DeleteMarker>"
    about = f"<ETag>{escape(version.etag, {chr(34): '&quot;'})}</ETag><Size>{version.body.size}</Size>"
    about += f"<StorageClass>{version.storage_class}</StorageClass>"
    return f"<Version>{name}{about}</Version>" if question.versions else f"<Contents>{name}{about}</Contents>"


def _xml(text: str) -> str:
    """XML 1.0 can't hold most control characters; S3 writes references to them all the same."""
    return "".join(f"&#x{ord(c):x};" if ord(c) < 32 else c for c in escape(text))

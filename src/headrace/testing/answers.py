"""What the test origin answers: S3's operations, and the faults on their way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from headrace.testing.faults import Fault, Given
from headrace.testing.listing import NAMESPACE, Question, page, when
from headrace.testing.signatures import Refused
from headrace.testing.store import Body, Bucket, Version
from headrace.testing.wire import Connection, Pace, Request

if TYPE_CHECKING:
    from headrace.testing.origin import Origin

_HELD_SECONDS = 0.01  # between two looks whether answers are still held back
_ARCHIVED = ("GLACIER", "DEEP_ARCHIVE")
_INVERTED = bytes(range(255, -1, -1))
_REFUSALS = {
    Fault.SLOW_DOWN: (503, "SlowDown", "Please reduce your request rate."),
    Fault.TOO_MANY: (429, "TooManyRequests", "Please reduce your request rate."),
    Fault.INTERNAL: (500, "InternalError", "We encountered an internal error. Please try again."),
}


class Answers:
    """Answers the requests of one connection."""

    def __init__(self, origin: Origin, connection: Connection) -> None:
        self.origin = origin
        self.connection = connection

    def answer(self, request: Request) -> bool:
        """Answers a request; False when the connection has to end after it."""
        kind = _kind(request)
        self.origin.count(kind)
        while kind in ("range", "get") and self.origin.held.is_set():
            self.connection.pause(_HELD_SECONDS)
        given = self.origin.faults.choose(kind, request.key, _place(request))
        try:
            if given is not None and not self._before(given):
                return given.fault in _REFUSALS
            if self.origin.signatures is not None:
                self.origin.signatures.check(request)
            if request.key:
                return self._object(request, given)
            if request.bucket:
                return self._bucket(request, given)
            return self._buckets(request)
        except Refused as refused:
            self.refuse(refused.status, refused.code, refused.message, refused.elements, head=request.method == "HEAD")
            return True

    def refuse(self, status: int, code: str, message: str, elements: Mapping[str, str] | None = None, *, head: bool = False) -> None:
        """Sends an error as S3 does."""
        more = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in (elements or {}).items())
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{escape(message)}</Message>{more}</Error>'
        headers = {"Content-Type": "application/xml", "Date": formatdate(usegmt=True)}
        if status in (429, 503) and self.origin.faults.retry_after is not None:
            headers["Retry-After"] = str(self.origin.faults.retry_after)
        self._send(status, headers, text.encode(), head=head)

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"", *, head: bool = False) -> None:
        self.connection.answer(status, headers | {"Content-Length": str(len(body))}, b"" if head else body)

    def _before(self, given: Given) -> bool:
        """Faults before the first byte; True when the answer goes on."""
        if given.fault is Fault.RESET_BEFORE:
            self.connection.reset()
            return False
        if given.fault in _REFUSALS:
            self.refuse(*_REFUSALS[given.fault])
            return False
        if given.fault is Fault.SLOW_FIRST_BYTE:
            self.connection.pause(self.origin.faults.late)
        return True

    def _buckets(self, request: Request) -> bool:
        if request.method != "GET":
            raise Refused(405, "MethodNotAllowed", "The specified method is not allowed against this resource.")
        names = "".join(f"<Bucket><Name>{n}</Name><CreationDate>{when(0)}</CreationDate></Bucket>" for n in sorted(self.origin.buckets))
        text = f'<ListAllMyBucketsResult xmlns="{NAMESPACE}"><Buckets>{names}</Buckets></ListAllMyBucketsResult>'
        self._send(200, {"Content-Type": "application/xml"}, text.encode())
        return True

    def _bucket(self, request: Request, given: Given | None) -> bool:
        name, query = request.bucket, request.query
        if request.method == "PUT" and not query:
            self.origin.bucket(name)
            self._send(200, {"Location": f"/{name}"})
            return True
        bucket = self._held(name)
        if request.method == "HEAD":
            self._send(200, {"x-amz-bucket-region": self.origin.access.region})
        elif request.method == "PUT" and "versioning" in query:
            status = re.search(rb"<Status>(Enabled|Suspended)</Status>", request.body)
            if status is None:
                raise Refused(400, "MalformedXML", "Status is neither Enabled nor Suspended.")
            bucket.versioning = status[1].decode()
            self._send(200, {})
        elif request.method == "GET" and "versioning" in query:
            status_text = f"<Status>{bucket.versioning}</Status>" if bucket.versioning else ""
            text = f'<VersioningConfiguration xmlns="{NAMESPACE}">{status_text}</VersioningConfiguration>'
            self._send(200, {"Content-Type": "application/xml"}, text.encode())
        elif request.method == "GET" and "location" in query:
            text = f'<LocationConstraint xmlns="{NAMESPACE}">{self.origin.access.region}</LocationConstraint>'
            self._send(200, {"Content-Type": "application/xml"}, text.encode())
        elif request.method == "GET" and (query.get("list-type") == "2" or "versions" in query):
            return self._list(name, bucket, request, given)
        else:
            raise Refused(501, "NotImplemented", "The test origin does not have this operation.")
        return True

    def _list(self, name: str, bucket: Bucket, request: Request, given: Given | None) -> bool:
        try:
            question = Question.parse(request.query)
        except ValueError:
            raise Refused(400, "InvalidArgument", "The continuation token or max-keys is wrong.") from None
        body = page(name, bucket, question, given.fault if given else None)
        headers = {"Content-Type": "application/xml", "Content-Length": str(len(body))}
        return self._stream(200, headers, Body(len(body), data=body), 0, len(body), given, count=False)

    def _object(self, request: Request, given: Given | None) -> bool:
        bucket = self._held(request.bucket)
        if request.method in ("GET", "HEAD"):
            return self._get(request, bucket, given)
        if request.method == "PUT" and "x-amz-copy-source" not in request.headers and not request.query:
            encoding = ",".join(e for e in request.headers.get("content-encoding", "").replace(" ", "").split(",") if e not in ("", "aws-chunked"))
            storage_class = request.headers.get("x-amz-storage-class", "STANDARD")
            stored = bucket.put(request.key, request.body, storage_class=storage_class, content_encoding=encoding or None)
            self._send(200, {"ETag": stored.etag, **_version_header(bucket, stored)})
        elif request.method == "DELETE" and set(request.query) <= {"versionId"}:
            marker = bucket.delete(request.key, request.query.get("versionId"))
            self._send(204, {"x-amz-delete-marker": "true", **_version_header(bucket, marker)} if marker else {})
        else:
            raise Refused(501, "NotImplemented", "The test origin does not have this operation.")
        return True

    def _get(self, request: Request, bucket: Bucket, given: Given | None) -> bool:
        wanted = request.query.get("versionId")
        found = bucket.get(request.key, wanted)
        if found is None and wanted is not None:
            raise Refused(404, "NoSuchVersion", "The specified version does not exist.")
        if found is None or found.deleted:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        match = request.headers.get("if-match")
        if match is not None and match != "*" and found.etag.strip('"') not in [m.strip(' "') for m in match.split(",")]:
            raise Refused(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
        headers = _headers(bucket, found)
        if request.method == "HEAD":
            self.connection.answer(200, headers | {"Content-Length": str(found.body.size)})
            return True
        if found.storage_class in _ARCHIVED:
            raise Refused(403, "InvalidObjectState", "The operation is not valid for the object's storage class", StorageClass=found.storage_class)
        span = _span(request.headers.get("range"), found.body.size)
        if span is None:
            headers["Content-Length"] = str(found.body.size)
            return self._stream(200, headers, found.body, 0, found.body.size, given)
        start, end = span
        headers |= {"Content-Range": f"bytes {start}-{end - 1}/{found.body.size}", "Content-Length": str(end - start)}
        if given is not None and given.fault is Fault.WHOLE:
            del headers["Content-Range"]
            headers["Content-Length"] = str(found.body.size)
            return self._stream(200, headers, found.body, 0, found.body.size, None)
        return self._stream(206, headers, found.body, start, end - start, given)

    def _stream(self, status: int, headers: dict[str, str], body: Body, offset: int, length: int, given: Given | None, *, count: bool = True) -> bool:
        """Sends head and body, with the fault; False when the connection has to end."""
        connection, faults = self.connection, self.origin.faults
        fault = given.fault if given else None
        if given is not None and fault in (Fault.WRONG_ETAG, Fault.WRONG_RANGE, Fault.WRONG_LENGTH):
            data = _wrong(given, headers, body, offset, length)
            body, offset, length = Body(len(data), data=data), 0, len(data)
        stop = given.cut(length) if given is not None and fault in (Fault.RESET_INSIDE, Fault.TRUNCATED, Fault.STALL) else length
        pace = Pace(faults.cap) if fault is Fault.CAPPED else self.origin.pace if count else None
        before = connection.sent_body
        # Counted first, and corrected when it breaks off: whoever has the bytes finds them counted.
        counted = stop if count else 0
        self.origin.sent(counted)
        try:
            connection.answer(status, headers, more=stop > 0)
            connection.send(body, offset, stop, pace)
        finally:
            self.origin.sent(min(counted, connection.sent_body - before) - counted)
        if fault is Fault.STALL:
            connection.pause(faults.stall)
        if fault in (Fault.RESET_INSIDE, Fault.STALL):
            connection.reset()
        return stop == length and fault not in (Fault.RESET_INSIDE, Fault.TRUNCATED, Fault.STALL)

    def _held(self, name: str) -> Bucket:
        bucket = self.origin.buckets.get(name)
        if bucket is None:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist", BucketName=name)
        return bucket


def _kind(request: Request) -> str:
    if request.method == "HEAD":
        return "head"
    if request.method != "GET":
        return "other"
    if not request.key:
        return "list" if request.query.get("list-type") == "2" or "versions" in request.query else "other"
    return "range" if "range" in request.headers else "get"


def _place(request: Request) -> str:
    """What of the object, or where in a listing."""
    query = request.query
    return request.headers.get("range") or "\0".join(query.get(n, "") for n in ("prefix", "continuation-token", "key-marker"))


def _headers(bucket: Bucket, found: Version) -> dict[str, str]:
    headers = {
        "ETag": found.etag,
        "Last-Modified": formatdate(found.modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "Content-Type": "binary/octet-stream",
        **_version_header(bucket, found),
    }
    if found.content_encoding:
        headers["Content-Encoding"] = found.content_encoding
    if found.storage_class != "STANDARD":
        headers["x-amz-storage-class"] = found.storage_class
    return headers


def _version_header(bucket: Bucket, version: Version) -> dict[str, str]:
    return {"x-amz-version-id": version.version} if bucket.versioning else {}


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end of a Range; None when there is none, or none that counts."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    if start >= size or start >= end:
        raise Refused(416, "InvalidRange", "The requested range is not satisfiable", ActualObjectSize=str(size))
    return start, end


def _wrong(given: Given, headers: dict[str, str], body: Body, offset: int, length: int) -> bytes:
    """Changes the headers, and gives bytes to match: whoever believes them reads wrong bytes."""
    if given.fault is Fault.WRONG_ETAG:
        headers["ETag"] = f'"{"0" * 32}"'
        return body.read(offset, length).translate(_INVERTED)
    if given.fault is Fault.WRONG_LENGTH:
        length += 1 if given.where < 0.5 else -1
        headers["Content-Length"] = str(length)
        return (body.read(offset, length) + b"\0")[:length]
    if given.where < 0.5 and body.size > length:
        offset = offset - 1 if offset > 0 else offset + 1
        length = min(length, body.size - offset)
    else:
        length -= 1 + given.cut(length - 1)
    headers |= {"Content-Range": f"bytes {offset}-{offset + length - 1}/{body.size}", "Content-Length": str(length)}
    return body.read(offset, length)

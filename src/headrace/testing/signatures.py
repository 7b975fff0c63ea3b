"""Checks requests' signatures (AWS Signature Version 4), as S3 does: key, time, region, session token, signature.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from headrace.testing.listing import when
from headrace.testing.wire import Request

_AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^,]+),\s*SignedHeaders=([^,]+),\s*Signature=([0-9a-f]{64})")
_SKEW_MAX = timedelta(minutes=15)


class Refused(Exception):
    """The request is not let in; with the status, S3's code, and further elements of the error's XML."""

    def __init__(self, status: int, code: str, message: str, **elements: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.elements = status, code, message, elements


@dataclass
class Key:
    """A secret key, with the session token that must come with it."""

    secret: str
    token: str | None = None
    expired: bool = False


class Signatures:
    """The keys an origin knows. They may be changed while it runs."""

    def __init__(self, keys: dict[str, Key], region: str = "us-east-1") -> None:
        self.keys = keys
        self.region = region
        self.clock = timedelta()  # how far the server's clock is ahead
        self.anonymous = False  # let requests in that have no signature

    def check(self, request: Request) -> None:
        """Raises Refused as S3 would."""
        header = request.headers.get("authorization")
        if header is None:
            if self.anonymous:
                return
            raise Refused(403, "AccessDenied", "Access Denied")
        match = _AUTHORIZATION.fullmatch(header)
        scope = match[1].split("/") if match else []
        if match is None or len(scope) != 5:
            raise Refused(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
        access_key, _, region = scope[:3]
        key = self.keys.get(access_key)
        if key is None:
            raise Refused(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
        self._check_time(request)
        if region != self.region:
            text = f"The authorization header is malformed; the region '{region}' is wrong; expecting '{self.region}'"
            raise Refused(400, "AuthorizationHeaderMalformed", text, Region=self.region)
        if not hmac.compare_digest(match[3], _signature(request, key.secret, "/".join(scope[1:]), match[2])):
            raise Refused(403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided.")
        if key.expired:
            raise Refused(400, "ExpiredToken", "The provided token has expired.")
        if key.token is not None and request.headers.get("x-amz-security-token") != key.token:
            raise Refused(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")

    def _check_time(self, request: Request) -> None:
        now = datetime.now(UTC) + self.clock
        try:
            sent = datetime.strptime(request.headers.get("x-amz-date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise Refused(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from None
        if abs(now - sent) > _SKEW_MAX:
            text = "The difference between the request time and the current time is too large."
            raise Refused(403, "RequestTimeTooSkewed", text, ServerTime=when(now.timestamp()))


def _signature(request: Request, secret: str, scope: str, signed: str) -> str:
    query = sorted(pair.partition("=")[::2] for pair in request.raw_query.split("&") if pair)
    canonical = "\n".join(
        [
            request.method,
            quote(unquote(request.raw_path, errors="surrogateescape"), safe="/~", errors="surrogateescape"),
            "&".join(f"{name}={value}" for name, value in query),
            *(f"{name}:{' '.join(request.headers.get(name, '').split())}" for name in signed.split(";")),
            "",
            signed,
            request.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", request.headers.get("x-amz-date", ""), scope, digest])
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()

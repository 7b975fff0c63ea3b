"""What a server's refusal means for the fields of a volume, in both languages."""

from __future__ import annotations

from headrace.checking.findings import Finding, Text
from headrace.checking.origin import Origin
from headrace.checking.probe import Answer
from headrace.printable import printable

OPEN_THE_WAY = (
    "correct the endpoint, open the way to it (firewall, proxy), or check an internal endpoint from a region that reaches it (check_region)",
    "请更正接入点，打通到该地址的网络（防火墙、代理），或从可达的地域校验内网接入点（check_region）",
)


def _finding(field: str, code: str, en: str, zh: str, remedy_en: str, remedy_zh: str, level: str = "error") -> Finding:
    return Finding(field, code, Text(en, zh), Text(remedy_en, remedy_zh), level)


def endpoint(code: str, en: str, zh: str, remedy_en: str, remedy_zh: str) -> Finding:
    """Something is wrong on the way to the endpoint."""
    return _finding("endpoint", code, en, zh, remedy_en, remedy_zh)


EMPTY_DIRECTORY = _finding(
    "directory",
    "empty-directory",
    "there is nothing in this directory yet",
    "该目录下暂无内容",
    "check its spelling, or fill it",
    "请检查拼写，或先写入内容",
    "warning",
)
READ_ONLY = _finding(
    "read_only",
    "read-only",
    "writing was not tried: it is registered read-only",
    "以只读方式登记，未校验写权限",
    "nothing needs to be done",
    "无需处理",
    "note",
)
OBJECT_LOCK = _finding(
    "bucket",
    "object-lock",
    "writing was not tried: the bucket has object lock, and what is written there stays",
    "存储桶启用了对象锁定，写入的内容无法删除，未校验写权限",
    "nothing needs to be done",
    "无需处理",
    "note",
)
IF_MATCH_IGNORED = _finding(
    "endpoint",
    "if-match-ignored",
    "the server ignores If-Match",
    "服务器忽略 If-Match",
    "nothing needs to be done: the ETag of each answer is compared",
    "无需处理：每个响应的 ETag 都会校验",
    "note",
)
NOT_S3 = endpoint(
    "not-s3",
    "what answers there is no S3 server",
    "该地址的服务不是 S3 服务",
    "give the S3 endpoint, as the provider's console shows it",
    "请填写服务商控制台所示的 S3 接入点",
)


NO_ETAG = endpoint(
    "no-etag",
    "the server names no ETag of an object",
    "服务器未给出对象的 ETag",
    "give an endpoint that does, or mend the proxy before it: without one, nobody can tell whether an object was replaced",
    "请更换会返回 ETag 的接入点，或修复其前置代理：没有 ETag 便无法判断对象是否被替换",
)
# Of a text that a server sent.
_TOLD_MAX = 100


def _told(text: str | None) -> str:
    return printable(text or "", _TOLD_MAX)


def region_is(told: str, given: str) -> Finding:
    told = _told(told)
    return _finding(
        "region",
        "wrong-region",
        f"the bucket is in {told}, not in {given}",
        f"存储桶位于 {told}，而不是 {given}",
        f"give {told}, and its endpoint",
        f"请填写 {told} 及其接入点",
    )


def of_listing(origin: Origin, answer: Answer) -> Finding:
    """Why the directory could not be listed."""
    code = _told(answer.element("Code"))
    region = answer.element("Region") or answer.headers.get("x-amz-bucket-region")
    if region and region != origin.region and answer.status in (301, 400, 403):
        return region_is(region, origin.region)
    if answer.status in (301, 308):
        there = _told(answer.element("Endpoint") or answer.headers.get("location", "another endpoint"))
        return endpoint(
            "wrong-endpoint", f"the bucket is at {there}", f"存储桶位于 {there}", "give that endpoint and its region", "请填写该接入点及其地域"
        )
    key, secret = origin.provider.key_names
    known = {
        "InvalidAccessKeyId": ("access_key", f"the server knows no such {key}", f"服务器不认识该 {key}"),
        "SignatureDoesNotMatch": (
            "secret_key",
            f"the {secret} does not belong to the {key}",
            f"{secret} 与 {key} 不匹配",
        ),
        "InvalidToken": ("session_token", "the session token is not valid", "会话令牌无效"),
        "ExpiredToken": ("session_token", "the session token has expired", "会话令牌已过期"),
        "SecurityTokenExpired": ("session_token", "the session token has expired", "会话令牌已过期"),
        "NoSuchBucket": ("bucket", f"there is no bucket {origin.bucket}", f"存储桶 {origin.bucket} 不存在"),
        "InvalidBucketName": ("bucket", f"{origin.bucket} is no bucket's name there", f"{origin.bucket} 不是有效的存储桶名称"),
        "RequestTimeTooSkewed": (
            "endpoint",
            "the clock of the machine that checks and the server's differ by minutes",
            "校验所在机器的时钟与服务器相差数分钟",
        ),
    }
    if code in known:
        field, en, zh = known[code]
        return _finding(field, _slug(code), en, zh, *_remedy(field, code))
    if answer.status in (401, 403):
        keys = "anonymous" if origin_is_open(answer) else "access_key"
        return _finding(
            keys,
            "access-denied",
            "these credentials may not list the directory",
            "该凭证无权列出目录",
            "grant s3:ListBucket on it",
            "请授予 s3:ListBucket 权限",
        )
    if answer.status == 404:
        return _finding("bucket", "no-such-bucket", f"there is no bucket {origin.bucket}", f"存储桶 {origin.bucket} 不存在", *_remedy("bucket", code))
    if answer.status >= 500:
        return endpoint(
            "unavailable",
            f"the server answers {answer.status} {code}".rstrip(),
            f"服务器返回 {answer.status} {code}".rstrip(),
            "try again later",
            "请稍后重试",
        )
    return endpoint(
        "not-s3",
        f"the server answers {answer.status} {code}".rstrip(),
        f"服务器返回 {answer.status} {code}".rstrip(),
        NOT_S3.remedy.en,
        NOT_S3.remedy.zh,
    )


def origin_is_open(answer: Answer) -> bool:
    """Whether the server says that it wants keys where none were sent."""
    return (answer.element("Message") or "").lower().startswith("anonymous")


def _slug(code: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in code).lstrip("-")


def _remedy(field: str, code: str) -> tuple[str, str]:
    if code == "RequestTimeTooSkewed":
        return "set the clock, by NTP", "请用 NTP 校准时钟"
    if field == "bucket":
        return "correct the name, or the region it is in", "请更正名称或所在地域"
    return "copy it again from the provider's console", "请从服务商控制台重新复制"


def unreadable(key: str) -> Finding:
    key = _told(key)
    return _finding(
        "access_key",
        "unreadable",
        f"these credentials may not read {key}",
        f"该凭证无权读取 {key}",
        "grant s3:GetObject on it",
        "请授予 s3:GetObject 权限",
    )


def changed_meanwhile(key: str) -> Finding:
    key = _told(key)
    return _finding(
        "directory",
        "changed-meanwhile",
        f"{key} was replaced while it was checked",
        f"校验期间 {key} 被替换",
        "check again when nobody writes there",
        "请在无人写入时重新校验",
    )


def other_etag(key: str) -> Finding:
    key = _told(key)
    return endpoint(
        "other-etag",
        f"{key} comes with another ETag than it is listed with",
        f"{key} 返回的 ETag 与列表中的不一致",
        "mend the proxy before the bucket, or give an endpoint without one",
        "请修复存储桶前的代理，或更换不经代理的接入点",
    )


def no_ranges(status: int) -> Finding:
    return endpoint(
        "no-ranges",
        f"the server does not serve ranges as asked (answer {status})",
        f"服务器不支持范围读取（返回 {status}）",
        "give an endpoint that does, or mend the proxy before it",
        "请更换支持范围读取的接入点，或修复其前置代理",
    )


def unwritable(origin: Origin, answer: Answer) -> Finding:
    code = _told(answer.element("Code"))
    return _finding(
        "read_only",
        "unwritable",
        f"nothing can be written to {origin.bucket}/{origin.directory} ({answer.status} {code})".replace(" )", ")"),
        f"无法写入 {origin.bucket}/{origin.directory}（{answer.status} {code}）".replace(" ）", "）"),
        "grant s3:PutObject and s3:DeleteObject, or register it read-only",
        "请授予 s3:PutObject 与 s3:DeleteObject 权限，或以只读方式登记",
    )


def wrong_read_back(status: int) -> Finding:
    return endpoint(
        "wrong-read-back",
        f"what was written did not come back (answer {status})",
        f"写入的内容未能读回（返回 {status}）",
        "look for a cache or a proxy before the bucket",
        "请检查存储桶前的缓存或代理",
    )


def left_behind(key: str, status: int | None) -> Finding:
    """What a check wrote, or may have written, is not known to be gone; without a status there was no answer."""
    how, how_zh = (f"answer {status}", f"返回 {status}") if status is not None else ("no answer", "无响应")
    return _finding(
        "access_key",
        "left-behind",
        f"{key} could not be removed ({how}), if it was written",
        f"无法删除 {key}（{how_zh}）；它可能已写入",
        "grant s3:DeleteObject and s3:DeleteObjectVersion, and remove it; listings leave it out",
        "请授予 s3:DeleteObject 与 s3:DeleteObjectVersion 权限并手动删除；列表会忽略它",
        "warning",
    )

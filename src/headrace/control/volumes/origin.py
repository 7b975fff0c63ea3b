"""An origin as a person describes it, made whole: preset filled in, endpoint and directory in their one form, contradictions told."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from headrace.control.problems import Finding, Text
from headrace.control.volumes.providers import PROVIDERS, Provider
from headrace.printable import is_unshown, printable

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_DIRECTORY_BYTES_MAX = 900
# A label of a host name: RFC 1123, and the underscore that some have all the same.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_HOST_MAX = 253


@dataclass(frozen=True)
class Credentials:
    """Keys of an origin; none of it is ever shown."""

    access_key: str = field(repr=False, default="")
    secret_key: str = field(repr=False, default="")
    session_token: str = field(repr=False, default="")

    @property
    def anonymous(self) -> bool:
        return not self.access_key


@dataclass(frozen=True)
class Origin:
    """Where the bytes are. `endpoint` has a scheme and no path; `directory` neither begins nor ends with a slash, and is empty for the root."""

    provider: Provider
    region: str
    endpoint: str
    addressing: str
    bucket: str
    directory: str

    @property
    def prefix(self) -> str:
        """What every key of it begins with."""
        return f"{self.directory}/" if self.directory else ""

    @property
    def host(self) -> str:
        """Where requests go: `Host` and the name that is resolved."""
        parts = urlsplit(self.endpoint)
        return f"{self.bucket}.{parts.netloc}" if self.addressing == "virtual" else parts.netloc


def origin_of(
    *, provider: str, region: str, endpoint: str, addressing: str, bucket: str, directory: str, confirm_root: bool
) -> tuple[Origin | None, list[Finding]]:
    """The origin, and what is wrong with the description; without an origin where anything is."""
    preset = PROVIDERS[provider]
    endpoint, wrong = _endpoint(preset, region, endpoint)
    found = list(wrong)
    host = urlsplit(endpoint).hostname or ""
    endpoint, host, wrong = _without_bucket(preset, endpoint, host, bucket)
    found += wrong
    region = region or preset.region_in(host) or ("" if preset.domains else "us-east-1")
    found += _region(preset, region, host)
    if not _BUCKET.fullmatch(bucket):
        found.append(_bad("bucket", "bad-bucket", "{0!r} is no bucket's name", "{0!r} 不是有效的存储桶名称", printable(bucket, 80), *_GIVE_BUCKET))
    directory, wrong = _directory(directory, confirm_root)
    found += wrong
    chosen = _addressing(preset, addressing, host, bucket)
    if chosen == "virtual" and not is_host(f"{bucket}.{host}", lower=True):
        found.append(
            _bad("bucket", "no-host-name", "{0!r} can't stand in a host name", "{0!r} 不能用于主机名", printable(bucket, 80), *_ADDRESS_BY_PATH)
        )
    if any(finding.level == "error" for finding in found):
        return None, found
    return Origin(preset, region, endpoint, chosen, bucket, directory), found


_ADDRESS_BY_PATH = (
    "give its name in lower case, up to 63 letters; or choose path as addressing, where the server takes that",
    "请填写不超过 63 个字符的小写名称；若服务器支持，也可选择 path 寻址方式",
)
_GIVE_BUCKET = ("give the name alone, without s3:// and without a directory", "请只填写名称，不要带 s3:// 或目录")


def _bad(name: str, code: str, en: str, zh: str, value: object, remedy_en: str, remedy_zh: str) -> Finding:
    return Finding(name, code, Text(en.format(value), zh.format(value)), Text(remedy_en, remedy_zh))


def _endpoint(preset: Provider, region: str, given: str) -> tuple[str, list[Finding]]:
    if not given:
        made = preset.endpoint_for(region) if region else None
        if made:
            return made, []
        needs = "region" if preset.endpoint else "endpoint"
        return "", [
            Finding(
                needs,
                f"no-{needs}",
                Text(f"{preset.title} needs {needs} to be given", f"{preset.title_zh} 需要填写 {needs}"),
                Text("give it, as the provider's console shows it", "请按服务商控制台所示填写"),
            )
        ]
    text = given if "://" in given else f"https://{given}"
    # It may hold a password, however the `@` is written.
    shown = "" if "@" in unquote(unicodedata.normalize("NFKC", given)) else given
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "", [_bad_endpoint(shown, "it is not a URL", "不是有效的 URL")]
    if reason := _refused(parts, text):
        return "", [_bad_endpoint(shown, *reason)]
    host = (parts.hostname or "").removesuffix(".")
    bracketed = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{bracketed}{f':{port}' if port else ''}", []


def _refused(parts: SplitResult, text: str) -> tuple[str, str] | None:
    """Why an endpoint is none, in both languages."""
    if parts.scheme not in ("http", "https"):
        return "its scheme is neither https nor http", "协议既不是 https 也不是 http"
    if "@" in parts.netloc:
        return "it holds a user or a password", "其中含有用户名或密码"
    if parts.path not in ("", "/") or parts.query or parts.fragment or "?" in text or "#" in text:
        return "it has a path or a query", "其中含有路径或查询参数"
    host = (parts.hostname or "").removesuffix(".")
    if not host.isascii():
        return "its host has letters beyond ASCII; write it as DNS has it, beginning with xn--", "主机含非 ASCII 字符；请写成以 xn-- 开头的 DNS 形式"
    if "%" in host:
        return "its address names a network interface", "地址中指定了网络接口"
    if not is_host(host):
        return "its host is neither a name nor an address", "主机既不是域名也不是地址"
    return None


def is_host(host: str, *, lower: bool = False) -> bool:
    """Whether this is a host's name, in lower case where that is asked for, or its address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # Digits and dots alone are other ways to write an address (`127.1`, `2130706433`), which the rules would not see as one.
        other = re.fullmatch(r"[0-9.]+|0x[0-9a-fA-F.x]*", host)
        named = len(host) <= _HOST_MAX and all(_LABEL.fullmatch(label) for label in host.split("."))
        return named and not other and (not lower or host == host.lower())
    return "%" not in host


def _without_bucket(preset: Provider, endpoint: str, host: str, bucket: str) -> tuple[str, str, list[Finding]]:
    """The endpoint alone, where it was copied with the bucket before it, as consoles show it. Another bucket than the one meant is told."""
    there = preset.bucket_in(host)
    if not there:
        return endpoint, host, []
    if there != bucket:
        said = printable(there, 80)
        cause = Text(f"the endpoint names the bucket {said}", f"接入点中含有存储桶 {said}")
        return endpoint, host, [Finding("endpoint", "bucket-in-endpoint", cause, Text("leave the bucket out of it", "请去掉其中的存储桶名称"))]
    return endpoint.replace(f"//{there}.", "//", 1), host.removeprefix(f"{there}."), []


def _bad_endpoint(given: str, en: str, zh: str) -> Finding:
    shown = f"{given!r}: " if given else ""
    return Finding(
        "endpoint",
        "bad-endpoint",
        Text(f"{shown}{en}", f"{shown}{zh}"),
        Text("give scheme, host and port only, like https://s3.example.com", "请只填写协议、主机和端口，例如 https://s3.example.com"),
    )


def _region(preset: Provider, region: str, host: str) -> Iterator[Finding]:
    if not region:
        if host:
            yield _bad(
                "region", "no-region", "{0} does not say its region", "{0} 未指明地域", host, "give the bucket's region", "请填写存储桶所在地域"
            )
        return
    example = preset.region_example
    if not preset.is_region(region):
        yield _bad(
            "region", "bad-region", "{0!r} is no region", "{0!r} 不是有效的地域", region, f"give one like {example}", f"请填写如 {example} 的地域"
        )
        return
    there = preset.region_in(host)
    if there is not None and there != region:
        yield Finding(
            "region",
            "region-mismatch",
            Text(f"the endpoint is in {there}, not in {region}", f"接入点位于 {there}，而不是 {region}"),
            Text("make both say the bucket's region, or leave the endpoint empty", "请使两者都与存储桶地域一致，或将接入点留空"),
        )
    if host and not preset.owns(host):
        yield Finding(
            "endpoint",
            "foreign-endpoint",
            Text(f"{host} is not a host of {preset.title}", f"{host} 不是 {preset.title_zh} 的主机"),
            Text("choose S3-compatible as provider for a host of your own", "自有主机请选择“S3 兼容存储”"),
        )


def _directory(given: str, confirm_root: bool) -> tuple[str, list[Finding]]:
    directory = given.strip("/")
    parts = directory.split("/") if directory else []
    too_long = len(given.encode("utf-8", "replace")) > _DIRECTORY_BYTES_MAX
    if too_long or any(part in ("", ".", "..") for part in parts) or any(is_unshown(letter) for letter in given):
        return "", [
            _bad(
                "directory",
                "bad-directory",
                "{0!r} is no directory",
                "{0!r} 不是有效的目录",
                printable(given, 80),
                "write names with one slash between them, without control characters",
                "请用单个斜杠分隔各级名称，且不含控制字符",
            )
        ]
    if not directory and not confirm_root:
        return "", [
            Finding(
                "directory",
                "root-unconfirmed",
                Text(
                    "the whole bucket would be accelerated: everything in it is listed and may be pulled",
                    "将加速整个存储桶：其中所有内容都会被列出并可能被拉取",
                ),
                Text("give a directory, or set confirm_root to mean it", "请填写目录；确有需要时请设置 confirm_root"),
            )
        ]
    return directory, []


def _addressing(preset: Provider, chosen: str, host: str, bucket: str) -> str:
    """How the bucket is named in a request. A host that is an address has no names below it, nor has one of a bucket with dots a certificate."""
    if chosen != "auto":
        return chosen
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "path" if "." in bucket and preset.name == "aws-s3" else preset.addressing
    return "path"

"""An origin as a person describes it, made whole: preset filled in, endpoint and directory in their one form, contradictions told."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

from headrace.control.problems import Finding, Text
from headrace.control.volumes.providers import PROVIDERS, Provider

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_DIRECTORY_BYTES_MAX = 900
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


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
    region = region or preset.region_in(host) or ("" if preset.domain else "us-east-1")
    found += _region(preset, region, host)
    if not _BUCKET.fullmatch(bucket):
        found.append(_bad("bucket", "bad-bucket", "{0!r} is no bucket's name", "{0!r} 不是有效的存储桶名称", bucket, *_GIVE_BUCKET))
    directory, wrong = _directory(directory, confirm_root)
    found += wrong
    chosen = _addressing(preset, addressing, host, bucket)
    if any(finding.level == "error" for finding in found):
        return None, found
    return Origin(preset, region, endpoint, chosen, bucket, directory), found


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
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "", [_bad_endpoint(given, "it is not a URL", "不是有效的 URL")]
    if reason := _refused(parts, text):
        return "", [_bad_endpoint("" if "@" in given else given, *reason)]
    host = (parts.hostname or "").rstrip(".")
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
    host = parts.hostname or ""
    if not _is_host(host):
        return "its host is neither a name nor an address", "主机既不是域名也不是地址"
    return None


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # Digits and dots alone are other ways to write an address (`127.1`, `2130706433`), which the rules would not see as one.
        return bool(_HOST.fullmatch(host)) and len(host) <= 253 and not re.fullmatch(r"[0-9.]+|0x[0-9a-fA-F.x]*", host)
    return True


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
    if any(part in ("", ".", "..") for part in parts) or "\0" in given or len(given.encode("utf-8", "replace")) > _DIRECTORY_BYTES_MAX:
        return "", [
            _bad(
                "directory",
                "bad-directory",
                "{0!r} is no directory",
                "{0!r} 不是有效的目录",
                given[:80],
                "write names with one slash between them",
                "请用单个斜杠分隔各级名称",
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

"""Providers of S3-compatible storage: how their endpoints look, and what they call things.

Endpoint shapes are those of the providers' documentation (see docs/decisions). `domains` are where a redirect may lead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Provider:
    """A preset. `{region}` in an endpoint is filled in."""

    name: str
    title: str
    title_zh: str
    # What its console calls the access key and its secret.
    key_names: tuple[str, str]
    addressing: str  # "virtual" or "path"
    endpoint: str | None = None
    internal: str | None = None
    domains: tuple[str, ...] = ()
    # Regions of a part of the provider that is apart, by how they begin, and what its host names end with.
    apart: tuple[str, str] | None = None
    region_shape: str = r"[a-z0-9-]{2,32}"
    region_example: str = "us-east-1"
    # The region in an endpoint's host name, as the first group.
    in_host: str | None = None
    # A label that may stand before that and is no bucket.
    before_service: str = "s3"

    def endpoint_for(self, region: str) -> str | None:
        if self.endpoint is None:
            return None
        ends = self.apart[1] if self.apart and region.startswith(self.apart[0]) else ""
        return self.endpoint.format(region=region) + ends

    def is_region(self, text: str) -> bool:
        return re.fullmatch(self.region_shape, text) is not None

    def region_in(self, host: str) -> str | None:
        """The region that an endpoint of this provider is in; None where the host name doesn't say."""
        match = re.search(self.in_host, host) if self.in_host else None
        return match[1] if match else None

    def bucket_in(self, host: str) -> str:
        """The bucket that a host name begins with, as consoles show it (`BUCKET.oss-….aliyuncs.com`); empty where there is none."""
        match = re.search(self.in_host, host) if self.in_host else None
        before = host[: match.start()] if match else ""
        return "" if before == self.before_service else before.removesuffix(f".{self.before_service}")

    def owns(self, host: str) -> bool:
        """Whether a host is this provider's, as far as the name says; always true where a provider has no domain."""
        return not self.domains or any(host == domain or host.endswith("." + domain) for domain in self.domains)


ALIYUN = Provider(
    name="aliyun-oss",
    title="Alibaba Cloud OSS",
    title_zh="阿里云 OSS",
    key_names=("AccessKey ID", "AccessKey Secret"),
    addressing="virtual",
    endpoint="https://s3.oss-{region}.aliyuncs.com",
    internal="https://s3.oss-{region}-internal.aliyuncs.com",
    domains=("aliyuncs.com",),
    region_shape=r"[a-z]{2}-[a-z0-9-]{2,28}",
    region_example="cn-hangzhou",
    in_host=r"(?:^|\.)oss-([a-z]{2}-[a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com$",
)
TENCENT = Provider(
    name="tencent-cos",
    title="Tencent Cloud COS",
    title_zh="腾讯云 COS",
    key_names=("SecretId", "SecretKey"),
    addressing="virtual",
    endpoint="https://cos.{region}.myqcloud.com",
    internal="https://cos-internal.{region}.tencentcos.cn",
    domains=("myqcloud.com", "tencentcos.cn"),
    region_shape=r"[a-z]{2}-[a-z0-9-]{2,28}",
    region_example="ap-guangzhou",
    in_host=r"(?:^|\.)cos(?:-internal)?\.([a-z]{2}-[a-z0-9-]+)\.(?:myqcloud\.com|tencentcos\.cn)$",
)
AWS = Provider(
    name="aws-s3",
    title="AWS S3",
    title_zh="AWS S3",
    key_names=("Access key ID", "Secret access key"),
    addressing="virtual",
    endpoint="https://s3.{region}.amazonaws.com",
    domains=("amazonaws.com", "amazonaws.com.cn"),
    apart=("cn-", ".cn"),
    region_shape=r"[a-z]{2}(?:-[a-z]+)+-\d",
    region_example="eu-central-1",
    in_host=r"(?:^|\.)s3[.-](?:dualstack\.)?([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?$",
)
COMPATIBLE = Provider(
    name="s3",
    title="S3-compatible",
    title_zh="S3 兼容存储",
    key_names=("Access key", "Secret key"),
    addressing="path",
)

PROVIDERS = {provider.name: provider for provider in (ALIYUN, TENCENT, AWS, COMPATIBLE)}

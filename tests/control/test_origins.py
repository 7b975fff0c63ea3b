"""Endpoints as people and consoles write them."""

from __future__ import annotations

import pytest

from headrace.control.volumes.origin import Origin, is_host, origin_of


def said(**changes: object) -> tuple[Origin | None, list[str]]:
    """The origin of a description, and the codes of what is wrong with it."""
    whole: dict[str, object] = {
        "provider": "s3",
        "region": "",
        "endpoint": "",
        "addressing": "auto",
        "bucket": "models",
        "directory": "d",
        "confirm_root": False,
    }
    origin, found = origin_of(**(whole | changes))  # type: ignore[arg-type]
    return origin, [finding.code for finding in found]


@pytest.mark.parametrize(
    ("changes", "endpoint", "region"),
    [
        ({"provider": "aliyun-oss", "region": "cn-hangzhou"}, "https://s3.oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        (
            {"provider": "aliyun-oss", "endpoint": "oss-cn-beijing-internal.aliyuncs.com"},
            "https://oss-cn-beijing-internal.aliyuncs.com",
            "cn-beijing",
        ),
        ({"provider": "aliyun-oss", "endpoint": "models.oss-cn-beijing.aliyuncs.com"}, "https://oss-cn-beijing.aliyuncs.com", "cn-beijing"),
        ({"provider": "aliyun-oss", "endpoint": "models.s3.oss-cn-beijing.aliyuncs.com"}, "https://s3.oss-cn-beijing.aliyuncs.com", "cn-beijing"),
        (
            {"provider": "tencent-cos", "endpoint": "cos-internal.ap-guangzhou.tencentcos.cn"},
            "https://cos-internal.ap-guangzhou.tencentcos.cn",
            "ap-guangzhou",
        ),
        ({"provider": "tencent-cos", "endpoint": "models.cos.ap-guangzhou.myqcloud.com"}, "https://cos.ap-guangzhou.myqcloud.com", "ap-guangzhou"),
        ({"provider": "aws-s3", "region": "cn-north-1"}, "https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ({"provider": "aws-s3", "endpoint": "https://s3.cn-north-1.amazonaws.com.cn"}, "https://s3.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        ({"provider": "aws-s3", "region": "eu-central-1"}, "https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ({"provider": "aws-s3", "endpoint": "models.s3.eu-central-1.amazonaws.com"}, "https://s3.eu-central-1.amazonaws.com", "eu-central-1"),
        ({"endpoint": "https://s3.example.com."}, "https://s3.example.com", "us-east-1"),
        # Of somebody's own server the name says nothing.
        ({"endpoint": "https://models.example.com"}, "https://models.example.com", "us-east-1"),
        ({"endpoint": "http://[::1]:9000"}, "http://[::1]:9000", "us-east-1"),
    ],
)
def test_endpoints_are_taken(changes: dict[str, object], endpoint: str, region: str) -> None:
    origin, found = said(**changes)
    assert found == []
    assert origin
    assert (origin.endpoint, origin.region) == (endpoint, region)
    assert not origin.host.startswith("models.models.")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"provider": "aliyun-oss", "endpoint": "other.oss-cn-beijing.aliyuncs.com"}, "bucket-in-endpoint"),
        ({"endpoint": "https://" + "a" * 64 + ".com"}, "bad-endpoint"),
        ({"endpoint": "http://a..b.com"}, "bad-endpoint"),
        ({"endpoint": "http://[::1%é]:9"}, "bad-endpoint"),
        ({"endpoint": "http://[fe80::1%eth0]:9"}, "bad-endpoint"),
        ({"endpoint": "https://例子.中国"}, "bad-endpoint"),
        ({"endpoint": "https://a_-.com"}, "bad-endpoint"),
        ({"endpoint": "https://example.com", "addressing": "virtual", "bucket": "b" * 70}, "no-host-name"),
        ({"endpoint": "https://example.com", "addressing": "virtual", "bucket": "a..b"}, "no-host-name"),
        ({"endpoint": "https://example.com", "addressing": "virtual", "bucket": "Models"}, "no-host-name"),
        ({"endpoint": "http://127.0.0.1", "addressing": "virtual", "bucket": "123"}, "no-host-name"),
        ({"endpoint": "https://example.com", "directory": "\x1b[31mX\nFAKE ROW"}, "bad-directory"),
        ({"endpoint": "https://example.com", "directory": "a\u202eb"}, "bad-directory"),
    ],
)
def test_what_is_none_is_told(changes: dict[str, object], code: str) -> None:
    origin, found = said(**changes)
    assert (origin, found) == (None, [code])


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://key:planted@s3.example.com",
        "https://planted@s3.example.com",
        "key:planted@s3.example.com",
        "//key:planted@s3.example.com",
        "https://s3.example.com@planted",
        "https://key:planted@s3.example.com:99999",  # was repeated with its password
        "https://key:planted@[::1",
        "https://key%3Aplanted%40s3.example.com",
        "https://key:planted\uff20s3.example.com",
    ],
)
def test_an_endpoint_with_a_user_is_refused_and_its_password_not_repeated(endpoint: str) -> None:
    origin, found = origin_of(provider="s3", region="", endpoint=endpoint, addressing="auto", bucket="models", directory="d", confirm_root=False)
    assert origin is None
    assert [finding.code for finding in found] == ["bad-endpoint"]
    assert "planted" not in str(found[0].document())


@pytest.mark.parametrize(
    ("host", "is_one"), [("a.b", True), ("a" * 63, True), ("a" * 64, False), (".".join(["a" * 60] * 5), False), ("", False), ("a.", False)]
)
def test_hosts(host: str, is_one: bool) -> None:
    assert is_host(host) is is_one

"""The test origin behaves as S3 does, seen through botocore."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from headrace.testing.content import content, write_file
from headrace.testing.origin import Origin
from headrace.testing.signatures import Key
from headrace.testing.store import Body

ODD = [
    "a", "a/b", "a/", "a//b", "//", "/lead", "../up", "x/../y", ".", "..", "b c", "b+c", "b%20c", "q?x=1&y", "h#h", "e=é", "中文/模型", "~t", "t\tt",
    "n\nn", "\x01\x1f", "\x7f", "&<>\"'", "l" * 300, "l" * 255 + "/m", "\U0001f600", "\uffee",
]  # fmt: skip


def listed(client: Any, **arguments: Any) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="b", **arguments)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]


def refused(call: Any, **arguments: Any) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


def test_any_key_keeps_its_name_and_bytes(client: Any) -> None:
    for key in ODD:
        client.put_object(Bucket="b", Key=key, Body=key.encode())
    assert listed(client) == sorted(ODD, key=str.encode)
    assert listed(client, PaginationConfig={"PageSize": 3}) == sorted(ODD, key=str.encode)
    for key in ODD:
        assert client.get_object(Bucket="b", Key=key)["Body"].read() == key.encode()
        client.delete_object(Bucket="b", Key=key)
    assert listed(client) == []


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_a_delimiter_groups_keys_once(origin: Origin, client: Any, size: int) -> None:
    for key in ["p/", "p/a", "p/a-b", "p/a/x", "p/a/y", "p/a0", "p/b/1", "p/c", "p2"]:
        origin.bucket("b").put(key, b"")
    keys, groups = [], []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket="b", Prefix="p/", Delimiter="/", PaginationConfig={"PageSize": size}):
        keys += [item["Key"] for item in page.get("Contents", [])]
        groups += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
    assert (keys, groups) == (["p/", "p/a", "p/a-b", "p/a0", "p/c"], ["p/a/", "p/b/"])


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_versions_are_listed_newest_first(client: Any, size: int) -> None:
    client.put_bucket_versioning(Bucket="b", VersioningConfiguration={"Status": "Enabled"})
    assert client.get_bucket_versioning(Bucket="b")["Status"] == "Enabled"
    ids = {key: [client.put_object(Bucket="b", Key=key, Body=f"{key}{i}".encode())["VersionId"] for i in range(3)] for key in ("x", "y/z")}
    marker = client.delete_object(Bucket="b", Key="x")
    assert marker["DeleteMarker"] is True
    found = []
    for page in client.get_paginator("list_object_versions").paginate(Bucket="b", PaginationConfig={"PageSize": size}):
        found += [(v["Key"], v["VersionId"], v["IsLatest"]) for v in page.get("Versions", [])]
        assert all(m["VersionId"] == marker["VersionId"] and m["IsLatest"] for m in page.get("DeleteMarkers", []))
    assert found == [("x", v, False) for v in ids["x"][::-1]] + [("y/z", v, v == ids["y/z"][2]) for v in ids["y/z"][::-1]]
    assert listed(client) == ["y/z"]
    assert refused(client.get_object, Bucket="b", Key="x") == (404, "NoSuchKey")
    assert client.get_object(Bucket="b", Key="x", VersionId=ids["x"][0])["Body"].read() == b"x0"
    client.delete_object(Bucket="b", Key="x", VersionId=marker["VersionId"])
    assert client.get_object(Bucket="b", Key="x")["Body"].read() == b"x2"
    assert refused(client.get_object, Bucket="b", Key="x", VersionId="none") == (404, "NoSuchVersion")


def test_ranges_and_conditions(origin: Origin, client: Any, tmp_path: Path) -> None:
    size = 3 << 20
    write_file(tmp_path / "file", 5, size)
    data = content(5, 0, size)
    origin.bucket("b").put("data", data)
    origin.bucket("b").put("seed", Body(size, seed=5))
    assert origin.bucket("b").put_tree(tmp_path, "tree/") == 1
    for key in ("data", "seed", "tree/file"):
        head = client.head_object(Bucket="b", Key=key)
        assert head["ContentLength"] == size
        for spec, (start, end) in {"0-0": (0, 1), "5-1048577": (5, 1048578), "3145727-": (size - 1, size), "-7": (size - 7, size)}.items():
            answer = client.get_object(Bucket="b", Key=key, Range=f"bytes={spec}", IfMatch=head["ETag"])
            assert (answer["ContentRange"], answer["ETag"]) == (f"bytes {start}-{end - 1}/{size}", head["ETag"])
            assert answer["Body"].read() == data[start:end]
        assert client.get_object(Bucket="b", Key=key, Range="bytes=9-99999999")["Body"].read() == data[9:]
        assert client.get_object(Bucket="b", Key=key)["Body"].read() == data
    assert refused(client.get_object, Bucket="b", Key="data", Range=f"bytes={size}-") == (416, "InvalidRange")
    assert refused(client.get_object, Bucket="b", Key="data", IfMatch='"other"') == (412, "PreconditionFailed")
    assert origin.counters.body_bytes == 3 * (1 + 1048573 + 1 + 7 + size - 9 + size)


def test_classes_encodings_and_what_is_not_there(origin: Origin, client: Any) -> None:
    client.put_object(Bucket="b", Key="cold", Body=b"x", StorageClass="GLACIER")
    client.put_object(Bucket="b", Key="zip", Body=b"not really", ContentEncoding="gzip")
    assert client.head_object(Bucket="b", Key="cold")["StorageClass"] == "GLACIER"
    assert [i["StorageClass"] for i in client.list_objects_v2(Bucket="b")["Contents"]] == ["GLACIER", "STANDARD"]
    assert refused(client.get_object, Bucket="b", Key="cold") == (403, "InvalidObjectState")
    assert client.get_object(Bucket="b", Key="zip")["ContentEncoding"] == "gzip"
    assert refused(client.get_object, Bucket="b", Key="none") == (404, "NoSuchKey")
    assert refused(client.list_objects_v2, Bucket="none") == (404, "NoSuchBucket")
    assert refused(client.create_multipart_upload, Bucket="b", Key="x") == (501, "NotImplemented")
    assert refused(client.list_objects_v2, Bucket="b", ContinuationToken="?") == (400, "InvalidArgument")
    client.create_bucket(Bucket="c")
    assert [b["Name"] for b in client.list_buckets()["Buckets"]] == ["b", "c"]


def test_signatures_are_checked_as_s3_does(origin: Origin, client: Any) -> None:
    signatures = origin.check_signatures()
    key = "a b/ü+%/~"
    client.put_object(Bucket="b", Key=key, Body=b"signed")
    assert client.get_object(Bucket="b", Key=key, Range="bytes=1-2")["Body"].read() == b"ig"
    assert listed(client, Prefix="a b") == [key]
    get = {"Bucket": "b", "Key": key}
    for change, answer in {
        "secret": (403, "SignatureDoesNotMatch"),
        "token": (400, "InvalidToken"),
        "expired": (400, "ExpiredToken"),
    }.items():
        signatures.keys["headrace"] = Key(**{"secret": "headrace-secret", change: "other"})
        assert refused(client.get_object, **get) == answer
    signatures.keys = {}
    assert refused(client.get_object, **get) == (403, "InvalidAccessKeyId")
    signatures.keys["headrace"] = Key("headrace-secret")
    signatures.region = "eu-west-1"
    # botocore finds the right region in the refusal and asks again.
    assert client.get_object(**get)["Body"].read() == b"signed"

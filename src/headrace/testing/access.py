"""How to reach a server of the tests: an endpoint with a key, as an environment or as a client."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A session makes one client at a time.
_SESSION_LOCK = threading.Lock()


@functools.cache
def _session() -> Any:
    """Has read the description of S3, which takes a session fifty milliseconds; of clients nothing else is shared."""
    import botocore.session

    return botocore.session.Session()


@dataclass(frozen=True)
class Access:
    """Endpoint and credentials of an S3 server."""

    endpoint: str
    access_key: str = "headrace"
    secret_key: str = "headrace-secret"
    region: str = "us-east-1"

    def environment(self) -> dict[str, str]:
        """The variables with which AWS tools, and Headrace, reach the server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def client(self, *, retries: int = 3, timeout: float = 60.0) -> Any:
        """A botocore client that no setting of the surrounding environment changes."""
        import botocore.config

        with _SESSION_LOCK:
            return _session().create_client(
                "s3",
                region_name=self.region,
                endpoint_url=self.endpoint,
                aws_access_key_id=self.access_key,
                aws_secret_access_key=self.secret_key,
                config=botocore.config.Config(
                    s3={"addressing_style": "path"},
                    retries={"total_max_attempts": retries},
                    connect_timeout=timeout,
                    read_timeout=timeout,
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                ),
            )

    def create_bucket(self, bucket: str, *, versioned: bool = False) -> None:
        """Makes a bucket."""
        client = self.client()
        client.create_bucket(Bucket=bucket)
        if versioned:
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def put(self, bucket: str, key: str, body: bytes | Path) -> str:
        """Uploads one object, a file without reading it whole; returns its ETag with its quotes."""
        client = self.client()
        if isinstance(body, bytes):
            return str(client.put_object(Bucket=bucket, Key=key, Body=body)["ETag"])
        with body.open("rb") as file:
            return str(client.put_object(Bucket=bucket, Key=key, Body=file)["ETag"])

    def put_tree(self, bucket: str, prefix: str, root: Path) -> list[str]:
        """Uploads the files below `root` under `prefix`; returns their keys."""
        keys = []
        for path in sorted(p for p in root.rglob("*") if p.is_file()):
            keys.append(prefix + path.relative_to(root).as_posix())
            self.put(bucket, keys[-1], path)
        return keys

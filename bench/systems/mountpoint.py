"""mountpoint-s3, where it is found on the PATH, with its cache on the disk and names that never expire."""

from __future__ import annotations

from bench.systems.foreground import Foreground


class Mountpoint(Foreground):
    name = "mountpoint-s3"
    program = "mount-s3"

    def command(self, bucket: str, prefix: str) -> list[str]:
        return [
            self.path(),
            bucket,
            str(self.directory),
            "--foreground",
            "--read-only",
            f"--prefix={prefix}/",
            f"--endpoint-url={self.route.access.endpoint}",
            f"--region={self.route.access.region}",
            "--force-path-style",
            f"--cache={self.cache}",
            "--metadata-ttl=indefinite",
        ]

"""s3fs with its cache of files, the kernel's pages kept, and names remembered for an hour.

It mounts the whole bucket: a prefix it mounts only where somebody made an object for the directory.
"""

from __future__ import annotations

from pathlib import Path

from bench.systems.foreground import Foreground


class S3fs(Foreground):
    name = "s3fs"
    program = "s3fs"

    def below(self, prefix: str) -> Path:
        return self.directory / prefix

    def command(self, bucket: str, prefix: str) -> list[str]:
        del prefix
        access = self.route.access
        passwords = self.base / "passwords"
        passwords.write_text(f"{access.access_key}:{access.secret_key}")
        passwords.chmod(0o600)
        options = [
            "ro",
            f"url={access.endpoint}",
            f"endpoint={access.region}",
            "use_path_request_style",
            "sigv4",
            f"passwd_file={passwords}",
            f"use_cache={self.cache}",
            "parallel_count=16",
            "multireq_max=64",
            "max_stat_cache_size=200000",
            "stat_cache_expire=3600",
            "enable_noobj_cache",
            "complement_stat",
            "kernel_cache",
        ]
        return [self.path(), bucket, str(self.directory), "-f", "-o", ",".join(options)]

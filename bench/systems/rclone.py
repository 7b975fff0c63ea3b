"""rclone mount with its full cache, eight streams a file, larger reads, and names remembered for an hour."""

from __future__ import annotations

from bench.systems.foreground import Foreground


class Rclone(Foreground):
    name = "rclone"
    program = "rclone"
    version_argument = "version"

    def environment(self) -> dict[str, str]:
        access = self.route.access
        return {
            "RCLONE_S3_PROVIDER": "Other",
            "RCLONE_S3_ENDPOINT": access.endpoint,
            "RCLONE_S3_REGION": access.region,
            "RCLONE_S3_ACCESS_KEY_ID": access.access_key,
            "RCLONE_S3_SECRET_ACCESS_KEY": access.secret_key,
            "RCLONE_S3_FORCE_PATH_STYLE": "true",
            "RCLONE_CONFIG": str(self.base / "rclone.conf"),
        }

    def command(self, bucket: str, prefix: str) -> list[str]:
        return [
            self.path(),
            "mount",
            f":s3:{bucket}/{prefix}",
            str(self.directory),
            "--read-only",
            "--vfs-cache-mode=full",
            f"--cache-dir={self.cache}",
            "--vfs-cache-max-size=16G",
            "--vfs-read-chunk-size=8M",
            "--vfs-read-chunk-streams=8",
            "--vfs-read-ahead=128M",
            "--vfs-fast-fingerprint",
            "--max-read-ahead=1M",
            "--buffer-size=16M",
            "--dir-cache-time=1h",
            "--attr-timeout=1h",
            "--poll-interval=0",
            "--no-modtime",
            "--no-checksum",
        ]

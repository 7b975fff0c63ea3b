"""geesefs, where it is found on the PATH: its defaults, which are made for throughput, and memory for a whole file."""

from __future__ import annotations

from bench.systems.foreground import Foreground


class Geesefs(Foreground):
    name = "geesefs"
    program = "geesefs"

    def command(self, bucket: str, prefix: str) -> list[str]:
        return [
            self.path(),
            "-f",
            "-o",
            "ro",
            f"--endpoint={self.route.access.endpoint}",
            f"--region={self.route.access.region}",
            "--memory-limit=4096",
            "--stat-cache-ttl=1h",
            f"{bucket}:{prefix}",
            str(self.directory),
        ]

"""JuiceFS with its metadata in SQLite on the local disk, which is as near as they can be.

It stores files in a form of its own, so the tree is copied into a volume first (`juicefs sync` from the native files, once
a run and untimed), in a bucket of its own on the same server. Reads are from the blocks of that bucket.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from bench.seats import Route
from bench.systems.foreground import Foreground

BUCKET = "juicefs"


class Volume:
    """What JuiceFS has instead of the bucket; made when first needed, and shared by its mounts."""

    def __init__(self, base: Path, route: Route, native: Path) -> None:
        self.metadata = base / "metadata.db"
        self._base = base
        self._route = route
        self._native = native
        self._copied: set[str] = set()

    def bring(self, prefix: str) -> None:
        """The native files below the prefix are in the volume afterwards."""
        if prefix in self._copied:
            return
        if not self._base.exists():
            self._format()
        source, target = f"{self._native / prefix}/", f"jfs://VOLUME/{prefix}/"
        self._run("sync", "--threads=16", "--no-https", "--quiet", source, target, VOLUME=f"sqlite3://{self.metadata}")
        self._copied.add(prefix)

    def _format(self) -> None:
        self._base.mkdir(parents=True)
        access = self._route.access
        access.create_bucket(BUCKET)
        keys = [f"--access-key={access.access_key}", f"--secret-key={access.secret_key}"]
        where = ["--storage=s3", f"--bucket={access.endpoint}/{BUCKET}", "--trash-days=0"]
        self._run("format", *where, *keys, f"sqlite3://{self.metadata}", "bench")

    def _run(self, *arguments: str, **environment: str) -> None:
        command = [JuiceFS.path(), *arguments]
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"juicefs {arguments[0]}: {done.stderr[-2000:]}")


class JuiceFS(Foreground):
    name = "JuiceFS"
    program = "juicefs"
    version_argument = "version"

    def __init__(self, base: Path, route: Route, volume: Volume) -> None:
        super().__init__(base, route)
        self._volume = volume

    def mount(self, source: str) -> Path:
        self._volume.bring(source.removeprefix("s3://").partition("/")[2])
        return super().mount(source)

    def command(self, bucket: str, prefix: str) -> list[str]:
        del bucket
        return [
            self.path(),
            "mount",
            f"sqlite3://{self._volume.metadata}",
            str(self.directory),
            f"--bucket={self.route.access.endpoint}/{BUCKET}",
            f"--subdir=/{prefix}",
            f"--cache-dir={self.cache}",
            "--cache-size=16384",
            "--free-space-ratio=0.02",
            "--buffer-size=1024",
            "--max-readahead=256",
            "--prefetch=4",
            "--open-cache=3600",
            "--attr-cache=3600",
            "--entry-cache=3600",
            "--dir-entry-cache=3600",
            "--hide-internal",  # or a walk finds a file that never ends
            "--read-only",
            "--no-bgjob",
            "--no-usage-report",
            "--no-syslog",
        ]

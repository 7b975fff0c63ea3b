"""Clients that read an object without a mount: s5cmd to /dev/null, Run:ai Model Streamer and obstore into memory.

The latter two are Python: a program here runs in the environment that has their packages, and prints the seconds from the
first request to the last byte. s5cmd is timed from its start to its end, which adds a few hundredths of a second.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from bench import packages
from bench.seats import Route

_HERE = Path(__file__).parent


class S5cmd:
    """A ceiling beside our own client: what it reads goes to /dev/null."""

    name = "s5cmd"
    configuration = "s5cmd cat --concurrency 8 --part-size 8"

    @staticmethod
    def found() -> str | None:
        program = packages.program("s5cmd")
        return program and "s5cmd " + packages.version(program, "version")

    def read(self, route: Route, bucket: str, key: str, size: int) -> float:
        del size
        cat = ["--endpoint-url", route.access.endpoint, *self.configuration.split()[1:], f"s3://{bucket}/{key}"]
        began = time.monotonic()
        subprocess.run(
            route.seat.command([packages.program("s5cmd") or "s5cmd", *cat]),
            env=os.environ | route.access.environment(),
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.monotonic() - began


class Script:
    """A client in Python: `program` is a file beside this one, run as `program BUCKET KEY SIZE`."""

    name = ""
    package = ""
    program = ""
    settings: tuple[tuple[str, str], ...] = ()
    configuration = ""

    @classmethod
    def found(cls) -> str | None:
        return packages.python() and packages.python_version(cls.package)

    def read(self, route: Route, bucket: str, key: str, size: int) -> float:
        done = subprocess.run(
            route.seat.command([packages.python() or "python3", str(_HERE / self.program), bucket, key, str(size)]),
            env=os.environ | route.access.environment() | dict(self.settings),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{self.name} ended with {done.returncode}: {done.stderr[-2000:]}")
        return float(done.stdout.splitlines()[-1])


class RunAi(Script):
    name = "Run:ai"
    package = "runai-model-streamer"
    program = "read_runai.py"
    settings = (
        ("RUNAI_STREAMER_CONCURRENCY", "16"),
        ("RUNAI_STREAMER_CHUNK_BYTESIZE", str(16 << 20)),
        ("RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING", "0"),
        ("RUNAI_STREAMER_LOG_LEVEL", "ERROR"),
    )
    configuration = "FileStreamer, ranges of 8 MiB, " + " ".join("=".join(each) for each in settings)


class Obstore(Script):
    name = "obstore"
    package = "obstore"
    program = "read_obstore.py"
    configuration = "S3Store, get_range_async of 8 MiB, 8 in flight"

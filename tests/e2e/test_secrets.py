"""Secrets show nowhere: not in logs, errors, status, process lists or files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headrace.testing.access import Access
from headrace.testing.origin import failing_origin
from support.headrace import Headrace

SECRET = "Sesame-OpenSesame-7Kq"
TOKEN = "Token-Of-A-Session-9Zx"
SECRETS = (SECRET.encode(), TOKEN.encode())


def places(headrace: Headrace) -> dict[str, bytes]:
    """Everything that others, or a later reader, could look at."""
    status = headrace.status()["node"]
    found: dict[str, bytes] = {"status": headrace.run("status", "--json").stdout.encode(), "metrics": headrace.run("metrics").stdout.encode()}
    for pid in (status["pid"], status["keeper_pid"]):
        for name in ("cmdline", "environ"):
            found[f"{pid}/{name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
    for root in (headrace.base / "cache", headrace.base / "run"):
        for path in root.rglob("*"):
            if path.is_file():
                found[str(path)] = path.read_bytes()
    return found


def test_secrets_show_nowhere(headrace: Headrace) -> None:
    with failing_origin("models", seed=1, rate=0.0) as origin:
        own = Access(origin.access.endpoint, "key-id", SECRET)
        origin.bucket("models").put("m/a", b"x" * 100_000)
        origin.bucket("models").put("m/b", b"y" * 100_000)
        headrace.environment |= {**own.environment(), "AWS_SESSION_TOKEN": TOKEN}
        directory = headrace.mount("s3://models/m")
        assert (directory / "a").read_bytes() == b"x" * 100_000
        # Errors of every kind that has credentials at hand.
        origin.bucket("models").delete("m/b")
        with pytest.raises(OSError, match=r"Stale|Input/output"):
            (directory / "b").read_bytes()
        outputs = [headrace.run("mount", "s3://other/m", str(headrace.base / "no"), check=False)]
        headrace.environment["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
        outputs.append(headrace.run("mount", "s3://models/m", str(headrace.base / "no"), check=False))
        outputs.append(headrace.run("doctor", "s3://models/m", check=False))
        outputs.append(headrace.run("credentials", str(directory)))
        for output in outputs:
            assert not any(secret in (output.stdout + output.stderr).encode() for secret in SECRETS)
        for place, content in places(headrace).items():
            assert not any(secret in content for secret in SECRETS), place
        assert os.stat(headrace.base / "run/node.sock").st_mode & 0o777 == 0o600

"""What `headrace doctor SOURCE` finds on the way to the bucket: step by step, each with its remedy.

An engine of its own, with a cache in a temporary directory, makes the requests: exactly the code a mount uses.
"""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headrace._engine import Engine, EngineError
from headrace.cli.checks import Finding
from headrace.cli.show import size
from headrace.errors import CredentialFailure, HeadraceError
from headrace.node import resolver
from headrace.node.listing import spoken
from headrace.node.volumes import parse_uri

_CACHE_BYTES = 64 << 20
_MEMORY_BYTES = 64 << 20
_CONNECT_SECONDS = 5.0
_READ_BYTES = 65_536
_NAME = "doctor"


def origin(source: str, options: dict[str, Any]) -> list[Finding]:
    """Credentials, connection, clock, list and ranged read; stops at the first failure."""
    bucket, prefix = parse_uri(source)
    try:
        resolved = resolver.resolve(resolver.captured(dict(os.environ)), options)
    except HeadraceError as error:
        return [_failed("credentials" if isinstance(error, CredentialFailure) else "endpoint", error.message)]
    findings = [_configuration(resolved), _connection(resolved)]
    if findings[-1].state != "failed":
        findings += _requests(bucket, prefix, resolved)
    return findings


def _failed(what: str, message: str) -> Finding:
    """From a message that names the field, the cause and the remedy in this order."""
    cause, _, remedy = message.rpartition("; ")
    return Finding(what, "failed", cause or message, remedy if cause else "see `headrace logs`")


def _configuration(resolved: dict[str, Any]) -> Finding:
    who = "anonymous" if resolved["anonymous"] else "with credentials"
    text = f"{resolved['endpoint']}, {resolved['region']}, {resolved['addressing']} style, {who}"
    left = (resolved["expires"] or float("inf")) - time.time()
    if left < 86_400:
        return Finding("configuration", "warning", f"{text} that expire in {max(0, left) / 3600:.1f} h", "renew them in time")
    return Finding("configuration", "ok", text)


def _connection(resolved: dict[str, Any]) -> Finding:
    """A TCP connection to the endpoint, or to the proxy before it."""
    parts = urlsplit(resolved["proxy"] or resolved["endpoint"])
    port = parts.port or (443 if parts.scheme == "https" else 80)
    what = "proxy" if resolved["proxy"] else "endpoint"
    began = time.monotonic()
    try:
        socket.create_connection((parts.hostname or "", port), _CONNECT_SECONDS).close()
    except OSError as error:
        return Finding(what, "failed", f"{parts.hostname}:{port}: {error}", "check AWS_ENDPOINT_URL, the network, HTTPS_PROXY and NO_PROXY")
    return Finding(what, "ok", f"{parts.hostname}:{port} answers in {1000 * (time.monotonic() - began):.1f} ms")


def _requests(bucket: str, prefix: str, resolved: dict[str, Any]) -> list[Finding]:
    """A listing, and a ranged read of the first file in it. The server's answers tell about the clock, too."""
    with tempfile.TemporaryDirectory(prefix="headrace-doctor-") as directory:
        engine = Engine(
            cache_directories=[(directory, _CACHE_BYTES)], reserve_bytes=0, memory_bytes=_MEMORY_BYTES, max_age_seconds=None,
            lock_fds=[], boot_id=Path("/proc/sys/kernel/random/boot_id").read_text().strip(), log_file=os.devnull,
        )  # fmt: skip
        try:
            engine.add_origin(
                _NAME, bucket=bucket, source_addresses=[], max_connections=4,
                **{name: resolved[name] for name in ("endpoint", "region", "addressing", "anonymous", "ca_bundle", "proxy")},
            )  # fmt: skip
            if resolved["access_key"]:
                engine.set_credentials(_NAME, resolved["access_key"], resolved["secret_key"], resolved["session_token"])
            return _read(engine, prefix, str(Path(directory) / "doctor.snap"))
        except EngineError as error:
            return [_failed("clock" if error.code == "clock-skew" else "requests", str(spoken(error, resolved["endpoint"])))]
        finally:
            engine.shutdown()


def _read(engine: Engine, prefix: str, snapshot: str) -> list[Finding]:
    began = time.monotonic()
    facts = engine.list(_NAME, prefix, snapshot, 4, lambda _files, _bytes: True)
    took = time.monotonic() - began
    found = [Finding("clock", "ok", "the server accepts this machine's time")]
    if facts["files"] == 0:
        return [*found, Finding("list", "warning", f"nothing lies under {prefix or 'the bucket'}", "check the prefix; keys are case-sensitive")]
    found.append(Finding("list", "ok", f"{facts['files']:,} files, {size(facts['bytes'])} in {took:.1f} s"))
    for path in engine.snapshot_paths(snapshot):
        about = engine.snapshot_stat(snapshot, path)
        if about and about["size"] and not about["archived"]:
            began = time.monotonic()
            length = min(_READ_BYTES, about["size"])
            got = len(engine.get(_NAME, prefix + path, about["etag"], about["size"], 0, length))
            took = time.monotonic() - began
            return [*found, Finding("ranged read", "ok", f"{got:,} bytes of {path} in {1000 * took:.0f} ms, pinned to its version")]
    return [*found, Finding("ranged read", "warning", "every object is empty or archived, so none was read", "restore an object to try it")]

"""The acceleration service, end to end: register a bucket, accelerate it, mount it in a task, refresh, roll back, release.

Control plane, node and task are what a user starts with the `headrace` command, on this machine and on free ports.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.models import Model
from demo.user import COMMAND, User
from headrace.testing.seaweed import Seaweed
from headrace.testing.waiting import wait_until

_REGION = "zj-1"
_START_SECONDS = 60.0
_END_SECONDS = 20.0
_NEW, _TEXT = "NEW.txt", b"a file that came later\n"
# Reads everything below its first argument and tells how many bytes there were, and the names at the top.
_READ = """
import json, os, sys
paths = [os.path.join(directory, name) for directory, _, names in os.walk(sys.argv[1]) for name in names]
print(json.dumps({"bytes": sum(len(open(path, "rb").read()) for path in paths), "names": sorted(os.listdir(sys.argv[1]))}))
"""


def walk(someone: User, access: Seaweed, bucket: str, model: Model) -> None:
    """The whole way, each command printed with what it says. RuntimeError where something is not as it should be."""
    with _control_plane(someone) as url:
        _say(someone, "login", url)
        _say(someone, "region", "add", _REGION, "--title-zh", "浙江一区")
        _join(someone, url)
        try:
            _accelerate(someone, access, bucket, model)
            _renew(someone, access, bucket, model)
            _say(someone, "release", model.prefix, "--region", _REGION)
            _expect("bytes held after the release", _shown(someone)["bytes_held"], 0)
        finally:
            someone.headrace("node", "leave", check=False)


@contextlib.contextmanager
def _control_plane(someone: User) -> Iterator[str]:
    """`headrace up` until the end; its address. The token that it prints is put where `login` looks for it."""
    someone.environment |= {
        "HEADRACE_CONTROL_STATE": str(someone.home / "control"),
        "HEADRACE_CONTROL_ORIGINS_ALLOW": "127.0.0.0/8",
        # Where tasks may mount; a node's administrator says so.
        "HEADRACE_TASK_PATHS": str(someone.home),
        "XDG_CONFIG_HOME": str(someone.home / "config"),
    }
    log = someone.home / "control.log"
    with log.open("wb") as errors:
        process = subprocess.Popen([COMMAND, "up", "--listen", "127.0.0.1:0"], env=someone.environment, stdout=errors, stderr=errors)
    try:
        found = wait_until(lambda: _told(log, process), "the control plane", timeout=_START_SECONDS)
        assert found is not None
        url, someone.environment["HEADRACE_TOKEN"] = found
        print(f"\n$ headrace up &\ncontrol plane: {url}", flush=True)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(_END_SECONDS)


def _told(log: Path, process: subprocess.Popen[bytes]) -> tuple[str, str] | None:
    text = log.read_text(errors="replace")
    if process.poll() is not None:
        raise RuntimeError(f"headrace up ended with {process.returncode}:\n{text[-2000:]}")
    url, token = re.search(r"control plane: (\S+)", text), re.search(r"works once: (\S+)", text)
    return (url[1], token[1]) if url and token else None


def _join(someone: User, url: str) -> None:
    """The one-time token was spent by the login; what it kept is used from here on."""
    del someone.environment["HEADRACE_TOKEN"]
    someone.environment["HEADRACE_JOIN_TOKEN"] = json.loads(someone.headrace("region", "join", _REGION, "--json"))["token"]
    _say(someone, "node", "join", url, "--name", "demo")
    del someone.environment["HEADRACE_JOIN_TOKEN"]


def _accelerate(someone: User, access: Seaweed, bucket: str, model: Model) -> None:
    origin = ("--endpoint", access.endpoint, "--addressing", "path", "--bucket", bucket, "--directory", model.prefix)
    _say(someone, "volume", "add", model.prefix, *origin)
    _say(someone, "accelerate", model.prefix, "--region", _REGION, "--wait")
    before = access.sent_bytes(bucket)
    found = _task(someone, model, model.prefix)
    _expect("bytes that the task read", found["bytes"], sum((model.root / path).stat().st_size for path in model.files()))
    _expect("bytes from the bucket meanwhile", access.sent_bytes(bucket) - before, 0)


def _renew(someone: User, access: Seaweed, bucket: str, model: Model) -> None:
    access.put(bucket, f"{model.prefix}/{_NEW}", _TEXT)
    _expect(f"{_NEW} before the refresh", _NEW in _task(someone, model, model.prefix)["names"], wanted=False)
    _say(someone, "refresh", model.prefix, "--region", _REGION, "--dry-run")
    _say(someone, "refresh", model.prefix, "--region", _REGION, "--wait")
    _expect(f"{_NEW} after the refresh", _NEW in _task(someone, model, model.prefix)["names"], wanted=True)
    _say(someone, "rollback", model.prefix, "v1", "--region", _REGION)
    _expect(f"{_NEW} after the roll-back", _NEW in _task(someone, model, model.prefix)["names"], wanted=False)
    _expect(f"{_NEW} in v2, by name", _NEW in _task(someone, model, f"{model.prefix}@v2")["names"], wanted=True)
    _say(someone, "versions", model.prefix, "--region", _REGION)


def _task(someone: User, model: Model, volume: str) -> dict[str, Any]:
    """Runs a program in a task; what it found where the volume is mounted."""
    path = someone.home / "models"
    command = ("task", "run", "--region", _REGION, "--mount", f"{volume}:{path}")
    found: dict[str, Any] = json.loads(someone.headrace(*command, "--", sys.executable, "-c", _READ, str(path)))
    print(f"$ headrace {' '.join(command)} -- python read.py\n{found['bytes']:,} bytes, {len(found['names'])} names at the top", flush=True)
    if path.exists() and any(path.iterdir()):
        raise RuntimeError(f"{model.title}: outside of the task something is mounted at {path}")
    return found


def _shown(someone: User) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(someone.headrace("accelerations", "--json"))[0]
    return shown


def _say(someone: User, *arguments: str) -> None:
    print(f"$ headrace {' '.join(arguments)}\n{someone.headrace(*arguments)}", flush=True)


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise RuntimeError(f"{what}: {found}, not {wanted}")
    print(f"  ✓ {what}: {found}", flush=True)
